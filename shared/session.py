"""What the stages of one run hand to each other."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from shared.base_data import FoldedDataModule
from shared.base_module import BaseModule
from shared.callbacks.interruption import Interruption
from shared.config import Settings
from shared.events import EventWriter
from shared.ledger import Ledger
from shared.point_hooks import PointHooks
from shared.run_dir import RunDirectory

if TYPE_CHECKING:
    from lightning import Callback, Trainer

    from shared.final import FinalCalibrator
    from shared.report.outputs import CurveOutputs, TestOutputs


CallbackKind = TypeVar("CallbackKind", bound="Callback")


@dataclass
class Session:
    """One process's work on one run.

    Attributes:
        settings: Checked configuration.
        run: Run directory.
        interruption: Signals received.
        console: Where progress and sentences go (standard error, so that the last line of standard output is `run: …`).
        warnings: Sentences for the report, each once, in order.
        point: The sweep that the run is a point of, None for a run of its own.
        fit_metrics: Last values of the fit, where a trainer of several ranks did it that is gone by now.
    """

    settings: Settings
    run: RunDirectory
    interruption: Interruption
    console: Console
    events: EventWriter
    ledger: Ledger
    datamodule: FoldedDataModule
    started: float = field(default_factory=time.time)
    warnings: list[str] = field(default_factory=list)
    resumed_from: dict[str, Any] | None = None
    module: BaseModule | None = None
    trainer: "Trainer | None" = None
    calibrator: "FinalCalibrator | None" = None
    outputs: "TestOutputs | CurveOutputs | None" = None
    test_ms_per_sample: float | None = None
    report: dict[str, Any] | None = None
    point: PointHooks | None = None
    fit_metrics: dict[str, float] = field(default_factory=dict)

    def warn(self, sentence: str) -> None:
        """Show a warning once and keep it for the report."""
        if sentence in self.warnings:
            return
        self.warnings.append(sentence)
        self.console.print(f"[yellow]warning:[/] {_escape(sentence)}")
        self.events.write("warning", 0, 0, sentence=sentence)

    def say(self, sentence: str) -> None:
        """Show one line of information."""
        self.console.print(_escape(sentence))

    def callback(self, kind: type[CallbackKind]) -> CallbackKind | None:
        """The trainer's callback of that kind, None where the configuration has none."""
        assert self.trainer is not None
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]  # set by Lightning's connector
        return next((callback for callback in callbacks if isinstance(callback, kind)), None)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announce a stage in status.json and events.jsonl."""
        self.interruption.raise_if_received()
        self.run.heartbeat(stage=name)
        self.events.write("stage", self.step, self.epoch, stage=name, state="start")
        yield
        self.events.write("stage", self.step, self.epoch, stage=name, state="done")

    @property
    def step(self) -> int:
        """Optimiser steps done so far."""
        if self.trainer is not None and self.trainer.global_step:
            return self.trainer.global_step
        return int((self.run.done("fit") or {"steps": 0})["steps"])

    @property
    def epoch(self) -> int:
        """Epochs done so far."""
        if self.trainer is not None and self.trainer.global_step:
            return self.trainer.current_epoch
        return int((self.run.done("fit") or {"epochs": 0})["epochs"])


@contextmanager
def progress_bars(console: Console) -> Iterator[Any]:
    """Rich bars behind a `shared.base_data.Progress` function; one bar for each thing being done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield advance


def _escape(sentence: str) -> str:
    """Square brackets in a sentence are text, not rich markup."""
    return sentence.replace("[", r"\[")
