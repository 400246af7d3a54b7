"""Puts a better network together after the fit, tests it, and keeps the best single checkpoint when in doubt."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import RunningStage
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import nn

from shared.callbacks.sweet_spot import SWEET_SPOTS_FILE, SweetSpotCheckpoint
from shared.checkpoint_io import load_checkpoint
from shared.crossover import BestSingle, CrossoverData, CrossoverResult, CrossoverSettings, run_crossover
from shared.errors import CheckpointError, ConfigError
from shared.loader_overlap import loader_of, other_loaders, refuse_shared_samples
from shared.module_groups import ModuleGroups
from shared.snapshots import SnapshotStore


class ParameterCrossover(Callback):
    """Searches, at the end of the fit, a network whose module groups come from the epochs that suit each.

    It needs a `SweetSpotCheckpoint` before it among the callbacks. At the end of the fit the module holds the final
    weights: the child where the acceptance test accepts it, otherwise the best single checkpoint, tensor for tensor.
    That one is the best of a `ModelCheckpoint` with a monitor, or without one (a warning says so) the snapshot with the
    best monitor of the sweet spots. crossover.json, crossover_final.safetensors and candidates/ are written.

    The accept part comes from `accept` or from the datamodule's `accept_dataloader()`; without any, the test is
    cross-fitted on the validation batches. These must come in the same order each time, without shuffling.

    Args:
        dirpath: Folder for the files; None: the trainer's `default_root_dir`.
        accept: Loader of samples that nothing else has used, in groups that neither train nor val has; one that shares
            samples or groups with another loader is refused (`shared.loader_overlap`).
        neighbours: See `CrossoverSettings`, as all that follow.
        max_sweeps: See there.
        blocks: See there.
        min_groups_split: See there.
        batch_norm_batches: See there.
        barrier_points: See there.
        lawa_k: See there.
        cache_mb: See there.
        variant_rows: See there.
        seed: See there.
        at_fit_end: Act at the end of the fit; else whoever runs the fit calls `run`.

    Attributes:
        result: What came of it, None before.

    Raises:
        ValueError: If a setting is out of its range.
    """

    def __init__(
        self, dirpath: str | None = None, accept: Iterable[Any] | None = None, neighbours: Sequence[int] = (2, 4),
        max_sweeps: int = 3, blocks: int = 10, min_groups_split: int = 40, batch_norm_batches: int = 50,
        barrier_points: Sequence[float] = (0.25, 0.5, 0.75), lawa_k: int = 5, cache_mb: float = 2048.0,
        variant_rows: bool = False, seed: int = 0, at_fit_end: bool = True,
    ) -> None:  # fmt: skip
        self.dirpath = None if dirpath is None else Path(dirpath)
        self.accept = accept
        self.at_fit_end = at_fit_end
        self.settings = CrossoverSettings(
            neighbours=tuple(neighbours), max_sweeps=max_sweeps, blocks=blocks, min_groups_split=min_groups_split,
            batch_norm_batches=batch_norm_batches, barrier_points=tuple(barrier_points), lawa_k=lawa_k,
            cache_mb=cache_mb, variant_rows=variant_rows, seed=seed,
        )  # fmt: skip
        self.result: CrossoverResult | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Say before the fit what would be missing after it."""
        if stage != "fit" or not self.at_fit_end:
            return
        _sweet_spot_callback(trainer, self)
        if trainer.world_size > 1:
            raise ConfigError(
                f"ParameterCrossover at the end of the fit runs on one device, and the trainer has "
                f"{trainer.world_size}; set at_fit_end=False and call run() in a process of its own"
            )
        if not _monitored(trainer):
            rank_zero_warn(
                "ParameterCrossover: no ModelCheckpoint with a monitor among the callbacks, so only epochs with a "
                'snapshot compete for best single; add ModelCheckpoint(monitor="val/loss") for every epoch to compete'
            )

    def kept_loader(self, trainer: Trainer) -> tuple[str, Any]:
        """Its samples, for callbacks that may not use them; see `shared.loader_overlap`."""
        return "accept", loader_of(trainer, self.accept, "accept") if self.at_fit_end else None

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Search, test, write, and load the final weights into the module.

        Raises:
            LeakError: If something else was made with the accept samples, before anything is written.
        """
        if not self.at_fit_end or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        accept = self.kept_loader(trainer)[1]
        if accept is not None:
            refuse_shared_samples("accept", accept, other_loaders(trainer, self))
        out = Path(trainer.default_root_dir) if self.dirpath is None else self.dirpath
        sweet_spot = _sweet_spot_callback(trainer, self)
        chosen = sweet_spot.select(out / SWEET_SPOTS_FILE, pl_module).as_dict()
        groups = ModuleGroups.of(pl_module, sweet_spot.groups)
        best = _best_single(trainer, sweet_spot, groups)
        data = _data(trainer, accept)
        with _on_device(trainer, pl_module):
            self.run(
                pl_module, groups, sweet_spot.store, chosen, best, data, out,
                forward_context=trainer.precision_plugin.forward_context,
            )  # fmt: skip
            assert self.result is not None
            pl_module.load_state_dict(self.result.final_state)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a test on the samples that the final weights were accepted on.

        Raises:
            LeakError: Naming what is shared.
        """
        accept = self.kept_loader(trainer)[1]
        if self.result is not None and accept is not None:
            refuse_shared_samples("accept", accept, {"test": trainer.test_dataloaders})

    def run(
        self,
        module: nn.Module,
        groups: ModuleGroups,
        store: SnapshotStore,
        sweet_spots: Mapping[str, Any],
        best: BestSingle,
        data: CrossoverData,
        out: Path,
        say: Callable[[str], None] = rank_zero_info,
        progress: Callable[[str, int, int], None] = lambda what, done, total: None,
        forward_context: Callable[[], AbstractContextManager[Any]] | None = None,
    ) -> CrossoverResult:
        """The whole procedure with these settings; the module keeps its weights. See `run_crossover`."""
        self.result = run_crossover(
            module, groups, store, sweet_spots, best, data, self.settings, out, say, progress, forward_context
        )
        return self.result


