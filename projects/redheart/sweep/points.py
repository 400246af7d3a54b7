"""The points of a sweep: what each run's metrics say, the score they are ranked by, and the files that tell it."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from shared.atomic import write_bytes, write_json, write_text
from shared.errors import DataError
from shared.report.figure_style import BLUE, GREY, SERIES, VERMILION, dress, new_figure, png_bytes, whole_numbers

SCHEMA = 1
LAST_EPOCHS = 3
GAP_WEIGHT = 0.1
DONE, FAILED = "done", "failed"
GRADIENT_KEY = "train/gradient_norm"
"""Column of metrics.csv with the mean norm of the gradient in an epoch."""


@dataclass(frozen=True)
class Epoch:
    """One epoch of a point; `gradient_norm` is None where the run logged none."""

    epoch: int
    train_loss: float
    val_loss: float
    gradient_norm: float | None


@dataclass(frozen=True)
class Point:
    """One learning rate.

    Attributes:
        lr: The rate.
        status: "done" or "failed".
        score: To be minimised; None for a failed one.
        reason: Why it failed, "" otherwise.
        run: Path of the run directory.
        seconds: Of the fit, None where unknown.
        samples: That the fit went through, None where unknown.
        epochs: What each epoch was.
    """

    lr: float
    status: str
    score: float | None
    reason: str
    run: str
    seconds: float | None = None
    samples: int | None = None
    epochs: list[Epoch] = field(default_factory=list)


def read_epochs(path: Path) -> list[Epoch]:
    """Read a run's metrics.csv; an absent file is a run that did not reach the end of an epoch.

    Raises:
        DataError: If a column is missing or a cell is no number.
    """
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    try:
        return [
            Epoch(int(line["epoch"]), float(line["train/loss"]), float(line["val/loss"]), _gradient(line))
            for line in lines
        ]
    except (KeyError, ValueError) as error:
        raise DataError(f"{path} has no numbers for epoch, train/loss and val/loss ({error!r}).") from error


def _gradient(line: dict[str, str]) -> float | None:
    text = line.get(GRADIENT_KEY)
    return float(text) if text else None


def score(epochs: Sequence[Epoch]) -> float:
    """Mean of the last three validation losses + 0.1 |train - val| in the last epoch; smaller is better.

    Raises:
        ValueError: Without an epoch.

    Example:
        >>> score([Epoch(0, 3.0, 2.0, None), Epoch(1, 1.0, 1.0, None)])
        1.5
    """
    if not epochs:
        raise ValueError("there is no epoch to score; at least 1 is needed")
    last = [epoch.val_loss for epoch in epochs[-LAST_EPOCHS:]]
    gap = abs(epochs[-1].train_loss - epochs[-1].val_loss)
    return sum(last) / len(last) + GAP_WEIGHT * gap


def make_point(lr: float, run: Path, fit: dict[str, Any] | None, failure: str | None) -> Point:
    """What a finished or failed run says about its rate.

    Args:
        lr: The rate.
        run: Run directory.
        fit: What the run noted about its fit: {"seconds", "samples"}; None where it is not complete.
        failure: Why it failed, None where it did not.
    """
    epochs = read_epochs(run / "metrics.csv")
    finite = [epoch for epoch in epochs if math.isfinite(epoch.train_loss) and math.isfinite(epoch.val_loss)]
    if failure is None and (not epochs or len(finite) < len(epochs)):
        failure = "a loss in metrics.csv is not finite" if epochs else "metrics.csv has no epoch"
    times = {} if fit is None else {"seconds": fit.get("seconds"), "samples": fit.get("samples")}
    if failure is not None:
        return Point(lr, FAILED, None, failure, str(run), epochs=finite, **times)
    return Point(lr, DONE, score(epochs), "", str(run), epochs=epochs, **times)


def ranked(points: Sequence[Point]) -> list[Point]:
    """Best first; failed ones last, the smaller rate first among equals."""
    return sorted(points, key=lambda point: (math.inf if point.score is None else point.score, point.lr))


def edge_sentence(points: Sequence[Point]) -> str:
    """What to do where no rate was tried on one side of the best; "" where there is one on both, failed ones counted.

    A failed rate above the best bounds the search: larger ones would fail as well.

    Example:
        >>> edge_sentence([Point(1e-4, "done", 1.0, "", ""), Point(5e-4, "failed", None, "not finite", "")])
        'the best rate 0.0001 is the smallest of those tried: a better one may lie beyond; widen --rates downwards'
    """
    best = ranked(points)[0]
    rates = sorted(point.lr for point in points)
    if best.score is None or rates[0] < best.lr < rates[-1]:
        return ""
    if len(rates) == 1:
        return f"the best rate {best.lr:g} is the only one tried: a better one may lie on either side; widen --rates"
    place, way = ("smallest", "downwards") if best.lr == rates[0] else ("largest", "upwards")
    return f"the best rate {best.lr:g} is the {place} of those tried: a better one may lie beyond; widen --rates {way}"


def write_sweep(folder: Path, points: Sequence[Point], facts: dict[str, Any]) -> Point:
    """Write lr_sweep_results.json, table.csv, one CSV a rate, stage_0.png and, last, optimal_lr.json.

    Args:
        folder: Of the sweep.
        points: All its points.
        facts: What else lr_sweep_results.json says.

    Returns:
        The best point.

    Raises:
        DataError: If no point has a score; optimal_lr.json is then not written.
    """
    order = ranked(points)
    for point in order:
        write_text(folder / f"lr_{point.lr:g}.csv", _epochs_csv(point))
    write_text(folder / "table.csv", _table_csv(order))
    edge = edge_sentence(order)
    told = {"at_edge": bool(edge), "note": edge}
    write_json(
        folder / "lr_sweep_results.json",
        {"schema": SCHEMA, **facts, **told, "points": [asdict(point) for point in order]},
    )
    write_bytes(folder / "stage_0.png", png_bytes(sweep_figure(order)))
    best = order[0]
    if best.score is None:
        raise DataError(f"no rate of the sweep {folder} has a score; the first failed with: {best.reason}")
    content = {"schema": SCHEMA, "lr": best.lr, "score": best.score, "points": len(order), "at_edge": bool(edge)}
    write_json(folder / "optimal_lr.json", content)
    return best


def _epochs_csv(point: Point) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["epoch", "train_loss", "val_loss", "gradient_norm"])
    for epoch in point.epochs:
        norm = "" if epoch.gradient_norm is None else repr(epoch.gradient_norm)
        writer.writerow([epoch.epoch, repr(epoch.train_loss), repr(epoch.val_loss), norm])
    return table.getvalue()


def _table_csv(order: Sequence[Point]) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["rank", "lr", "status", "score", "epochs", "last_train_loss", "last_val_loss", "reason", "run"])
    for rank, point in enumerate(order, start=1):
        last = [repr(point.epochs[-1].train_loss), repr(point.epochs[-1].val_loss)] if point.epochs else ["", ""]
        shown = "" if point.score is None else repr(point.score)
        writer.writerow([rank, repr(point.lr), point.status, shown, len(point.epochs), *last, point.reason, point.run])
    return table.getvalue()


def sweep_figure(order: Sequence[Point]) -> Figure:
    """Scores against the rate, and the validation loss of each rate over the epochs."""
    figure = new_figure(9.5, 3.8)
    left, right = figure.subplots(1, 2)
    scored = sorted((point for point in order if point.score is not None), key=lambda point: point.lr)
    left.plot([point.lr for point in scored], [point.score or 0.0 for point in scored], "o-", color=BLUE)
    if scored:
        left.plot([order[0].lr], [order[0].score or 0.0], "D", color=VERMILION, ms=9, label=f"best: {order[0].lr:g}")
        left.legend(fontsize=8)
    for point in order:
        if point.score is None:
            left.axvline(point.lr, color=GREY, ls=":", lw=1.2)
            left.annotate(
                f"{point.lr:g} failed", (point.lr, 0.02), xycoords=("data", "axes fraction"), rotation=90, fontsize=7.5
            )
    left.set_xscale("log")
    dress(left, "Score of each rate (smaller is better)", "learning rate", "score")
    for number, point in enumerate(sorted(order, key=lambda point: point.lr)):
        epochs = [epoch.epoch + 1 for epoch in point.epochs]
        losses = [epoch.val_loss for epoch in point.epochs]
        right.plot(epochs, losses, "o-", color=SERIES[number % len(SERIES)], ms=3.5, lw=1.3, label=f"{point.lr:g}")
    right.legend(fontsize=8, title="rate", title_fontsize=8)
    whole_numbers(right)
    dress(right, "Validation loss", "epoch", "loss")
    return figure
