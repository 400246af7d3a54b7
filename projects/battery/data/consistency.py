"""What a data owner wants to see before training: bad files by reason, and how often each battery shows a defect."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from projects.battery.data.labels import NORMAL_CLASSES
from projects.battery.data.scan import SkippedFile
from shared.atomic import write_text
from shared.sample_index import SampleIndex

BAD_FILE_KINDS: tuple[str, ...] = (
    "bad image",
    "bad name",
    "no label",
    "two labels",
    "broken label",
    "other image",
    "other size",
    "contradiction",
    "empty box",
    "box outside",
    "unknown class",
    "unknown kind",
)
"""Why a file is left out; "contradiction" is `is_normal` against `defects`."""

RARE_DEFECTS, USUAL_DEFECTS = 0.01, 0.10
"""An axis with fewer defects than the first share, where the other axes exceed the second, gives the label away."""


class DefectRate(NamedTuple):
    """How many slices of one battery along one axis show a defect."""

    battery: str
    axis: str
    num_slices: int
    num_defects: int

    @property
    def rate(self) -> float:
        """Share of slices with a defect, 0 to 1."""
        return self.num_defects / self.num_slices


def is_defect(index: SampleIndex) -> NDArray[np.bool_]:
    """Return (N,) bool: whether a sample's class is one with a defect.

    Raises:
        ValueError: No class of the index is a normal one.
    """
    normal = [code for code, name in enumerate(index.classes) if name in NORMAL_CLASSES]
    if not normal:
        raise ValueError(f"none of the classes {index.classes} is a normal one; known are {sorted(NORMAL_CLASSES)}")
    return ~np.isin(index.label, normal)


def defect_rates(index: SampleIndex) -> list[DefectRate]:
    """Return the defect rate of each battery and axis that has slices, by battery, then by axis.

    Args:
        index: All samples, with the meta column axis.
    """
    axes = (*index.meta_names["axis"], "")  # the last stands for -1, missing
    code = index.meta["axis"].astype(np.int64) % len(axes)
    cell = index.group.astype(np.int64) * len(axes) + code
    size = len(index.group_names) * len(axes)
    slices = np.bincount(cell, minlength=size)
    defects = np.bincount(cell[is_defect(index)], minlength=size)
    rates = [
        DefectRate(
            index.group_names[int(at) // len(axes)], axes[int(at) % len(axes)], int(slices[at]), int(defects[at])
        )
        for at in np.flatnonzero(slices)
    ]
    return sorted(rates, key=lambda rate: (rate.battery, rate.axis))


def write_defect_rates(path: Path, rates: Sequence[DefectRate]) -> None:
    """Write the table as CSV with the columns battery, axis, slices, defects, rate."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["battery", "axis", "slices", "defects", "rate"])
    for rate in rates:
        writer.writerow([rate.battery, rate.axis, rate.num_slices, rate.num_defects, f"{rate.rate:.4f}"])
    write_text(path, text.getvalue())


def bad_file_counts(skipped: Sequence[SkippedFile]) -> dict[str, int]:
    """Return reason -> number of files left out, in the order of `BAD_FILE_KINDS`, reasons that occur only."""
    counts = Counter(file.kind for file in skipped)
    return {kind: counts[kind] for kind in BAD_FILE_KINDS if counts[kind]}


def consistency_findings(index: SampleIndex, skipped: Sequence[SkippedFile] = ()) -> list[str]:
    """Say in sentences what in the labels would teach a network the wrong thing.

    Args:
        index: All samples, with the meta column axis.
        skipped: Files that the scan left out.
    """
    findings: list[str] = []
    contradictions = bad_file_counts(skipped).get("contradiction", 0)
    if contradictions:
        example = next(file for file in skipped if file.kind == "contradiction")
        findings.append(
            f"{contradictions} labels contradict themselves (is_normal against defects), for example {example.path}."
        )
    defect = is_defect(index)
    for code, axis in enumerate(index.meta_names["axis"]):
        on_axis = index.meta["axis"] == code
        if not on_axis.any() or on_axis.all():
            continue
        here, elsewhere = float(defect[on_axis].mean()), float(defect[~on_axis].mean())
        if here < RARE_DEFECTS and elsewhere > USUAL_DEFECTS:
            findings.append(
                f"{here:.2%} of the {int(on_axis.sum())} {axis} slices show a defect, {elsewhere:.1%} of the others: "
                f"a network can learn 'axis {axis} means normal'; compare with data.exclude_axes_from_fit=[{axis}]."
            )
    return findings
