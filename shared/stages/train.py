"""The fit: loggers, callbacks, checkpoints, Lightning's loop."""

import time
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar

from shared.callbacks.interruption import InterruptGuard
from shared.callbacks.nan_guard import NanGuard
from shared.callbacks.ranks_agree import OneLoss, OneStop
from shared.callbacks.rehearsal import LIMITS, Rehearsal
from shared.callbacks.run_log import RunLog
from shared.callbacks.step_seed import StepSeed
from shared.callbacks.stop_stays import StopStays
from shared.checkpoint_io import AtomicCheckpointIO, load_checkpoint
from shared.config import Settings, enabled_nodes
from shared.distributed.collectives import gathered
from shared.distributed.launch import other_ranks
from shared.distributed.plan import plan_ranks, unused_strategy
from shared.distributed.sharding import require_shardable
from shared.distributed.trainer_arguments import batch_norm_findings, trainer_arguments, trainer_plugins
from shared.errors import ConfigError
from shared.instantiate import instantiate
from shared.resume import checkpoint_to_resume
from shared.session import Session

STAGED_CALLBACKS = (
    "shared.callbacks.sweet_spot.SweetSpotCheckpoint",
    "shared.callbacks.crossover.ParameterCrossover",
    "shared.callbacks.temperature_scaling.TemperatureScaling",
)
"""Callbacks whose work behind the fit is a stage of its own here, so that a killed run goes on between them."""

STAGED_ARGUMENTS = ("dirpath", "at_fit_end")
"""What the engine gives them."""

LIVE_PUSH = "shared.callbacks.live_push.LivePush"
LIVE_ARGUMENTS = ("outputs", "events")
"""What the engine gives to that one."""


def check_callbacks(settings: Settings) -> None:
    """Refuse a crossover without the snapshots that it is made of.

    Raises:
        ConfigError: Naming the callback that is missing.
    """
    sweet_spot, crossover, _ = STAGED_CALLBACKS
    nodes = enabled_nodes(settings.plain["callbacks"], "callbacks")
    targets = [node.get("_target_") for node in nodes.values()]
    if crossover in targets and sweet_spot not in targets:
        raise ConfigError(
            "callbacks.crossover needs callbacks.sweet_spot, whose snapshots it crosses: enable it, or set "
            "callbacks.crossover.enabled=false"
        )


class _TopCheckpoints(ModelCheckpoint):
    """The best few epochs; under a key of its own, since Lightning keeps one state for each monitor."""

    @property
    def state_key(self) -> str:
        return f"Top{super().state_key}"


def train(session: Session, named_checkpoint: Path | None) -> None:
    """Fit the module, or go on from the newest intact checkpoint of a resumed run; skipped where already complete.

    What follows is done by one process on one device, however many have trained; where it had a part of the network
    only, the session's module is None behind it.
    """
    plan = plan_ranks(session.settings.plain)
    if session.run.done("fit") is not None:
        session.trainer = build_trainer(session, resume_step=None)
        _warn_of_fit(session)
        return
    checkpoint, passed_over = checkpoint_to_resume(session.run, named_checkpoint)
    for sentence in passed_over:
        session.warn(sentence)
    step = None
    if checkpoint is not None:
        content = load_checkpoint(checkpoint)
        step = int(content["global_step"])
        session.resumed_from = {"checkpoint": checkpoint.name, "epoch": int(content["epoch"]), "step": step}
        session.say(f"resuming from {checkpoint} (epoch {content['epoch']}, step {step})")
    assert session.module is not None
    if plan.is_sharded:
        require_shardable(session.module)
    batch_norm = batch_norm_findings(plan, session.module, session.datamodule.batch_size)
    for sentence in [*unused_strategy(session.settings.plain, plan), *batch_norm]:
        session.warn(sentence)
    began = time.monotonic()
    with other_ranks(session, plan, checkpoint):
        warnings = fit_module(session, checkpoint, step)
    assert session.trainer is not None
    steps = session.trainer.global_step
    samples = (steps - (step or 0)) * session.trainer.accumulate_grad_batches * session.datamodule.batch_size
    spent = {"seconds": round(time.monotonic() - began, 2), "samples": samples}
    facts = {"epochs": session.trainer.current_epoch, "steps": steps, **spent, "warnings": warnings}
    session.run.mark_done("fit", facts | ({"ranks": plan.count} if plan.count > 1 else {}))
    _warn_of_fit(session)
    if plan.count > 1:
        session.fit_metrics = {key: float(value) for key, value in session.trainer.callback_metrics.items()}
        session.trainer = build_trainer(session, resume_step=None)
    if plan.is_sharded:
        session.module = None  # of which this process has a part


