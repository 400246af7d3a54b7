"""Snapshots of the network during the fit, one file per module group; behind it, the best epoch of each group."""

import math
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from shared.atomic import write_json
from shared.errors import ConfigError
from shared.module_groups import ModuleGroups
from shared.snapshot_thinning import Thinning
from shared.snapshots import SnapshotStore
from shared.sweet_spots import Keys, SweetSpots, check_settings, choose, rank_epochs

SHORT_RUN_EPOCHS = 12  # shorter runs keep every epoch, so that there is something to choose from
SWEET_SPOTS_FILE = "sweet_spots.json"

Row = dict[str, Any]
"""{"epoch", "step", "batches", "metrics"}; `batches` tells whether the network was trained since."""


class SweetSpotCheckpoint(Callback):
    """Keeps the raw weights every k epochs and says at which epoch each module group was best.

    The training thread only copies the weights to the CPU; one background thread hashes and writes, and is over before
    the next snapshot begins. A fit killed anywhere and resumed has the same snapshots as the uninterrupted one. No
    subclass of `Checkpoint`, on purpose: so its hook runs before any `ModelCheckpoint` writes, whatever their order,
    and the checkpoint of an epoch knows the snapshot of that epoch. Place it before callbacks that swap weights behind
    the fit (Lightning's `WeightAveraging`).

    Args:
        dirpath: Folder that gets `snapshots/` and sweet_spots.json; None: the trainer's `default_root_dir`. What an
            earlier fit left in `snapshots/` is removed when another one begins, but not by a `fast_dev_run`.
        every_n_epochs: Distance of the snapshots; runs of under 12 epochs keep each. The last epoch is always kept.
        groups: Module group -> prefixes of its tensors, see `ModuleGroups.of`.
        monitor: Metric of the whole network. With mode "min" it is the loss that the analyses read, else val/loss is.
        mode: "min" or "max".
        train_loss: Key of the loss on train.
        accuracy: Key of the accuracy on val; None: there is none.
        max_disk_gb: Disk that the snapshots may take (1 GB is 10^9 bytes); past it those with the worst monitor go. The
            newest and the best stay.
        keep_per_group: Epochs whose file a module group keeps, the best by its deciding analysis inside its window, see
            `shared.sweet_spots.rank_epochs`; the newest and the best by the monitor stay whole. The others keep their
            values, which the analyses read. None: all. Weights are written in their own precision:
            a snapshot of 730 million takes 2.92 GB in float32 and 1.46 GB in bfloat16, 30 of them 88 and 44 GB; with
            the best 4 a group there are at most 6 files of each, 17.5 and 8.8 GB.
        deciding: Module group -> analysis that decides, see `shared.sweet_spots.choose`. Groups that the module says it
            has not as configured (`BaseModule.absent_groups`) are left out, of `windows` too.
        windows: Module group -> shares of the run for its deciding analysis.
        overfit_weight: See `shared.sweet_spots.vote`.
        stability_weight: Likewise.
        at_fit_end: Choose at the end of the fit; else whoever runs the fit calls `select`.

    Attributes:
        num_snapshots: Snapshots taken by this process.
        training_thread_s: Seconds of the training thread that they took.

    Raises:
        ValueError: If a value is out of its range.
        ConfigError: If `deciding` or `windows` hold what cannot be.
    """

    def __init__(
        self, dirpath: str | None = None, every_n_epochs: int = 2, groups: Mapping[str, Sequence[str]] | None = None,
        monitor: str = "val/loss", mode: str = "min", train_loss: str = "train/loss",
        accuracy: str | None = "val/accuracy", max_disk_gb: float | None = None,
        keep_per_group: int | None = None, deciding: Mapping[str, str] | None = None,
        windows: Mapping[str, Sequence[float]] | None = None, overfit_weight: float = 0.2,
        stability_weight: float = 0.1, at_fit_end: bool = True,
    ) -> None:  # fmt: skip
        _check_numbers(every_n_epochs, mode, max_disk_gb, keep_per_group)
        for name, weight in (("overfit_weight", overfit_weight), ("stability_weight", stability_weight)):
            if not 0.0 <= weight < math.inf:
                raise ValueError(f"{name} is {weight}; 0 or more is needed")
        check_settings(deciding, windows, groups=None)
        self.dirpath = None if dirpath is None else Path(dirpath)
        self.every_n_epochs = every_n_epochs
        self.groups = groups
        self.monitor, self.mode = monitor, mode
        self.max_disk_gb, self.keep_per_group = max_disk_gb, keep_per_group
        self.at_fit_end = at_fit_end
        self.keys = Keys(monitor if mode == "min" else "val/loss", train_loss, accuracy)
        self.choice: dict[str, Any] = {
            "deciding": deciding, "windows": windows,
            "overfit_weight": overfit_weight, "stability_weight": stability_weight,
        }  # fmt: skip
        self.num_snapshots = 0
        self.training_thread_s = 0.0
        self.rows: list[Row] = []
        self.removed: list[int] = []
        self.module_groups: ModuleGroups | None = None
        self._absent: tuple[str, ...] = ()
        self._planned: int | None = None  # epochs, where the trainer knows
        self._fit_root: Path | None = None
        self._batches = 0  # begun since the start of the fit, over all its processes
        self._validation: Row | None = None  # the newest values of val/, with their epoch
        self._last: Row | None = None  # the newest epoch's row, snapshot or not
        self._restored = False
        self._writer: _Writer | None = None

    @property
    def store(self) -> SnapshotStore:
        """The snapshots on disk.

        Raises:
            ValueError: If no folder is known yet.
        """
        return SnapshotStore(self._root() / "snapshots", self.module_groups)

    def _root(self) -> Path:
        root = self._fit_root if self.dirpath is None else self.dirpath
        if root is None:
            raise ValueError("dirpath is None and no fit has begun; give dirpath to read snapshots without a fit")
        return root

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the groups, and bring the snapshots on disk to where the fit begins or goes on."""
        if _is_trial(trainer):
            return
        # Here and not in on_train_start, which Lightning leaves out when nothing is left to train.
        self._fit_root = Path(trainer.default_root_dir)
        self._planned = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs > 0 else None
        self._take_groups(pl_module)
        if not self._restored and trainer.global_step == 0:
            self.rows, self.removed, self._batches, self._validation, self._last = [], [], 0, None, None
        resumed, self._restored = self._restored, False
        if not trainer.is_global_zero:
            return
        store = self.store
        if rewrite := self._drop_unusable(store):
            self._write(pl_module, rewrite)
        strays = store.remove_all_but([row["epoch"] for row in self.rows])
        if strays and not resumed and not self.rows:
            rank_zero_warn(f"{store.folder}: {len(strays)} snapshots of an earlier fit were removed")
        if self.rows and rewrite is None:  # the fit may have been killed between a snapshot and its thinning
            self._forget(self._thinning().apply(store, self.rows[-1]["epoch"]))

    def _take_groups(self, module: LightningModule) -> None:
        """Take the groups of the network, and see that the settings fit them."""
        self.module_groups = ModuleGroups.of(module, self.groups)
        absent: Any = getattr(module, "absent_groups", None)
        self._absent = () if absent is None else tuple(absent())
        choice = self._choice()
        check_settings(choice["deciding"], choice["windows"], self.module_groups.names)

    def _choice(self) -> dict[str, Any]:
        """The settings of `choose` without those for groups that this network could have and has not."""
        of_groups = {
            key: {group: value for group, value in (self.choice[key] or {}).items() if group not in self._absent}
            for key in ("deciding", "windows")
        }
        return self.choice | of_groups

    def _drop_unusable(self, store: SnapshotStore) -> Row | None:
        """Leave out rows without their files.

        Returns:
            The newest row if its files are missing but the network still stands where it stood then.
        """
        kept, rewrite = [], None
        for row in self.rows:
            fault = store.fault(row["epoch"])
            torn = fault is not None or not store.is_whole(row["epoch"])  # by epochs that this fit has not seen yet
            if torn and row is self.rows[-1] and row["batches"] == self._batches:
                rewrite = row
            elif fault is not None and self.max_disk_gb is not None and not store.path(row["epoch"]).exists():
                self.removed.append(row["epoch"])  # thinned out between the checkpoint and the kill
                continue
            elif fault is not None:
                rank_zero_warn(f"epoch {row['epoch']} is left out of the sweet spots: {fault}")
                continue
            kept.append(row)
        self.rows = kept
        return rewrite

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Count; at the start, so that a checkpoint written by any callback at the batch's end has it counted."""
        self._raise_if_failed()
        self._batches += 1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the values with their epoch: Lightning shows those of an earlier validation for ever."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._validation = {"epoch": trainer.current_epoch, "metrics": self._metrics(trainer, "val/")}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take a snapshot when it is due."""
        if _is_trial(trainer):
            return
        self._raise_if_failed()
        epoch = trainer.current_epoch
        validated = self._validation if self._validation and self._validation["epoch"] == epoch else None
        metrics = self._metrics(trainer, "train/") | (validated["metrics"] if validated else {})
        if validated and self.monitor not in metrics:
            raise ConfigError(
                f"callbacks.sweet_spot.monitor is {self.monitor!r}, which was not logged; logged: "
                f"{', '.join(sorted(metrics))}"
            )
        self._last = {"epoch": epoch, "step": trainer.global_step, "batches": self._batches, "metrics": metrics}
        limit = math.inf if self._planned is None else self._planned
        distance = 1 if limit < SHORT_RUN_EPOCHS else self.every_n_epochs
        if (epoch + 1) % distance == 0 or epoch + 1 == limit:
            self._take(trainer, pl_module, self._last)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the last epoch of a fit that was stopped early; only now is it known to be the last."""
        last = self._last
        if last and last["batches"] == self._batches and last["epoch"] not in [row["epoch"] for row in self.rows]:
            self._take(trainer, pl_module, last)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose, unless somebody else does."""
        if _is_trial(trainer):
            return
        self.on_train_end(trainer, pl_module)  # left out by Lightning when a resumed fit had nothing left to train
        self.flush()
        if self.at_fit_end and trainer.is_global_zero:
            self.select(self._root() / SWEET_SPOTS_FILE)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Let no checkpoint be written whose snapshots are not on disk.

        But for one: that of the epoch at whose end the checkpoint stands. Resumed from there, it is written anew.
        """
        if self._writer is not None and self._writer.batches != self._batches:
            self.flush()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let the writer finish; its own trouble must not hide the exception."""
        error = self._join()
        if error is not None and error is not exception:
            rank_zero_warn(str(error))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave no thread."""
        self.flush()

    def state_dict(self) -> dict[str, Any]:
        """Rows so far, and what makes the next ones."""
        return {
            "rows": list(self.rows), "removed": list(self.removed), "batches": self._batches,
            "validation": self._validation, "last": self._last, "absent": list(self._absent),
        }  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint; what is on disk is compared when the fit begins."""
        self.rows, self.removed = list(state_dict["rows"]), list(state_dict["removed"])
        self._batches = int(state_dict["batches"])
        self._validation, self._last = state_dict["validation"], state_dict["last"]
        self._absent = tuple(state_dict.get("absent", ()))
        self._restored = True

    def select(self, out: Path, module: LightningModule | None = None) -> SweetSpots:
        """Let the analyses vote over the snapshots there are, and write the result.

        Args:
            out: The file sweet_spots.json.
            module: The network, for its groups; None: those of the fit, or else of the newest snapshot.

        Raises:
            CheckpointError: If a snapshot could not be written.
        """
        self.flush()
        if module is not None:
            self._take_groups(module)
        store = self.store
        known = store.epochs()
        rows = {row["epoch"]: row for row in [*self.rows, *([self._last] if self._last else [])]}
        kept = [rows[epoch] for epoch in sorted(rows) if epoch in known]
        if self.module_groups is not None:
            names: Sequence[str] = self.module_groups.names
        else:
            names = list(store.record(known[-1])["groups"]) if known else []
        num_epochs = self._last["epoch"] + 1 if self._last else None
        found = choose(kept, names, keys=self.keys, num_epochs=num_epochs, **self._choice())
        write_json(out, found.as_dict())
        return found

    def flush(self) -> None:
        """Wait until the snapshots taken are on disk.

        Raises:
            CheckpointError: If one could not be written.
        """
        if (error := self._join()) is not None:
            raise error

    def _raise_if_failed(self) -> None:
        """Tell of a failed snapshot at the first hook behind it; one still being written is left alone."""
        if self._writer is not None and not self._writer.is_alive():
            self.flush()

    def _join(self) -> BaseException | None:
        """Wait for the writer and take over what it thinned out.

        Returns:
            What went wrong in it.
        """
        writer, self._writer = self._writer, None
        if writer is None:
            return None
        writer.join()
        self._forget(writer.removed)
        return writer.error

    def _forget(self, removed: Sequence[int]) -> None:
        """Take over what was thinned out."""
        self.removed += removed
        self.rows = [row for row in self.rows if row["epoch"] not in removed]

    def _take(self, trainer: Trainer, module: LightningModule, row: Row) -> None:
        """Add the row and write the snapshot."""
        began = time.perf_counter()
        self.flush()
        self.rows.append(row)
        if trainer.is_global_zero:
            self._write(module, row)
        self.num_snapshots += 1
        self.training_thread_s += time.perf_counter() - began

    def _write(self, module: LightningModule, row: Row) -> None:
        """Copy the weights and start the writer."""
        assert self.module_groups is not None
        with torch.no_grad():
            parts = {
                group: {name: tensor.detach().to("cpu", copy=True) for name, tensor in part.items()}
                for group, part in self.module_groups.split(module.state_dict()).items()
            }
        self._writer = _Writer(self.store, row, parts, self._thinning())
        self._writer.start()

    def _thinning(self) -> Thinning:
        """What may stay of the snapshots so far."""
        assert self.module_groups is not None
        badness = {row["epoch"]: self._badness(row) for row in self.rows}
        ranking: dict[str, list[int]] = {}
        if self.keep_per_group is not None:
            settings = {"num_epochs": self._planned, "keys": self.keys, **self._choice()}
            ranking = rank_epochs(self.rows, self.module_groups.names, badness, **settings)
        max_bytes = None if self.max_disk_gb is None else int(self.max_disk_gb * 1e9)
        return Thinning(badness, ranking, self.keep_per_group, max_bytes)

    def _badness(self, row: Row) -> float:
        """The monitor, lower is better."""
        value = float(row["metrics"].get(self.monitor, math.nan))
        return value if self.mode == "min" else -value

    def _metrics(self, trainer: Trainer, stage: str) -> dict[str, float]:
        """Scalars that are logged under `stage`, and with val/ the keys that the settings name, whatever their form."""
        named = {self.monitor, self.keys.loss, self.keys.accuracy} if stage == "val/" else {self.keys.train_loss}
        logged = trainer.callback_metrics
        return {key: float(value) for key, value in logged.items() if key.startswith(stage) or key in named}


