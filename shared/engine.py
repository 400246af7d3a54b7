"""The one engine function: check data, audit, fit, choose, cross, calibrate, test, report; it returns what it built."""

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from omegaconf import DictConfig
from rich.console import Console

from shared.atomic import write_json
from shared.base_data import FoldedDataModule
from shared.base_module import BaseModule
from shared.callbacks.interruption import Interruption, interruptible
from shared.checkpoint_io import load_checkpoint
from shared.config import Settings, check_config, check_targets
from shared.distributed.plan import check_ranks
from shared.environment import describe_environment
from shared.errors import ConfigError, RunInterrupted
from shared.events import EventWriter
from shared.instantiate import instantiate
from shared.learning_rate import difference_from_sweep, rate_from_sweep, without_origin
from shared.ledger import Ledger
from shared.point_hooks import POINT_KIND, PointHooks
from shared.resume import find_run, refuse_differences, saved_settings
from shared.run_dir import RunDirectory, beating
from shared.seeding import seed_all
from shared.session import Session
from shared.stages.audit_data import audit_data
from shared.stages.calibrate import calibrate
from shared.stages.check_data import check_data
from shared.stages.cross_over import cross_over
from shared.stages.predict_test import predict_test
from shared.stages.report import report
from shared.stages.select_epochs import select_epochs
from shared.stages.train import LIVE_ARGUMENTS, LIVE_PUSH, STAGED_ARGUMENTS, STAGED_CALLBACKS, check_callbacks, train

if TYPE_CHECKING:
    from lightning import Trainer

    from shared.report.outputs import CurveOutputs, TestOutputs

ENGINE_SETS = {
    "data": ("seed", "cache_folder"),
    "model": ("optimizer", "scheduler", "classes"),
    "trainer": ("callbacks", "enable_progress_bar", "logger", "plugins", "default_root_dir", "use_distributed_sampler"),
    "logger.*": ("save_dir", "name", "version", "purge_step"),
    **dict.fromkeys(STAGED_CALLBACKS, STAGED_ARGUMENTS),
    LIVE_PUSH: (*LIVE_ARGUMENTS, "token"),  # a secret has no place in config.yaml; it comes from the environment
}
"""Constructor arguments that the engine adds to what the configuration gives."""

STAGES: tuple[tuple[str, Callable[[Session], None]], ...] = (
    ("select", select_epochs),
    ("crossover", cross_over),
    ("calibrate", calibrate),
    ("test", predict_test),
    ("report", report),
)
"""What follows the fit, in this order."""


@dataclass(frozen=True)
class FitResult:
    """What `fit` built.

    Attributes:
        metrics: Last logged value of each metric key.
        trainer: Lightning's trainer, None where no stage needed one.
        module: The module with the final weights.
        datamodule: The datamodule, its folds bound to the run's ledger.
        run: The run directory.
        report: Content of report.json, None where the stage did not run.
        outputs: What every row said about the test fold, None where the stage did not run.
    """

    metrics: dict[str, float]
    trainer: "Trainer | None"
    module: BaseModule | None
    datamodule: FoldedDataModule
    run: RunDirectory
    report: dict[str, Any] | None
    outputs: "TestOutputs | CurveOutputs | None"


def fit(
    config: DictConfig | Mapping[str, Any],
    *,
    overrides: tuple[str, ...] = (),
    quiet: bool = False,
    point: PointHooks | None = None,
) -> FitResult:
    """Run the configured stages in a new run directory, or in the one that `resume` names.

    Args:
        config: Composed configuration.
        overrides: Command-line overrides, kept in overrides.txt.
        quiet: Show no progress.
        point: The sweep that the run is a point of, None for a run of its own.

    Returns:
        What was built; the run directory holds everything else.

    Raises:
        UserError: One sentence on what must change; the run's status is then `failed` or `interrupted`.
    """
    settings = check_config(config)
    check_targets(settings, ENGINE_SETS)
    check_callbacks(settings)
    check_ranks(settings.plain)
    run, checkpoint = _open_run(settings, overrides, is_point=point is not None)
    with watched(run, resumable=point is None) as interruption:
        if point is not None:
            point.on_open(run)
        session = open_session(settings, run, interruption, quiet)
        session.point = point
        try:
            _run_stages(session, checkpoint)
        except BaseException as error:
            state = "interrupted" if isinstance(error, RunInterrupted) else "failed"
            session.events.write("end", session.step, session.epoch, state=state)
            raise
    metrics = {} if session.trainer is None else session.trainer.callback_metrics
    values = session.fit_metrics | {key: float(value) for key, value in metrics.items()}
    return FitResult(values, session.trainer, session.module, session.datamodule, run, session.report, session.outputs)


@contextmanager
def watched(run: RunDirectory, resumable: bool = True) -> Iterator[Interruption]:
    """Keep a run's status true whatever happens in the block: running, then done, interrupted or failed."""
    with interruptible() as interruption:
        try:
            run.set_state("running")
            with beating(run):
                yield interruption
            run.finish()
        except RunInterrupted as error:
            run.set_state("interrupted")
            hint = f"; go on with resume={os.path.relpath(run.path)}" if resumable else ""
            raise RunInterrupted(error.signum, f"{error}{hint}") from error
        except BaseException as error:
            # Its sentence, for those who look at the run later: `shared.advise`, the live page.
            if run.is_own():  # no word about one that another process has taken over meanwhile
                run.set_state("failed", error=str(error) or type(error).__name__)
            raise


