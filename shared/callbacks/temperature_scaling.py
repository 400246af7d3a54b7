"""Chooses and fits a calibrator behind the finished network, on samples kept for nothing else.

When: in the engine as a stage of its own (`run`), in somebody else's Trainer at the end of the fit. It saves
`calibrator.safetensors` and `calibration.json`; it has no state of its own to resume, since it works in one piece.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.atomic import write_json
from shared.calibrators.choose import METHODS, Choice, check_settings, choose_calibrator
from shared.calibrators.effect import measure_effect
from shared.calibrators.store import save_calibrator
from shared.calibrators.variance import VarianceChoice, choose_variance
from shared.callbacks.crossover import ParameterCrossover
from shared.errors import ConfigError, TrainingError
from shared.final import CALIBRATOR_FILE
from shared.loader_overlap import loader_of, other_loaders, refuse_shared_samples
from shared.sample_losses import choose_step, group_of, step_outputs, widen_binary

CALIBRATION_FILE = "calibration.json"
SCHEMA = 1


class TemperatureScaling(Callback):
    """Temperature, temperature per domain, Platt or isotonic, whichever gains on held-out groups; otherwise identity.

    At the end of a fit it calibrates the weights that the module holds then: those of a `ParameterCrossover` that
    stands before it among the callbacks, and without one those of the last step, not those of the best checkpoint. A
    `fast_dev_run` writes nothing.

    Args:
        dirpath: Folder of the two files; None: the trainer's `default_root_dir`.
        methods: Methods to try, see `shared.calibrators.choose.METHODS`.
        folds: Folds of whole groups, for the choice and for before and after.
        per_domain: False leaves out the method with one temperature per domain.
        isotonic_min_per_class: Samples of each class below which isotonic is not tried.
        seed: Of folds and intervals.
        at_fit_end: Calibrate at the end of `trainer.fit`; the engine calls `run` instead.
        calibrate: Loader of the calibrate samples; None: `trainer.datamodule.calibrate_dataloader()`.

    Attributes:
        calibrator: The fitted module, None before the fit and where calibration does not apply.
        choice: What was chosen and why, None before.

    Raises:
        ValueError: If a setting is out of range.
    """

    def __init__(
        self,
        dirpath: str | None = None,
        methods: Sequence[str] = METHODS,
        folds: int = 5,
        per_domain: bool = True,
        isotonic_min_per_class: int = 50,
        seed: int = 0,
        at_fit_end: bool = True,
        calibrate: Any = None,
    ) -> None:
        check_settings(methods, folds, isotonic_min_per_class)
        self.dirpath = dirpath
        self.methods = tuple(name for name in methods if per_domain or name != "domain_temperature")
        self.folds = folds
        self.isotonic_min_per_class = isotonic_min_per_class
        self.seed = seed
        self.at_fit_end = at_fit_end
        self.calibrator: nn.Module | None = None
        self.choice: Choice | VarianceChoice | None = None
        self._loader = calibrate

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse an order in which other weights than the final ones would be calibrated.

        Raises:
            ConfigError: If a crossover at the end of the fit stands behind this callback.
        """
        if stage != "fit" or not self.at_fit_end:
            return
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        places = [
            place for place, other in enumerate(callbacks) if isinstance(other, ParameterCrossover) and other.at_fit_end
        ]
        if any(place > callbacks.index(self) for place in places):
            raise ConfigError(
                "TemperatureScaling stands before ParameterCrossover among the trainer's callbacks, so it would "
                "calibrate weights that the crossover then replaces; put it behind"
            )
        if not places:
            rank_zero_info(
                "TemperatureScaling: no ParameterCrossover among the callbacks, so it calibrates the weights that the "
                "module holds at the end of the fit, not those of the best checkpoint"
            )

    def kept_loader(self, trainer: Trainer) -> tuple[str, Any]:
        """Its samples, for callbacks that may not use them; see `shared.loader_overlap`."""
        return "calibrate", loader_of(trainer, self._loader, "calibrate") if self.at_fit_end else None

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Calibrate the network with the weights it has now.

        Raises:
            ConfigError: If there is no calibrate loader.
            LeakError: If something else was made with its samples.
        """
        if not self.at_fit_end or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        loader = self.kept_loader(trainer)[1]
        if loader is None:
            raise ConfigError(
                "TemperatureScaling has no samples: give it calibrate=<loader>, or the datamodule a "
                "calibrate_dataloader()"
            )
        refuse_shared_samples("calibrate", loader, other_loaders(trainer, self))
        found = _collect(trainer, pl_module, loader)
        folder = Path(self.dirpath or trainer.default_root_dir) if trainer.is_global_zero else None
        if "logits" in found:
            self.run(
                logits=found["logits"], target=_classes(pl_module, found), group=found["group"].numpy(),
                domain=found["domain"].numpy(), domain_names=_numbered(found["domain"]), folder=folder,
            )  # fmt: skip
            assert isinstance(self.choice, Choice)
            for sentence in self.choice.warnings:
                rank_zero_warn(f"TemperatureScaling: {sentence}")
        else:
            self.run_regression(
                found["prediction"], found.get("variance"), found["target"], found["group"].numpy(), folder
            )

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a test on the samples that the calibrator was fitted on.

        Raises:
            LeakError: Naming what is shared.
        """
        loader = self.kept_loader(trainer)[1]
        if self.choice is not None and loader is not None:
            refuse_shared_samples("calibrate", loader, {"test": trainer.test_dataloaders})

    def run(
        self,
        logits: Tensor,
        target: Tensor,
        group: NDArray[np.integer],
        domain: NDArray[np.integer] | None = None,
        domain_names: Sequence[str] = (),
        folder: Path | None = None,
    ) -> Choice:
        """Choose and fit a calibrator and write its two files; equal inputs give equal bytes.

        Args:
            logits: (N, C) of the finished network; of a binary head with one logit (N,) or (N, 1), which stands for
                the two logits (0, z): the calibrator then takes and gives (N, 2), see `shared.sample_losses.widen`,
                and the calibrated logit is its second column less its first.
            target: (N,) class indices; for one logit 0 or 1 in the logits' shape or (N,).
            group: (N,) integer codes of what is independent of one another.
            domain: (N,) codes into `domain_names`, -1 where unknown; None: all unknown.
            domain_names: Names of the domains.
            folder: Where the files go; None: nowhere.

        Raises:
            ValueError: If shapes do not fit.
            DataError: If logits are not finite or are probabilities, or a code is out of range.
            CheckpointError: If the calibrator cannot be written.
        """
        logits, target = widen_binary(logits, target)
        choice = choose_calibrator(
            logits, target, group, domain, domain_names,
            methods=self.methods, folds=self.folds, isotonic_min_per_class=self.isotonic_min_per_class, seed=self.seed,
        )  # fmt: skip
        self.choice, self.calibrator = choice, choice.calibrator
        if folder is not None:
            effect = measure_effect(choice, logits, target, group, seed=self.seed)
            save_calibrator(folder / CALIBRATOR_FILE, choice.calibrator, {"domain_names": list(domain_names)})
            write_json(folder / CALIBRATION_FILE, {"schema": SCHEMA, **choice.as_dict(), **effect})
        return choice

    def run_regression(
        self,
        prediction: Tensor,
        variance: Tensor | None,
        target: Tensor,
        group: NDArray[np.integer],
        folder: Path | None = None,
    ) -> VarianceChoice:
        """Scale the stated variance, or say that calibration does not apply; then there is no calibrator file.

        Args:
            prediction: (N, ...).
            variance: Same shape; None for point predictions.
            target: Same shape.
            group: (N,) integer codes.
            folder: Where the files go; None: nowhere.

        Raises:
            ValueError: If shapes differ.
            DataError: If a value is not finite or a variance not positive.
            CheckpointError: If the calibrator cannot be written.
        """
        choice = choose_variance(prediction, variance, target, group, folds=self.folds, seed=self.seed)
        self.choice, self.calibrator = choice, choice.calibrator
        if folder is not None:
            (folder / CALIBRATOR_FILE).unlink(missing_ok=True)  # one of an earlier fit would belong to other weights
            if choice.calibrator is not None:
                save_calibrator(folder / CALIBRATOR_FILE, choice.calibrator)
            write_json(folder / CALIBRATION_FILE, {"schema": SCHEMA, **choice.as_dict()})
        return choice