def _sweet_spot_callback(trainer: Trainer, own: Callback) -> SweetSpotCheckpoint:
    """The callback that took the snapshots."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks[: callbacks.index(own)]:
        if isinstance(callback, SweetSpotCheckpoint):
            return callback
    names = ", ".join(type(callback).__name__ for callback in callbacks)
    raise ConfigError(
        f"ParameterCrossover needs a SweetSpotCheckpoint before it among the trainer's callbacks, which are {names}"
    )


def _monitored(trainer: Trainer) -> list[ModelCheckpoint]:
    """The checkpoints that know a best epoch."""
    found = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    return [callback for callback in found if callback.monitor is not None]


def _best_single(trainer: Trainer, sweet_spot: SweetSpotCheckpoint, groups: ModuleGroups) -> BestSingle:
    """From the first ModelCheckpoint with a monitor that has saved; else the snapshot with the best monitor."""
    for callback in _monitored(trainer):
        if callback.best_model_path:
            path = Path(callback.best_model_path)
            checkpoint = load_checkpoint(path)
            state = checkpoint["state_dict"]
            missing = [name for name in groups.shapes if name not in state]
            if missing:
                raise CheckpointError(f"checkpoint {path} does not fit this network: {missing[0]} is missing from it")
            return BestSingle({name: state[name] for name in groups.shapes}, int(checkpoint["epoch"]))
    store, key = sweet_spot.store, sweet_spot.monitor
    sign = 1.0 if sweet_spot.mode == "min" else -1.0
    whole = [epoch for epoch in store.epochs() if store.is_whole(epoch)]
    values = {epoch: sign * store.metrics(epoch).get(key, math.nan) for epoch in whole}
    known = {epoch: value for epoch, value in values.items() if not math.isnan(value)}
    if not known:
        raise ConfigError(
            f"there is no best single checkpoint: no ModelCheckpoint with a monitor has saved one, and none of the "
            f"{len(values)} snapshots has a value of {key}; log {key} or add a ModelCheckpoint(monitor=...)"
        )
    epoch = min(known, key=lambda epoch: (known[epoch], epoch))
    return BestSingle(groups.join({name: store.load(epoch, name) for name in groups.names}), epoch)


def _data(trainer: Trainer, accept: Iterable[Any] | None) -> CrossoverData:
    """The trainer's loaders, cut to its limits, with its batch hooks applied."""
    val = trainer.val_dataloaders
    loaders = list(val) if isinstance(val, list | tuple) else [val]
    if len(loaders) != 1 or loaders[0] is None or isinstance(loaders[0], Mapping):
        found = "none" if val is None else f"{len(val) if isinstance(val, Mapping) else len(loaders)}"
        raise ConfigError(f"ParameterCrossover needs exactly one validation loader, and the trainer has {found}")
    train = trainer.train_dataloader
    return CrossoverData(
        select=_prepared(trainer, loaders[0], trainer.num_val_batches[0]),
        accept=None if accept is None else _prepared(trainer, accept, math.inf),
        train=None if train is None else _prepared(trainer, train, trainer.num_training_batches),
    )


def _prepared(trainer: Trainer, loader: Iterable[Any], limit: float) -> Callable[[], Iterator[Any]]:
    """Batches as the trainer's own loops would hand them to a step."""

    def batches() -> Iterator[Any]:
        for batch in islice(loader, None if math.isinf(limit) else int(limit)):
            yield trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))

    return batches


@contextmanager
def _on_device(trainer: Trainer, module: LightningModule) -> Iterator[None]:
    """The module back on the device that Lightning has taken it from; hooks are told that this is no training."""
    stage, device = trainer.state.stage, module.device
    trainer.state.stage = RunningStage.VALIDATING
    module.to(trainer.strategy.root_device)
    try:
        yield
    finally:
        module.to(device)
        trainer.state.stage = stage
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