def _open_run(settings: Settings, overrides: tuple[str, ...], is_point: bool) -> tuple[RunDirectory, Path | None]:
    """A new run directory with its configuration, or the one to resume."""
    settings.plain["optimizer"] = rate_from_sweep(settings.plain["optimizer"], settings.sweeps)
    parents = _parents(settings)
    if parents:  # a link such as `latest` may point elsewhere by the time the run is resumed
        settings.plain["model"]["init_from"] = str(parents[0])
    found = find_run(settings, is_point)
    if found is not None:
        run, checkpoint = found
        refuse_differences(settings.plain, run, saved_settings(run).plain)
        return run, checkpoint
    kind = POINT_KIND if is_point else "run"
    run = RunDirectory.create(settings.outputs, settings.project, settings.experiment, parents, kind)
    run.write_file(
        "config.yaml", yaml.safe_dump(settings.plain | {"resume": None}, sort_keys=False, allow_unicode=True)
    )
    run.write_file("overrides.txt", "".join(f"{override}\n" for override in overrides))
    return run, None


def _parents(settings: Settings) -> tuple[Path, ...]:
    """Runs whose weights this one begins with: what they were trained on must not be tested on here.

    Raises:
        ConfigError: If that is no run.
    """
    first = settings.plain["model"].get("init_from")
    if first is None:
        return ()
    path = Path(str(first)).resolve()
    if not (path / "status.json").is_file():
        raise ConfigError(f"model.init_from is {str(first)!r}, which is no run directory; name a finished run, or null")
    return (path,)


def quiet_lightning() -> None:
    """Silence what Lightning says to newcomers and what is no fault here; its warnings otherwise stay."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    for message in (
        ".*LeafSpec.*is deprecated",  # Lightning 2.6.6 against torch 2.15
        "Checkpoint directory .* exists and is not empty",  # so it is in every resumed run
        "The number of training batches .* is smaller than the logging interval",
        "The '.*_dataloader' does not have many workers",  # measured: docs/benchmarks.md
        "The `srun` command is available on your system but is not used",  # one task a job: docs/distributed.md
    ):
        warnings.filterwarnings("ignore", message)


def open_session(settings: Settings, run: RunDirectory, interruption: Interruption, quiet: bool) -> Session:
    """Threads, seeds, environment record and the objects the stages share."""
    torch.set_num_threads(settings.runtime.threads or len(os.sched_getaffinity(0)))
    seed_all(settings.seed)
    quiet_lightning()
    environment, threads_before = describe_environment(), _threads_before(run)
    write_json(run.path / "env.json", environment)
    session = Session(
        settings=settings,
        run=run,
        interruption=interruption,
        console=Console(file=sys.stderr, quiet=quiet),
        events=EventWriter(run.path / "events.jsonl", run.path.name),
        ledger=Ledger(run.path, tuple(Path(parent) for parent in run.status()["parents"])),
        datamodule=build_datamodule(settings),
        started=time.time(),
    )
    if threads_before not in (None, environment["threads"]):
        session.warn(
            f"the run was started with {threads_before} threads and goes on with {environment['threads']}: it will not "
            "be bit-equal to an uninterrupted one; set runtime.threads"
        )
    difference = difference_from_sweep(settings.plain)
    if difference is not None:
        session.warn(difference)
    return session


def build_datamodule(settings: Settings) -> FoldedDataModule:
    """The configured data; nothing is read yet."""
    data: FoldedDataModule = instantiate(
        settings.plain["data"], "data", seed=settings.seed, cache_folder=settings.paths.cache
    )
    return data


def build_module(session: Session) -> BaseModule:
    """The configured network with its first weights, which do not depend on what was drawn before."""
    plain = session.settings.plain
    seed_all(session.settings.seed)
    module: BaseModule = instantiate(
        plain["model"], "model", optimizer=without_origin(plain["optimizer"]), scheduler=plain["scheduler"],
        **session.datamodule.module_arguments(),
    )  # fmt: skip
    return module


def _threads_before(run: RunDirectory) -> int | None:
    """Threads of the process that began a resumed run."""
    path = run.path / "env.json"
    return int(json.loads(path.read_text(encoding="utf-8"))["threads"]) if path.is_file() else None


def _run_stages(session: Session, checkpoint: Path | None) -> None:
    stages = session.settings.stages
    session.say(f"run directory: {session.run.path}")
    with session.stage("check"):
        check_data(session)
    if "audit" in stages:
        with session.stage("audit"):
            audit_data(session)
    if "fit" in stages:  # test and report need it, which the configuration check demands
        session.module = build_module(session)
        session.say("model: " + ", ".join(f"{key} {value}" for key, value in session.module.describe().items()))
        for sentence in session.module.findings():
            session.warn(sentence)
        with session.stage("fit"):
            train(session, checkpoint)
        if session.module is None:  # it was in parts on several ranks, and is whole on disk
            session.module = build_module(session)
            session.module.load_weights(load_checkpoint(session.run.checkpoints / "last.ckpt")["state_dict"])
    for name, stage in STAGES:
        if name in stages:
            with session.stage(name):
                stage(session)
    session.events.write("end", session.step, session.epoch, state="done")
