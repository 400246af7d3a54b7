"""The verdict on one run: how much it improved, what the rules found, and whether anything needs doing at all."""

from dataclasses import dataclass

import numpy as np

from shared.advise.curves import Curves
from shared.advise.records import Record
from shared.advise.rules import MIN_EPOCHS, Finding, diagnose, rest
from shared.advise.trends import Values


@dataclass(frozen=True)
class Course:
    """A loss at three moments; None where it was never finite."""

    first: float
    best: float
    best_epoch: int
    last: float

    @property
    def improved(self) -> float:
        """Share of the first value that the best one is lower by; below 0 never, since the first counts too."""
        return (self.first - self.best) / abs(self.first) if self.first else 0.0


@dataclass(frozen=True)
class Verdict:
    """What is said about one run.

    Attributes:
        record: The run.
        name: The gravest finding's rule; or running, interrupted, died, failed, too_short, healthy.
        sentence: The same for people.
        findings: What the rules found, the gravest first.
        train: Course of the training loss.
        val: Course of the validation loss.
    """

    record: Record
    name: str
    sentence: str
    findings: tuple[Finding, ...]
    train: Course | None
    val: Course | None


def judge(record: Record) -> Verdict:
    """Judge one run."""
    curves = record.curves
    planned = curves.max_epochs
    stopped_early = planned is not None and len(curves) > 0 and int(curves.epochs[-1]) < planned
    complete = not (stopped_early and record.state != "done") and record.state != "running"
    findings = tuple(diagnose(curves, complete=complete))
    if record.error is not None and "not finite" in record.error and not findings:
        findings = (Finding("nan", record.error, None, {"epochs_before": float(len(curves))}),)
    name, sentence = _named(record, findings)
    return Verdict(record, name, sentence, findings, _course(curves, curves.train), _course(curves, curves.val))


def _named(record: Record, findings: tuple[Finding, ...]) -> tuple[str, str]:
    curves, num = record.curves, len(record.curves)
    of = f" of {curves.max_epochs}" if curves.max_epochs else ""
    aside = {
        "failed": f"failed in stage {record.stage or '?'} after {num}{of} epochs" + (
            f": {record.error}" if record.error else "; its files do not say why, what it printed does"),
        "interrupted": f"interrupted after {num}{of} epochs",
        "died": f"ended without a word after {num}{of} epochs, in stage {record.stage or '?'} (killed, or a power cut)",
        "running": f"still running: epoch {num}{of}, so this is provisional",
    }.get(record.state or "")  # fmt: skip
    if findings:
        told = "; ".join(finding.sentence for finding in findings)
        return findings[0].rule, f"{told} ({aside})" if aside and record.error is None else told
    if aside and record.state:
        return record.state, aside
    if num < MIN_EPOCHS:
        return "too_short", f"{num} epoch{'s' * (num != 1)}: too few to judge a curve, {MIN_EPOCHS} are needed"
    return "healthy", f"nothing needs doing: {rest(curves)}"


def _course(curves: Curves, values: Values) -> Course | None:
    finite = np.flatnonzero(np.isfinite(values))
    if not len(finite):
        return None
    best = finite[int(np.argmin(values[finite]))]
    return Course(float(values[finite[0]]), float(values[best]), int(curves.epochs[best]), float(values[finite[-1]]))
