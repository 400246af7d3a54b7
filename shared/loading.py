"""A finished run, ready to predict: `shared.load_run("outputs/battery/latest")`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from shared.base_module import BaseModule
from shared.checkpoint_io import load_checkpoint
from shared.config import Settings
from shared.errors import CheckpointError
from shared.final import FinalCalibrator, final_calibrator, final_sha256, final_state
from shared.instantiate import instantiate, resolve_target
from shared.resume import saved_settings
from shared.run_dir import RunDirectory


@dataclass(frozen=True)
class LoadedRun:
    """The final network of a run.

    Attributes:
        run: Its directory.
        settings: The configuration it was trained with.
        module: The module with the final weights, in evaluation mode, on the CPU.
        calibrator: Fitted behind those weights, None where the run fitted none.
        report: Content of report.json, or None where the run wrote none.
    """

    run: RunDirectory
    settings: Settings
    module: BaseModule
    calibrator: FinalCalibrator | None
    report: dict[str, Any] | None

    @torch.inference_mode()
    def predict(self, batch: dict[str, Tensor]) -> Tensor:
        """Calibrated probabilities of one batch, or the curves that the network predicts.

        Args:
            batch: As the project's dataset collates it; `target` and `sample_index` may be absent. Without `domain` the
                temperature is that of all domains together.

        Returns:
            (B, K) float32, rows sum to 1; of a network that predicts curves (B, *output_shape) float32.
        """
        size = len(next(iter(batch.values())))
        is_curves = self.module.curve_axes() is not None
        target = (
            torch.zeros(size, *self.module.hparams["output_shape"])
            if is_curves
            else torch.zeros(size, dtype=torch.int64)
        )
        filled = {"target": target, "sample_index": torch.arange(size)} | batch
        if is_curves:
            curves: Tensor = self.module.predict_step(filled, 0)["prediction"].float()
            return curves
        logits: Tensor = self.module.predict_step(filled, 0)["logits"].float()
        if self.calibrator is not None:
            logits = self.calibrator.module(logits, batch.get("domain"))
        return logits.softmax(dim=1)

    def predict_loader(self, loader: DataLoader[Any]) -> Tensor:
        """`predict` of all batches of a loader in their order, (N, ...) float32."""
        return torch.cat([self.predict(batch) for batch in loader])


def load_run(path: str | Path) -> LoadedRun:
    """Load the final network of a run.

    Args:
        path: Run directory, or a link to it such as outputs/<project>/latest.

    Raises:
        ConfigError: If the folder is not a run directory.
        CheckpointError: If the run's fit or test is not complete, or the weights are not those the report is about.
    """
    run = RunDirectory.open(Path(path).resolve())
    settings = saved_settings(run)
    _refuse_unfinished(run, settings)
    hyper_parameters = load_checkpoint(run.checkpoints / "best.ckpt")["hyper_parameters"]
    state, calibrator = final_state(run), final_calibrator(run)
    module = _module(settings, hyper_parameters)
    try:
        module.load_weights(state)
    except ValueError as error:
        raise CheckpointError(f"the final weights of {run.path} do not fit the code: {error}") from error
    tested = run.done("test")
    if tested is not None and tested["final_sha256"] != final_sha256(state, calibrator):
        raise CheckpointError(
            f"the final weights or the calibrator of {run.path} are not those that were tested; was a file replaced?"
        )
    report_path = run.path / "report.json"
    report = json.loads(report_path.read_text(encoding="utf-8")) if report_path.is_file() else None
    return LoadedRun(run, settings, module.eval(), calibrator, report)


def _refuse_unfinished(run: RunDirectory, settings: Settings) -> None:
    """A run whose final network is not decided yet has none to load."""
    state = run.status()["state"]
    if run.done("fit") is None:
        raise CheckpointError(f"{run.path} has no finished fit (its state is {state}); resume it first")
    missing = [stage for stage in ("crossover", "calibrate") if stage in settings.stages and run.done(stage) is None]
    if missing and state != "done":
        raise CheckpointError(
            f"{run.path} has not reached its final network ({' and '.join(missing)} not done, its state is {state}); "
            "resume it first"
        )


def _module(settings: Settings, hyper_parameters: dict[str, Any]) -> BaseModule:
    """The module of the configuration with the sizes that the data gave it, its first weights not loaded again."""
    node = settings.plain["model"]
    overrides = resolve_target(node, "model").loading_overrides
    extra = {key: value for key, value in hyper_parameters.items() if key not in node and key not in overrides}
    module = instantiate(node | overrides, "model", **extra)
    assert isinstance(module, BaseModule)
    return module
