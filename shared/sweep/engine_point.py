"""One point of a sweep as a run of the engine: opened or gone on with, watched, scored, and cleared away."""

import csv
import gc
import math
import resource
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from omegaconf import open_dict
from torch.linalg import LinAlgError  # type: ignore[attr-defined]  # documented, but torch re-exports it silently

from shared.checkpoint_io import AtomicCheckpointIO
from shared.config import Settings, check_config, differing_keys
from shared.distributed.plan import plan_ranks
from shared.engine import fit
from shared.errors import ConfigError, DataError, TrainingError, UserError
from shared.learning_rate import rate_from_sweep
from shared.resume import checkpoint_to_resume, saved_settings
from shared.run_dir import RunDirectory
from shared.sweep.data_seen import check_data, note_files
from shared.sweep.devices import device_lease
from shared.sweep.disk_budget import GB, SETTLED, BudgetedCheckpointIO, SweepDisk, drop_checkpoints, settle
from shared.sweep.halving import SuccessiveHalving
from shared.sweep.halving_rule import HalvingRule
from shared.sweep.initial_weights import InitialWeights, check_weights
from shared.sweep.objective import NOT_FINITE, Outcome, PointWork
from shared.sweep.scoring import RATE_SCORE, Direction, lr_score, monitor_score, read_epochs

OTHER_HOST_S = 130.0
"""Longer than a run on another host counts as alive after its last heartbeat."""


def run(work: PointWork) -> Outcome:
    """Train a point, or go on with its former attempt, and measure it.

    Args:
        work: The point.

    Returns:
        Plain JSON: `score` and `value` (the monitor's best) as measured, `epochs`, `metrics` (last of each), `run`,
        `seconds` and `samples` of the fit, `initial_weights`, `data_hash`, `fingerprint`, `stopped_at` (epochs after
        which it was given up, None where it went to its end), `peak_rss_mb`.

    Raises:
        RunInterrupted: A signal stopped it after its state was saved.
        LeaseLost: Somebody else has the point by now.
        TrainingError: The loss was not finite, or the point did not begin as the others.
        DataChangedError: Its data are not those of the points before it.
        UserError: What else the engine raises.
    """
    settings = check_config(work.config)
    settings.plain["optimizer"] = rate_from_sweep(settings.plain["optimizer"], settings.sweeps)
    disk = disk_of(work, settings)
    former = _former(work, settings)
    with _torn_down():
        if former is None or former.status()["state"] != "done":
            former = _train(work, settings, disk, former)
        outcome = _outcome(work, settings, former)
    settle(former, work.generation, outcome["score"], outcome["stopped_at"])
    with disk.locked() as has_lock:
        if has_lock:
            disk.prune()
    return outcome


def disk_of(work: PointWork, settings: Settings) -> SweepDisk:
    """The room of the point's sweep."""
    limit = work.settings.get("max_disk_gb")
    return SweepDisk(
        folder=work.folder,
        runs=settings.outputs / settings.project / settings.experiment,
        max_bytes=None if limit is None else int(limit * GB),
        keep_top=int(work.settings.get("keep_top", 1)),
        direction=work.direction,
    )


def _train(work: PointWork, settings: Settings, disk: SweepDisk, former: RunDirectory | None) -> RunDirectory:
    """Fit in the former attempt's run directory or a new one; where the loss is not finite the point is settled."""
    config = work.config.copy()
    with open_dict(config):
        config.resume = None if former is None else str(former.path)
    hooks = EnginePoint(work, settings, disk)
    with _devices(settings):
        try:
            fit(config, overrides=work.overrides, quiet=True, point=hooks)
        except (TrainingError, LinAlgError) as error:
            is_numeric = isinstance(error, LinAlgError)
            if hooks.run is not None and (is_numeric or NOT_FINITE in str(error)):
                settle(hooks.run, work.generation, None, None)
                drop_checkpoints(hooks.run)
            if is_numeric:  # a network that factorises matrices meets numbers that are not finite before its loss does
                first = str(error).splitlines()[0]
                raise TrainingError(f"a matrix in the network is {NOT_FINITE} or singular ({first})") from error
            raise
    assert hooks.run is not None
    return hooks.run