def fit_module(session: Session, checkpoint: Path | None, step: int | None) -> list[str]:
    """What every rank does: Lightning's loop.

    Args:
        session: The run, with its module.
        checkpoint: What is gone on from, None to begin.
        step: Of that checkpoint; None to begin, and on ranks above 0, whose loggers write nothing.

    Returns:
        What module and callbacks have found in the fit, those of other ranks by their number.
    """
    session.trainer = build_trainer(session, step)
    assert session.module is not None
    session.trainer.fit(session.module, datamodule=session.datamodule, ckpt_path=checkpoint, weights_only=True)
    first, *others = gathered(_told(session))
    new = [f"rank {rank}: {told}" for rank, found in enumerate(others, 1) for told in found if told not in first]
    return [*first, *new]


def _told(session: Session) -> list[str]:
    """What module and callbacks have found in the fit; kept, since a run may go on behind it in another process."""
    assert session.trainer is not None
    callbacks: list[Callback] = session.trainer.callbacks  # type: ignore[attr-defined]  # set by Lightning's connector
    found = [getattr(part, "findings", None) for part in (session.module, *callbacks)]
    return [sentence for findings in found if findings is not None for sentence in findings()]


def _warn_of_fit(session: Session) -> None:
    for sentence in (session.run.done("fit") or {}).get("warnings", []):
        session.warn(sentence)


def build_trainer(session: Session, resume_step: int | None) -> Trainer:
    """Trainer with the run's own callbacks and those of the configuration, for one of several ranks while they live."""
    plain = session.settings.plain
    plan = plan_ranks(plain) if session.datamodule.share.count > 1 else None
    loggers = []
    for name, node in enabled_nodes(plain["logger"], "logger").items():
        # TensorBoard drops what a resumed run will write again.
        purge = {} if resume_step is None else {"purge_step": resume_step}
        where = {"save_dir": str(session.run.path), "name": "tb", "version": ""}
        loggers.append(instantiate(node, f"logger.{name}", **where, **purge))
    callbacks = [*_own_callbacks(session), *_configured_callbacks(session)]
    checkpoint_io = None
    if session.point is not None:
        callbacks += session.point.callbacks()
        checkpoint_io = session.point.checkpoint_io()
    if plan is not None:
        callbacks = [OneLoss(), *callbacks, OneStop()]
    rehearsed = LIMITS if session.settings.runtime.rehearse else {}
    ranks = trainer_arguments(plan, plain["trainer"].get("devices", 1))
    configured = {key: value for key, value in (plain["trainer"] | rehearsed).items() if key not in ranks}
    return instantiate(
        configured, "trainer", **ranks,
        callbacks=callbacks, enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        logger=loggers, default_root_dir=str(session.run.path),
        plugins=[checkpoint_io or AtomicCheckpointIO(), *trainer_plugins(plan)],
    )  # fmt: skip


def _own_callbacks(session: Session) -> list[Callback]:
    """What every run needs to be reproducible, watched and resumable; not configurable on purpose."""
    settings, runtime = session.settings, session.settings.runtime
    folder = session.run.checkpoints
    shared: dict[str, Any] = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    chosen: dict[str, Any] = {"monitor": runtime.monitor, "mode": runtime.monitor_mode, **shared}
    callbacks: list[Callback] = [
        StepSeed(settings.seed),
        StopStays(),
        NanGuard(),
        RunLog(session.run, session.events, runtime.monitor, runtime.monitor_mode),
        InterruptGuard(session.interruption, folder / "last.ckpt", runtime.save_every_minutes),
        ModelCheckpoint(folder, filename="last", save_top_k=1, every_n_epochs=1, **shared),
    ]
    is_point = session.point is not None  # what is kept of a point is its result; last.ckpt is there to resume it
    if not is_point:
        callbacks.insert(-1, ModelCheckpoint(folder, filename="best", save_top_k=1, **chosen))
    if runtime.rehearse:
        callbacks.append(Rehearsal())
    if runtime.keep_top and not is_point:
        callbacks.append(_TopCheckpoints(folder / "top", filename="{epoch:04d}", save_top_k=runtime.keep_top, **chosen))
    return callbacks


def _configured_callbacks(session: Session) -> list[Callback]:
    callbacks = []
    for name, node in enabled_nodes(session.settings.plain["callbacks"], "callbacks").items():
        given: dict[str, Any] = {}
        if node.get("_target_") in STAGED_CALLBACKS:
            given = dict(zip(STAGED_ARGUMENTS, (str(session.run.path), False), strict=True))
        elif node.get("_target_") == LIVE_PUSH:
            given = dict(zip(LIVE_ARGUMENTS, (session.settings.outputs, session.events), strict=True))
        callback = instantiate(node, f"callbacks.{name}", **given)
        if session.datamodule.share.rank == 0 or not isinstance(callback, ProgressBar):
            callbacks.append(callback)
    return callbacks