def _numbered(domain: Tensor) -> list[str]:
    """Names for the domain codes of a module that has only numbers."""
    return [str(code) for code in range(int(domain.max()) + 1)]


def _classes(module: LightningModule, found: dict[str, Tensor]) -> Tensor:
    """The target as `run` takes it: one-hot rows become classes."""
    logits, target = found["logits"], found["target"]
    if not target.is_floating_point() or target.shape != logits.shape or logits.ndim != 2 or logits.shape[1] < 2:
        return target
    if bool(((target == 0) | (target == 1)).all()) and bool((target.sum(dim=1) == 1).all()):
        return target.argmax(dim=1)
    raise TrainingError(
        f"{type(module).__name__} returns a target {tuple(target.shape)} that is not one-hot: calibration needs one "
        "class for each sample; have the step return classes (B,) for the calibrate samples"
    )


def _collect(trainer: Trainer, module: LightningModule, loader: Any) -> dict[str, Tensor]:
    """Outputs of the network on the loader, on the CPU, concatenated; the module's mode is put back."""
    training = {name: part.training for name, part in module.named_modules()}
    module.eval()
    parts: dict[str, list[Tensor]] = {}
    try:
        with torch.inference_mode(), trainer.precision_plugin.val_step_context():
            step = None
            for number, batch in enumerate(loader):
                on_device = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
                step = step or choose_step(module, on_device)
                outputs = step_outputs(module, on_device, number, step)
                for key, value in _fields(module, batch, outputs).items():
                    parts.setdefault(key, []).append(value.detach().cpu())
    finally:
        for name, part in module.named_modules():
            part.training = training[name]
    if not parts:
        raise TrainingError("the calibrate loader gives no batch: there is nothing to calibrate on")
    merged = {key: torch.cat(values).clone() for key, values in parts.items()}
    # Without groups each sample stands for itself.
    merged.setdefault("group", torch.arange(len(merged["target"])))
    return merged


def _fields(module: LightningModule, batch: Any, outputs: Any) -> dict[str, Tensor]:
    """What one batch contributes."""
    kind = "logits" if "logits" in outputs else "prediction"
    wanted = [kind, "target", *(["variance"] if kind == "prediction" and "variance" in outputs else [])]
    wrong = [key for key in wanted if not isinstance(outputs.get(key), Tensor)]
    if wrong:
        raise TrainingError(
            f"{type(module).__name__} returns no tensor under {' and '.join(wrong)}: one head with a tensor of logits "
            "(B, C) or predictions and a tensor target can be calibrated"
        )
    fields = {key: outputs[key] for key in wanted}
    group = group_of(batch, outputs)
    if group is not None:
        fields["group"] = group
    domain = batch.get("domain") if isinstance(batch, dict) else None
    fields["domain"] = torch.full((len(fields[kind]),), -1) if domain is None else domain
    return fields