class _Writer(threading.Thread):
    """Writes one snapshot and thins out the others; what goes wrong is kept for the training thread."""

    def __init__(self, store: SnapshotStore, row: Row, parts: dict[str, dict[str, Tensor]], thinning: Thinning) -> None:
        super().__init__(name=f"snapshot-e{row['epoch']:04d}")
        self.batches: int = row["batches"]
        self.error: BaseException | None = None
        self.removed: list[int] = []
        self._store, self._row, self._parts = store, row, parts
        self._thinning = thinning

    def run(self) -> None:
        """Write, then thin out."""
        row = self._row
        try:
            self._store.write(row["epoch"], row["step"], self._parts, row["metrics"])
            self.removed = self._thinning.apply(self._store, row["epoch"])
        except BaseException as error:
            self.error = error
        self._parts = {}  # a second copy of the network is not kept until the next snapshot


def _check_numbers(every_n_epochs: int, mode: str, max_disk_gb: float | None, keep_per_group: int | None) -> None:
    """Raise ValueError unless the settings of the snapshots themselves can be."""
    if every_n_epochs < 1:
        raise ValueError(f"every_n_epochs is {every_n_epochs}; at least 1 is needed")
    if mode not in ("min", "max"):
        raise ValueError(f"mode is {mode!r}; allowed: min, max")
    if max_disk_gb is not None and not max_disk_gb > 0:
        raise ValueError(f"max_disk_gb is {max_disk_gb}; it must be above 0, or null for no limit")
    if keep_per_group is not None and keep_per_group < 1:
        raise ValueError(f"keep_per_group is {keep_per_group}; at least 1 is needed, or null for all")


def _is_trial(trainer: Trainer) -> bool:
    """Whether this is a `fast_dev_run`, which must not replace what a real fit left."""
    return bool(getattr(trainer, "fast_dev_run", False))
