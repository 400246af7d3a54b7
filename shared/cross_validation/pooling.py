"""Out-of-fold predictions: what is said about each sample comes from the one round that has not seen it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from shared.cross_validation.rounds import ROWS_FILE, load_rows
from shared.errors import DataError
from shared.folds import FOLDS
from shared.past_run import SPLITS_FILE, PastRun
from shared.report.outputs import CurveOutputs, TestOutputs
from shared.run_dir import RunDirectory
from shared.sample_index import SampleIndex
from shared.splits import read_splits

TEST = FOLDS.index("test")

Outputs = TypeVar("Outputs", bound=TestOutputs | CurveOutputs)


@dataclass(frozen=True, eq=False)
class Pooled(Generic[Outputs]):
    """The rounds of a cross-validation put together.

    Attributes:
        folds: (R, N) int8, fold code of each sample in each round.
        outputs: What every row says about all N samples, in the order of the index.
        round_of: (N,) the round that tested a sample.
        partial: Rows that some rounds have and others lack; they are not among the outputs.
    """

    folds: NDArray[np.int8]
    outputs: Outputs
    round_of: NDArray[np.int64]
    partial: tuple[str, ...] = ()

    def tested(self, number: int) -> NDArray[np.bool_]:
        """Return (N,) the samples that a round tested."""
        return np.asarray(self.round_of == number)


def pool_rounds(
    index: SampleIndex, runs: Sequence[RunDirectory], kind: type[Outputs], *, leave_out_partial: bool = False
) -> Pooled[Outputs]:
    """Read the finished rounds of a cross-validation.

    Args:
        index: All samples.
        runs: One run a round, in the order of the rounds.
        kind: `TestOutputs` or `CurveOutputs`, what the rounds must hold.
        leave_out_partial: Leave out a row that some rounds lack, and name it, instead of refusing.

    Raises:
        DataError: If a round is not finished, was made on other data, or its files contradict each other; or if a
            sample is tested in no round or in two. There is no number from an incomplete cross-validation.
    """
    folds = np.stack([_folds(index, run, number) for number, run in enumerate(runs)])
    times = (folds == TEST).sum(axis=0)
    if (times != 1).any():
        row = int(np.flatnonzero(times != 1)[0])
        raise DataError(
            f"{int((times != 1).sum())} of {len(index)} samples are not tested exactly once in {len(runs)} rounds, "
            f"first {index.ids[row]} ({times[row]} times); a round is missing or belongs to another cross-validation"
        )
    parts = [_outputs(index, run, fold == TEST, kind) for run, fold in zip(runs, folds, strict=True)]
    names = _names(parts[0])
    if leave_out_partial:
        names = [name for name in names if all(name in _names(part) for part in parts)]
    else:
        _refuse_partial(parts, runs)
    partial = tuple(dict.fromkeys(name for part in parts for name in _names(part) if name not in names))
    outputs = _joined(index, parts, names)
    assert isinstance(outputs, kind)
    return Pooled(folds, outputs, (folds == TEST).argmax(axis=0), partial)


def _folds(index: SampleIndex, run: RunDirectory, number: int) -> NDArray[np.int8]:
    """Fold of each sample in a finished round."""
    status = run.status()
    if status["state"] != "done":
        raise DataError(f"round {number + 1} is {status['state']}, not done: {run.path}")
    if status["stages"]["check"]["data_hash"] != index.data_hash():
        raise DataError(f"round {number + 1} was made on other data than are there now: {run.path}")
    PastRun.read(run.path)  # refuses a splits.csv that was changed
    return read_splits(run.path / SPLITS_FILE, index)


def _outputs(index: SampleIndex, run: RunDirectory, tested: NDArray[np.bool_], kind: type[Outputs]) -> Outputs:
    """Predictions of a round on exactly the samples that its splits.csv calls test."""
    outputs = load_rows(run.path / ROWS_FILE)
    if not isinstance(outputs, kind):
        raise DataError(f"{run.path / ROWS_FILE} holds {type(outputs).__name__}; {kind.__name__} are needed")
    if isinstance(outputs, TestOutputs):
        outputs.check_against(index)
    if not np.array_equal(np.sort(outputs.rows), np.flatnonzero(tested)):
        raise DataError(f"{run.path / ROWS_FILE} is not about the test fold of {run.path / SPLITS_FILE}")
    return outputs


def _names(part: TestOutputs | CurveOutputs) -> list[str]:
    return list(part.probs if isinstance(part, TestOutputs) else part.predictions)


def _refuse_partial(parts: Sequence[TestOutputs | CurveOutputs], runs: Sequence[RunDirectory]) -> None:
    names = _names(parts[0])
    for run, part in zip(runs, parts, strict=True):
        if _names(part) != names:
            raise DataError(
                f"{run.path} has the rows {', '.join(_names(part))}; the first round has {', '.join(names)}"
            )


def _joined(
    index: SampleIndex, parts: Sequence[TestOutputs | CurveOutputs], names: Sequence[str]
) -> TestOutputs | CurveOutputs:
    """All parts as one, in the order of the index."""
    order = np.argsort(np.concatenate([part.rows for part in parts]))
    rows = {name: np.concatenate([part.row(name) for part in parts])[order] for name in names}
    everyone, first = np.arange(len(index)), parts[0]
    if isinstance(first, TestOutputs):
        return TestOutputs(probs=rows, target=index.label.astype(np.int64), rows=everyone)
    for number, part in enumerate(parts):
        assert isinstance(part, CurveOutputs)
        if (part.axes, part.sample_shape) != (first.axes, first.sample_shape):
            raise DataError(
                f"round {number + 1} predicts {part.sample_shape} over the {part.axes.name} and the first round "
                f"{first.sample_shape} over the {first.axes.name}, or with other channels or points; they must agree"
            )
    target = np.concatenate([part.target for part in parts])[order]
    return CurveOutputs(rows, target, everyone, first.axes, first.sample_shape)
