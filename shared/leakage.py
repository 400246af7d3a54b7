"""The leak guard: does a group, a sample id or the content of a file stand in two folds?

Group and id are what a table claims; the digest is what the file is. A photo copied under a second name, or a battery
scanned once and filed under two numbers, shows in the digest alone.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.digests import equal_runs
from shared.errors import LeakError
from shared.folds import FOLDS
from shared.sample_index import SampleIndex
from shared.splits import check_fold_codes, check_groups_disjoint


@dataclass(frozen=True)
class LeakReport:
    """What was compared across folds, and what is odd without being a leak.

    Attributes:
        checked: What -> how many: `groups`, `ids` and `digests` that were compared, `digests_unchecked` (not
            computed), `identical_in_fold` (samples whose content occurs again in the same fold) and
            `identical_other_label` (samples whose content occurs again with another label).
        ok: No leak was found in what was compared; a leak raises, so a report always says True.
        warnings: One sentence each, for the report of the run.
    """

    checked: dict[str, int]
    ok: bool
    warnings: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the entry `data.leakage` of report.json."""
        return {"checked": dict(self.checked), "ok": self.ok}


def check_leakage(index: SampleIndex, fold: NDArray[np.int8]) -> LeakReport:
    """Compare groups, sample ids and content digests across folds.

    Args:
        index: N samples.
        fold: (N,) int8 fold codes.

    Returns:
        Counts of what was compared, and warnings for identical content inside a fold or with different labels.

    Raises:
        LeakError: A group, an id or the same content is in two folds; names one example, the count and the remedy.
        DataError: The fold codes are not of this index.
    """
    check_fold_codes(index, fold)
    check_groups_disjoint(index, fold)
    duplicate = index.ids.first_duplicate()
    if duplicate is not None:
        raise LeakError(f"sample id {duplicate!r} stands twice in the index; each id must be unique: scan again.")
    rows = np.flatnonzero(index.has_digest())
    order, start = equal_runs(index.digest[rows])
    rows = rows[order]
    _check_content_across(index, fold, rows, start)
    sizes = np.diff(np.append(start, len(rows)))
    repeated = sizes > 1
    lowest, highest = _extremes(index.label[rows], start)
    other_label = lowest != highest
    checked = {
        "groups": len(np.unique(index.group)),
        "ids": len(index),
        "digests": len(rows),
        "digests_unchecked": len(index) - len(rows),
        "identical_in_fold": int(sizes[repeated].sum()),
        "identical_other_label": int(sizes[other_label].sum()),
    }
    return LeakReport(checked=checked, ok=True, warnings=_warnings(index, checked, rows, start, repeated, other_label))


def _extremes(values: NDArray[Any], start: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the smallest and largest value of every run."""
    if len(start) == 0:
        return values, values
    return np.minimum.reduceat(values, start), np.maximum.reduceat(values, start)


def _check_content_across(
    index: SampleIndex, fold: NDArray[np.int8], rows: NDArray[np.int64], start: NDArray[np.int64]
) -> None:
    """Refuse a content that is in two folds."""
    lowest, highest = _extremes(fold[rows], start)
    torn = np.flatnonzero(lowest != highest)
    if len(torn) == 0:
        return
    run = torn[0]
    stop = start[run + 1] if run + 1 < len(start) else len(rows)
    members = rows[start[run] : stop]
    first = int(members[fold[members] == lowest[run]][0])
    second = int(members[fold[members] == highest[run]][0])
    raise LeakError(
        f"samples {index.ids[first]!r} ({FOLDS[lowest[run]]}, group {index.group_name(first)!r}) and "
        f"{index.ids[second]!r} ({FOLDS[highest[run]]}, group {index.group_name(second)!r}) are the same file, as are "
        f"{len(torn)} content(s) in all that stand in more than one fold; delete the copies or give both the same "
        "group, then split again."
    )


def _warnings(
    index: SampleIndex,
    checked: dict[str, int],
    rows: NDArray[np.int64],
    start: NDArray[np.int64],
    repeated: NDArray[np.bool_],
    other_label: NDArray[np.bool_],
) -> list[str]:
    """Put the counts that deserve attention into sentences, each with an example."""
    found: list[str] = []
    if checked["digests_unchecked"]:
        found.append(
            f"{checked['digests_unchecked']} of {len(index)} samples have no content digest: "
            "identical files in two folds would not be seen among them."
        )
    for key, runs, what in (
        ("identical_in_fold", repeated, "have the same content as another sample of their fold"),
        ("identical_other_label", other_label, "have the same content as a sample with another label"),
    ):
        if checked[key]:
            run = int(np.flatnonzero(runs)[0])
            members = rows[start[run] : start[run + 1] if run + 1 < len(start) else len(rows)]
            by_label = members[np.argsort(index.label[members], kind="stable")]  # so that the two differ where any do
            pair = f"{index.ids[int(by_label[0])]!r} and {index.ids[int(by_label[-1])]!r}"
            found.append(f"{checked[key]} samples {what}, for example the file of {pair}.")
    return found
