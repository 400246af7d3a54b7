"""Out-of-fold predictions: each sample's probabilities come from the one round that has not seen it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from projects.battery.cross_validation.rounds import ROWS_FILE, load_rows
from shared.errors import DataError
from shared.folds import FOLDS
from shared.past_run import SPLITS_FILE, PastRun
from shared.report.outputs import TestOutputs
from shared.run_dir import RunDirectory
from shared.sample_index import SampleIndex
from shared.splits import read_splits

TEST = FOLDS.index("test")


@dataclass(frozen=True, eq=False)
class Pooled:
    """The rounds of a cross-validation put together.

    Attributes:
        folds: (R, N) int8, fold code of each sample in each round.
        outputs: Probabilities of every row for all N samples, in the order of the index.
        round_of: (N,) the round that tested a sample.
    """

    folds: NDArray[np.int8]
    outputs: TestOutputs
    round_of: NDArray[np.int64]

    def tested(self, number: int) -> NDArray[np.bool_]:
        """Return (N,) the samples that a round tested."""
        return np.asarray(self.round_of == number)


def pool_rounds(index: SampleIndex, runs: Sequence[RunDirectory]) -> Pooled:
    """Read the finished rounds of a cross-validation.

    Args:
        index: All samples.
        runs: One run a round, in the order of the rounds.

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
    parts = [_outputs(index, run, fold == TEST) for run, fold in zip(runs, folds, strict=True)]
    names = list(parts[0].probs)
    for run, part in zip(runs, parts, strict=True):
        if list(part.probs) != names:
            raise DataError(f"{run.path} has the rows {', '.join(part.probs)}; the first round has {', '.join(names)}")
    order = np.argsort(np.concatenate([part.rows for part in parts]))
    probs = {name: np.concatenate([part.row(name) for part in parts])[order] for name in names}
    pooled = TestOutputs(probs=probs, target=index.label.astype(np.int64), rows=np.arange(len(index)))
    return Pooled(folds, pooled, (folds == TEST).argmax(axis=0))


def _folds(index: SampleIndex, run: RunDirectory, number: int) -> NDArray[np.int8]:
    """Fold of each sample in a finished round."""
    status = run.status()
    if status["state"] != "done":
        raise DataError(f"round {number + 1} is {status['state']}, not done: {run.path}")
    if status["stages"]["check"]["data_hash"] != index.data_hash():
        raise DataError(f"round {number + 1} was made on other data than are there now: {run.path}")
    PastRun.read(run.path)  # refuses a splits.csv that was changed
    return read_splits(run.path / SPLITS_FILE, index)


def _outputs(index: SampleIndex, run: RunDirectory, tested: NDArray[np.bool_]) -> TestOutputs:
    """Predictions of a round on exactly the samples that its splits.csv calls test."""
    outputs = load_rows(run.path / ROWS_FILE)
    outputs.check_against(index)
    if not np.array_equal(np.sort(outputs.rows), np.flatnonzero(tested)):
        raise DataError(f"{run.path / ROWS_FILE} is not about the test fold of {run.path / SPLITS_FILE}")
    return outputs
