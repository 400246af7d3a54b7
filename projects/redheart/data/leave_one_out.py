"""Folds that leave one subject out: his stories are test, all other subjects are divided among the other folds.

A story that several people rated belongs to none of them: left out with one, it would train with the other. Such
stories, and people standing in two folds, are refused by name; they are not merged into one group, because that would
turn "one subject left out" into "whoever is connected with him left out" without a word.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from projects.redheart.data.subjects import SubjectTable
from shared.errors import DataError, LeakError
from shared.folds import FOLDS
from shared.stratify import quotas

OTHER_SHARES: Mapping[str, float] = MappingProxyType({"train": 0.70, "val": 0.12, "accept": 0.09, "calibrate": 0.09})
"""Shares of the subjects that are not left out: train as large as it may be, the rest 4 / 3 / 3."""

FEWEST_SUBJECTS = len(FOLDS)


def subject_of_stories(
    table: SubjectTable, ids: Sequence[str], left_out: Collection[str] = ()
) -> tuple[NDArray[np.int64], list[str]]:
    """Tell which stories have ratings, and by whom.

    Args:
        table: The ratings.
        ids: N unique story ids.
        left_out: Ids that the quality step removed; ratings of these are passed over.

    Returns:
        (M,) rows of `ids` that were rated, ascending, and the M names of their subjects.

    Raises:
        LeakError: A story was rated by two subjects: it would stand in the fold of each.
        DataError: A rating names a story that is not there.
    """
    row_of = {name: row for row, name in enumerate(ids)}
    rater: dict[int, str] = {}
    for name, subject in zip(table.ids, table.subject, strict=True):
        row = row_of.get(name)
        if row is None and name in left_out:
            continue
        if row is None:
            raise DataError(f"the ratings name the story {name!r}, which the data set does not hold; remove its lines.")
        if rater.setdefault(row, subject) != subject:
            raise LeakError(
                f"story {name!r} was rated by the subjects {rater[row]!r} and {subject!r}: left out with one it would "
                "train with the other; keep one rating a story."
            )
    rows = np.array(sorted(rater), dtype=np.int64)
    return rows, [rater[row] for row in rows.tolist()]


def leave_one_subject_out(
    subject: Sequence[str], shares: Mapping[str, float] = OTHER_SHARES, seed: int = 0
) -> Iterator[tuple[str, NDArray[np.int8]]]:
    """Yield the folds of each round: the left-out subject is test, the others are divided by subject.

    Args:
        subject: (N,) name of each story's subject.
        shares: train, val, accept and calibrate -> share of the other subjects; each gets one at least.
        seed: Of the order in which the others are handed out; it differs from round to round.

    Yields:
        The left-out subject, in the order of the names, and (N,) int8 fold codes.

    Raises:
        DataError: There are fewer than five subjects, or the shares are not of the four folds or do not sum to 1.
    """
    names = sorted(set(subject))
    if len(names) < FEWEST_SUBJECTS:
        raise DataError(f"leaving one subject out needs {FEWEST_SUBJECTS} subjects or more, found {len(names)}.")
    others = [name for name in FOLDS if name != "test"]
    bad = sorted(shares) != sorted(others) or min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-6
    if bad:
        raise DataError(f"the shares are {dict(shares)}; allowed are positive shares of {', '.join(others)}, sum 1.")
    code_of = {name: code for code, name in enumerate(names)}
    codes = np.array([code_of[name] for name in subject], dtype=np.int64)
    for left_out, name in enumerate(names):
        generator = np.random.default_rng([seed, left_out])
        order = generator.permutation([code for code in range(len(names)) if code != left_out])
        counts = quotas(np.array([shares[fold] for fold in others]), len(order))
        of_subject = np.full(len(names), FOLDS.index("test"), dtype=np.int8)
        of_subject[order] = np.repeat([FOLDS.index(fold) for fold in others], counts)
        fold = of_subject[codes]
        check_subject_folds(subject, fold)
        yield name, fold


def check_subject_folds(subject: Sequence[str], fold: NDArray[np.int8]) -> None:
    """Refuse folds in which a subject stands twice.

    Args:
        subject: (N,) name of each story's subject.
        fold: (N,) int8 fold codes.

    Raises:
        LeakError: Names the first such subject with two of his folds, and how many there are.
        ValueError: Lengths differ.
    """
    if fold.shape != (len(subject),):
        raise ValueError(f"fold codes have shape {fold.shape}, expected ({len(subject)},), one a story")
    found: dict[str, set[int]] = {}
    for name, code in zip(subject, fold.tolist(), strict=True):
        found.setdefault(name, set()).add(code)
    torn = sorted(name for name, codes in found.items() if len(codes) > 1)
    if torn:
        folds = " and ".join(FOLDS[code] for code in sorted(found[torn[0]]))
        raise LeakError(
            f"subject {torn[0]!r} is in the folds {folds} ({len(torn)} subject(s) in more than one fold); "
            "a subject must stay in one: split again by subject."
        )
