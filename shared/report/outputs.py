"""What the one pass over the test fold leaves behind: outputs of every row of the table on the same samples."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from shared.curve_scores import CurveAxes
from shared.errors import DataError
from shared.sample_index import SampleIndex


@dataclass(frozen=True, eq=False)
class HeadOutputs:
    """What a head beside the main classes says: D numbers of every sample, each with its own missing targets.

    Attributes:
        names: Of the D numbers.
        predictions: Row name ("last", ..., "final") to (N, D) float64 in [0, 1].
        target: (N, D) float64, anything where masked.
        mask: (N, D) bool, True where there is a target.

    Raises:
        DataError: If an array has another shape, or there is no prediction.
    """

    names: tuple[str, ...]
    predictions: dict[str, NDArray[np.float64]]
    target: NDArray[np.float64]
    mask: NDArray[np.bool_]

    def __post_init__(self) -> None:
        shape = (len(self.target), len(self.names))
        if not self.predictions:
            raise DataError("a head of the test outputs holds no predictions; at least one row is needed.")
        for name, values in {**self.predictions, "target": self.target, "mask": self.mask}.items():
            if values.shape != shape:
                raise DataError(f"the numbers {name!r} have shape {values.shape}; {shape} is needed.")


@dataclass(frozen=True, eq=False)
class TestOutputs:
    """Probabilities of all networks and baselines on the test fold.

    Attributes:
        probs: Row name ("last", "best_single", "final", …, "image_only", "metadata_only", …) to (N, C) float64
            probabilities; rows sum to 1.
        target: (N,) class codes.
        rows: (N,) distinct rows of the sample index.
        uncalibrated: (N, C) probabilities of final before its calibrator, None where it has none.
        heads: What the network's other heads say on the same samples, by head.

    Raises:
        DataError: If an array has another length, or a sample stands twice.
    """

    __test__: ClassVar[bool] = False  # the name begins with Test, and pytest would collect it

    probs: dict[str, NDArray[np.float64]]
    target: NDArray[np.int64]
    rows: NDArray[np.int64]
    uncalibrated: NDArray[np.float64] | None = None
    heads: dict[str, HeadOutputs] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.rows)
        if count == 0 or not self.probs:
            raise DataError(
                "the test outputs hold no sample or no row of probabilities; at least one of each is needed."
            )
        if len(np.unique(self.rows)) != count:
            raise DataError(
                f"the test outputs hold {count - len(np.unique(self.rows))} samples twice; each counts once."
            )
        if self.target.shape != (count,):
            raise DataError(f"target of the test outputs has shape {self.target.shape}; ({count},) is needed.")
        extra = {} if self.uncalibrated is None else {"uncalibrated": self.uncalibrated}
        for name, probs in (self.probs | extra).items():
            if probs.ndim != 2 or len(probs) != count:
                raise DataError(f"probabilities {name!r} have shape {probs.shape}; ({count}, classes) is needed.")
        for name, head in self.heads.items():
            if len(head.target) != count:
                raise DataError(f"the head {name!r} has {len(head.target)} samples; {count} are needed.")

    def row(self, name: str) -> NDArray[np.float64]:
        """Return the (N, C) probabilities of one row.

        Raises:
            DataError: If there is no such row.
        """
        if name not in self.probs:
            raise DataError(f"the test outputs have no row {name!r}; there are {', '.join(self.probs)}.")
        return self.probs[name]

    def check_against(self, index: SampleIndex) -> None:
        """Refuse outputs that belong to another index.

        Raises:
            DataError: If a row does not exist there, a target is not the label there, or C is wrong.
        """
        if self.rows.min() < 0 or self.rows.max() >= len(index):
            raise DataError(f"the test outputs name row {self.rows.max()}; the sample index has {len(index)} rows.")
        wrong = np.flatnonzero(index.label[self.rows] != self.target)
        if len(wrong):
            where = index.ids[int(self.rows[wrong[0]])]
            raise DataError(
                f"the target of {len(wrong)} test samples is not their label in the sample index, e.g. {where}; "
                f"the outputs belong to another index."
            )
        for name, probs in self.probs.items():
            if probs.shape[1] != len(index.classes):
                raise DataError(
                    f"probabilities {name!r} have {probs.shape[1]} columns; the index has {len(index.classes)} classes."
                )


@dataclass(frozen=True, eq=False)
class CurveOutputs:
    """Predicted curves of all networks and baselines on the test fold.

    Attributes:
        predictions: Row name to (N, C, L) float64.
        target: (N, C, L) float64.
        rows: (N,) distinct rows of the sample index.
        axes: What C and L are.
        sample_shape: Of one sample as data and network hold it: (C, L), or (..., L) with the channels in several
            dimensions.

    Raises:
        DataError: If an array has another shape, a sample stands twice, or there is none.
    """

    predictions: dict[str, NDArray[np.float64]]
    target: NDArray[np.float64]
    rows: NDArray[np.int64]
    axes: CurveAxes
    sample_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        count = len(self.rows)
        if count == 0 or not self.predictions:
            raise DataError("the test outputs hold no sample or no row of predictions; at least one of each is needed.")
        if len(np.unique(self.rows)) != count:
            raise DataError(
                f"the test outputs hold {count - len(np.unique(self.rows))} samples twice; each counts once."
            )
        shape = (count, len(self.axes.channels), len(self.axes.values))
        for name, curves in (self.predictions | {"target": self.target}).items():
            if curves.shape != shape:
                raise DataError(f"curves {name!r} have shape {curves.shape}; {shape} is needed.")

    def row(self, name: str) -> NDArray[np.float64]:
        """Return the (N, C, L) predictions of one row.

        Raises:
            DataError: If there is no such row.
        """
        if name not in self.predictions:
            raise DataError(f"the test outputs have no row {name!r}; there are {', '.join(self.predictions)}.")
        return self.predictions[name]