class EnginePoint:
    """The hooks of one point.

    Args:
        work: The point.
        settings: Its checked configuration.
        disk: The room of its sweep.
    """

    def __init__(self, work: PointWork, settings: Settings, disk: SweepDisk) -> None:
        self.work = work
        self.settings = settings
        self.disk = disk
        self.run: RunDirectory | None = None

    def on_open(self, run: RunDirectory) -> None:
        """Write the run directory into the ledger, so that the next attempt finds it.

        Raises:
            LeaseLost: The point is somebody else's by now.
            ConfigError: The sweep has filled its room without a checkpoint.
        """
        self.run = run
        self.work.claim.check()
        if not self.work.claim.opened(str(run.path.resolve())):
            self.work.claim.check()
        if self.disk.max_bytes is None:
            return
        with self.disk.locked() as has_lock:
            if has_lock and self.disk.used() > self.disk.for_checkpoints:
                self.disk.prune()
        used = self.disk.used()
        if used > self.disk.max_bytes:
            raise ConfigError(
                f"the files of the sweep {self.work.folder} take {used / GB:.3g} GB with only the best checkpoints "
                f"kept, and hydra.sweeper.max_disk_gb is {self.disk.max_bytes / GB:g}: raise it"
            )

    def callbacks(self) -> list[Callback]:
        """What watches the point, and what gives it up if the sweep asks for that."""
        found: list[Callback] = [InitialWeights(self._begin), PointWatch(self.work)]
        rule = HalvingRule.of(self.work.settings)
        if rule is not None:
            work = self.work
            halving = SuccessiveHalving(
                rule, work.folder, work.id, work.generation, work.direction, self._score_so_far, self._decided
            )
            found.append(halving)
        return found

    def checkpoint_io(self) -> AtomicCheckpointIO | None:
        """A writer that keeps to the sweep's room, where it has one."""
        return None if self.disk.max_bytes is None else BudgetedCheckpointIO(self.disk, _tell)

    def _begin(self, sha256: str | None) -> None:
        """Compare what the point begins with, before its first step."""
        assert self.run is not None
        work, check = self.work, self.run.done("check") or {}
        facts = data_facts(check)
        self._keep(initial_weights=sha256, **facts)
        if not work.claim.opened(str(self.run.path.resolve()), initial_weights=sha256, **facts):
            work.claim.check()
        keep = work.settings.get("on_change") == "keep"
        check_data(work.folder, work.generation, work.values, facts, keep)
        note_files(work.folder, work.generation, work.values, self.settings.plain["data"])
        if sha256 is not None:
            check_weights(work.folder, work.generation, work.values, sha256)

    def _decided(self, stopped_at: int | None) -> None:
        self._keep(stopped_at=stopped_at)

    def _keep(self, **facts: Any) -> None:
        """In the run's status, where it is found again should this process end before the point is done."""
        assert self.run is not None
        self.run.mark_done(SETTLED, (self.run.done(SETTLED) or {}) | facts)

    def _score_so_far(self) -> float | None:
        assert self.run is not None
        try:
            return measure(self.work, self.settings, self.run)
        except (DataError, ValueError):
            return None


class PointWatch(Callback):
    """Tells the lease how far the point is, and ends the fit when the lease is lost.

    Args:
        work: The point.
    """

    def __init__(self, work: PointWork) -> None:
        self.work = work

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the number of epochs done in the heartbeat."""
        self.work.claim.note(epoch=trainer.current_epoch)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Raise LeaseLost; looking costs no file access."""
        self.work.claim.check()

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """A validation can be long."""
        self.work.claim.check()


def measure(work: PointWork, settings: Settings, run: RunDirectory) -> float:
    """The score of what a run's metrics.csv has by now.

    Raises:
        DataError: It has no such numbers.
        ValueError: It has no epoch.
    """
    path = run.path / "metrics.csv"
    if work.score_name == RATE_SCORE:
        return lr_score(read_epochs(path))
    return monitor_score(path, settings.runtime.monitor, _direction(work.direction))


