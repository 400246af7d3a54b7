"""Two finished cross-validations of the same folds against each other: final minus final, paired by group."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table
from rich.text import Text

from projects.spectra.cross_validation.comparison import METRICS, statistics_of
from projects.spectra.cross_validation.job import PREDICTIONS
from projects.spectra.cross_validation.pages import HEADINGS
from shared.cross_validation.rounds import load_rows
from shared.errors import DataError
from shared.report import wording
from shared.report.evaluation import FINAL, Intervals
from shared.report.outputs import CurveOutputs
from shared.run_dir import RunDirectory


@dataclass(frozen=True, eq=False)
class Result:
    """A finished cross-validation.

    Attributes:
        path: Its directory.
        content: Of cross_validation.json.
        outputs: Curves of all rows for all N samples.
        group: (N,) codes.
        round_of: (N,) the round that tested a sample.
    """

    path: Path
    content: dict[str, Any]
    outputs: CurveOutputs
    group: NDArray[np.int32]
    round_of: NDArray[np.int64]

    @property
    def name(self) -> str:
        """Experiment and run."""
        return f"{self.content['experiment']} {self.path.name}"


def read_result(path: Path) -> Result:
    """Read the directory of a finished cross-validation.

    Raises:
        ConfigError: If the folder is no run directory.
        DataError: If it is not finished, or a file is missing or damaged.
    """
    run = RunDirectory.open(path.resolve())
    page = run.path / "cross_validation.json"
    if run.status()["state"] != "done" or not page.is_file():
        raise DataError(f"{path} is no finished cross-validation of this project; it needs {page.name} and state done")
    outputs = load_rows(run.path / PREDICTIONS)
    if not isinstance(outputs, CurveOutputs):
        raise DataError(f"{run.path / PREDICTIONS} holds no curves; is it of this project?")
    with np.load(run.path / PREDICTIONS, allow_pickle=False) as archive:
        group, round_of = archive["group"], archive["round"]
    return Result(run.path, json.loads(page.read_text(encoding="utf-8")), outputs, group, round_of)


def compare_results(a: Result, b: Result, *, seed: int = 0, draws: int = 2000) -> dict[str, Any]:
    """Scores of final in both and a minus b, paired by group.

    Args:
        a: First result.
        b: Result that is subtracted.
        seed: Of the group bootstrap.
        draws: Number of bootstrap draws.

    Returns:
        {schema, a: {experiment, run, init_from, scores}, b: the same, difference: {metric: estimate}, n, groups}.

    Raises:
        DataError: If the data, the folds or the curves differ.
    """
    refuse_unlike(a, b)
    intervals = Intervals(seed, draws)
    (ours, groups), (theirs, _) = (
        statistics_of(result.outputs.row(FINAL), result.outputs.target, result.group, result.outputs.axes)
        for result in (a, b)
    )
    sides = {
        side: {
            **{key: result.content[key] for key in ("experiment", "run", "init_from", "seed")},
            "path": str(result.path),
            "scores": {metric: intervals.of(statistics[metric], groups) for metric in METRICS},
        }
        for side, result, statistics in (("a", a, ours), ("b", b, theirs))
    }
    difference = {metric: intervals.of_difference(ours[metric], theirs[metric], groups) for metric in METRICS}
    return {
        "schema": 1,
        **sides,
        "difference": difference,
        "n": len(a.group),
        "groups": groups,
        "axis": a.content["axis"],
    }


def refuse_unlike(a: Result, b: Result) -> None:
    """Refuse two results that do not stand on the same samples, folds and curves.

    Raises:
        DataError: Naming what differs.
    """
    if a.content["data_hash"] != b.content["data_hash"]:
        raise DataError(
            f"{a.name} and {b.name} were made on different data; a paired difference needs the same samples"
        )
    if not np.array_equal(a.round_of, b.round_of):
        count = int((a.round_of != b.round_of).sum())
        raise DataError(f"{a.name} and {b.name} have other folds: {count} samples are tested in different rounds")
    if (a.outputs.axes, a.outputs.sample_shape) != (b.outputs.axes, b.outputs.sample_shape):
        raise DataError(f"{a.name} and {b.name} predict other channels or points of the axis")
    if not np.array_equal(a.outputs.target, b.outputs.target):
        raise DataError(f"{a.name} and {b.name} were tested on different curves of the same patterns")


def paired_table(content: Mapping[str, Any]) -> Table:
    """Return final of both and the difference, one metric a line."""
    a, b = content["a"], content["b"]
    table = Table(
        title=Text(f"final, {content['n']:,} samples from {wording.groups(content['groups'])}, out of fold"),
        title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
        caption=Text(f"A: {a['experiment']} {a['run']}; B: {b['experiment']} {b['run']}", style="dim"),
        caption_justify="left",
    )  # fmt: skip
    for name in ("", f"A: {a['experiment']}", f"B: {b['experiment']}", "A minus B, paired"):
        table.add_column(name)
    unit = content["axis"]["unit"]
    for metric in METRICS:
        heading = HEADINGS[metric] + (f", {unit}" if metric == "peak_shift" and unit else "")
        cells = [wording.value_with_interval(side["scores"][metric]) for side in (a, b)]
        table.add_row(heading, *cells, wording.value_with_interval(content["difference"][metric], signed=True))
    return table