def data_facts(check: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's data check says the data are."""
    return {"data_hash": check.get("data_hash"), "fingerprint": check.get("data", {}).get("fingerprint")}


def _outcome(work: PointWork, settings: Settings, run: RunDirectory) -> Outcome:
    path = run.path / "metrics.csv"
    fitted, begun = run.done("fit") or {}, run.done(SETTLED) or {}
    monitor = settings.runtime.monitor
    return {
        "score": measure(work, settings, run),
        "value": monitor_score(path, monitor, "max" if settings.runtime.monitor_mode == "max" else "min"),
        "epochs": [_finite(asdict(epoch)) for epoch in read_epochs(path)],
        "metrics": _last_row(path),
        "run": str(run.path.resolve()),
        "seconds": fitted.get("seconds"),
        "samples": fitted.get("samples"),
        "initial_weights": begun.get("initial_weights"),
        **data_facts(run.done("check") or {}),
        "stopped_at": begun.get("stopped_at"),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def _last_row(path: Path) -> dict[str, float | None]:
    with path.open(encoding="utf-8", newline="") as stream:
        last = list(csv.DictReader(stream))[-1]
    return _finite({key: float(text) for key, text in last.items() if text and key not in ("epoch", "step")})


def _finite(numbers: Mapping[str, float | None]) -> dict[str, float | None]:
    """JSON knows no other numbers: a metric that is not defined on these data, a norm that has overflowed."""
    return {key: None if value is None or not math.isfinite(value) else value for key, value in numbers.items()}


def _direction(text: str) -> Direction:
    return "max" if text == "max" else "min"


def _former(work: PointWork, settings: Settings) -> RunDirectory | None:
    """The former attempt, if it can be gone on with; its checkpoints go if it cannot."""
    if work.resume is None:
        return None
    try:
        run = RunDirectory.open(work.resume)
        fault = _fault(run, settings)
    except (UserError, KeyError) as error:
        _tell(f"the former attempt {work.resume} cannot be gone on with ({error}); the point begins anew")
        return None
    if fault is not None:
        _tell(f"the former attempt {run.path} cannot be gone on with: {fault}; the point begins anew")
        return None
    return run


def _fault(run: RunDirectory, settings: Settings) -> str | None:
    """Why a run cannot be gone on with, None where it can."""
    if not _has_ended(run):
        return "its process is still there"
    keys = [key for key in differing_keys(settings.plain, saved_settings(run).plain) if key != "resume"]
    if keys:
        return f"it has another configuration ({', '.join(keys[:5])} differ)"
    if run.status()["state"] != "done":
        try:
            checkpoint_to_resume(run, None)
        except UserError:
            drop_checkpoints(run)
            raise
    return None


def _has_ended(run: RunDirectory) -> bool:
    """Whether the process of a run is gone; on another host only its silence tells, so that is waited for."""
    end = time.monotonic() + OTHER_HOST_S
    here = run.status()["host"] == socket.gethostname()
    while run.is_alive():
        if here or time.monotonic() > end:
            return False
        time.sleep(1.0)
    return True


@contextmanager
def _devices(settings: Settings) -> Iterator[None]:
    """Hold the GPUs that the point asks for, where it asks for any."""
    trainer = settings.plain["trainer"]
    if trainer.get("accelerator", "auto") == "cpu":
        yield
        return
    with device_lease(plan_ranks(settings.plain).count):
        yield


@contextmanager
def _torn_down() -> Iterator[None]:
    """Leave nothing of a fit behind: several points in one process need no more memory than one."""
    try:
        yield
    except BaseException as error:
        cause: BaseException | None = error
        while cause is not None:  # its frames hold the trainer, and whoever catches it may keep it
            traceback.clear_frames(cause.__traceback__)
            cause = cause.__cause__ or cause.__context__
        raise
    finally:
        gc.collect()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch has it so
            torch.cuda.empty_cache()


def _tell(sentence: str) -> None:
    print(f"warning: {sentence}", file=sys.stderr, flush=True)
