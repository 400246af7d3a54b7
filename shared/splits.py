"""Group-disjoint, stratified folds, and the file `splits.csv` that stores them.

Shares are shares of groups, not of samples: 1,000 slices of 12 batteries are 12 independent observations, so a fold is
as large as the number of batteries in it. The splitter itself is `shared.stratify`.
"""

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from shared.atomic import write_bytes
from shared.errors import ConfigError, DataError, LeakError
from shared.folds import FOLDS
from shared.sample_index import SampleIndex
from shared.stratify import membership, stratify_groups

PUBLISHED_DEV_SHARES: dict[str, float] = {"val": 0.4, "accept": 0.3, "calibrate": 0.3}
"""How the validation part of a published split is cut; its test part stays what it is."""

_PUBLISHED_NAMES = {"train": "train", "val": "val", "dev": "val", "validation": "val", "test": "test"}
MOST_ABSENT_BY_NAME = 4
"""Classes absent from a fold that get a sentence each; more are told in one."""

_COLUMNS = ["sample_id", "group", "label", "fold"]


def split_groups(label: NDArray[Any], group: NDArray[Any], shares: Mapping[str, float], seed: int) -> NDArray[np.int8]:
    """Assign every group to one fold so that the groups of each class spread over the folds in proportion.

    The result depends on the group codes, the classes in each group and the seed, not on the order of the rows.

    Args:
        label: (N,) integer class codes.
        group: (N,) integer group codes.
        shares: Fold name -> share of the groups, in [0, 1], summing to 1; a fold left out stays empty.
        seed: Which of the equally good splits is drawn.

    Returns:
        (N,) int8 fold codes, positions in `FOLDS`. Fold sizes in groups are the shares rounded by largest remainder,
        at least one group each. Every class is in train.

    Raises:
        ConfigError: A share is negative, names no fold, or they do not sum to 1, or train has none.
        DataError: There are fewer groups than folds, or train is too small to hold every class.
    """
    _check_shares(shares)
    names = [name for name in FOLDS if shares.get(name, 0.0) > 0]
    return _assign(label, group, {name: shares[name] for name in names}, seed, cover="train")


def cut_published(published: NDArray[np.str_], label: NDArray[Any], group: NDArray[Any], seed: int) -> NDArray[np.int8]:
    """Turn a published train/val/test split into five folds: the test part stays, val is cut by group 40/30/30.

    Whether the published parts share a group is left to `check_folds`, which can name it.

    Args:
        published: (N,) strings: train, val (or dev, validation), test.
        label: (N,) integer class codes.
        group: (N,) integer group codes.
        seed: Seed of the cut of val into val, accept and calibrate.

    Returns:
        (N,) int8 fold codes.

    Raises:
        DataError: Another name is found, a part is missing, or val has fewer than three groups.
    """
    values, inverse = np.unique(np.asarray(published), return_inverse=True)
    unknown = [str(value) for value in values if str(value) not in _PUBLISHED_NAMES]
    if unknown:
        raise DataError(f"the published split says {unknown[0]!r}; allowed are {', '.join(_PUBLISHED_NAMES)}.")
    codes = np.array([FOLDS.index(_PUBLISHED_NAMES[str(value)]) for value in values], dtype=np.int8)
    fold = codes[inverse.reshape(-1)] if len(values) else np.zeros(0, dtype=np.int8)
    missing = [name for name in ("train", "val", "test") if FOLDS.index(name) not in codes]
    if missing:
        raise DataError(f"the published split has no {missing[0]!r} part; split the set by group instead.")
    dev = fold == FOLDS.index("val")
    try:
        fold[dev] = _assign(np.asarray(label)[dev], np.asarray(group)[dev], PUBLISHED_DEV_SHARES, seed, cover=None)
    except DataError as error:
        raise DataError(f"the published val part cannot be cut into val, accept and calibrate: {error}") from error
    return fold


def kfold_groups(label: NDArray[Any], group: NDArray[Any], num_folds: int, seed: int) -> NDArray[np.int8]:
    """Number the rows 0 .. num_folds - 1 for a cross-validation that keeps groups together and classes in proportion.

    Args:
        label: (N,) integer class codes.
        group: (N,) integer group codes.
        num_folds: Number of parts, 2 to 127.
        seed: Seed of the shuffle of groups.

    Returns:
        (N,) int8: the part in which a row is held out.

    Raises:
        ConfigError: `num_folds` is outside 2 .. 127.
        DataError: There are fewer groups than parts, or no class has a sample for each part.
    """
    if not 2 <= num_folds <= 127:
        raise ConfigError(f"num_folds is {num_folds}; allowed are 2 to 127.")
    num_groups = len(np.unique(group))
    if num_groups < num_folds:
        raise DataError(f"{num_folds} folds need at least {num_folds} groups, found {num_groups}.")
    splitter = StratifiedGroupKFold(n_splits=num_folds, shuffle=True, random_state=seed)
    part = np.full(len(label), -1, dtype=np.int8)
    try:
        for number, (_, held_out) in enumerate(splitter.split(np.zeros(len(label)), label, group)):
            part[held_out] = number
    except ValueError as error:
        raise DataError(f"a cross-validation in {num_folds} folds is not possible: {error}") from error
    empty = sorted(set(range(num_folds)) - set(part.tolist()))
    if empty:
        raise DataError(f"the groups are too uneven for {num_folds} folds: fold {empty[0]} would be empty; use fewer.")
    return part


def check_folds(index: SampleIndex, fold: NDArray[np.int8]) -> list[str]:
    """Check that folds are fit to train on; return what is weak about them, one sentence each.

    Args:
        index: N samples.
        fold: (N,) int8 fold codes.

    Returns:
        A warning for every empty fold and for every class absent from a fold other than train.

    Raises:
        LeakError: A group is in two folds.
        DataError: A fold code is unknown, train or val is empty, or a class is absent from train.
    """
    check_fold_codes(index, fold)
    check_groups_disjoint(index, fold)
    samples = np.zeros((len(FOLDS), len(index.classes)), dtype=np.int64)
    np.add.at(samples, (fold, index.label), 1)
    for name in ("train", "val"):
        if not samples[FOLDS.index(name)].any():
            raise DataError(f"fold {name!r} holds no sample of the {len(index)}; train and val must not be empty.")
    for code, class_name in enumerate(index.classes):
        if samples[0, code] == 0:
            elsewhere = [name for name, row in zip(FOLDS, samples, strict=True) if row[code]]
            where = f"only in {', '.join(elsewhere)}" if elsewhere else "in no sample at all"
            raise DataError(f"class {class_name!r} is absent from train and stands {where}; a model cannot learn it.")
    return _warnings(index, samples)


def check_fold_codes(index: SampleIndex, fold: NDArray[np.int8]) -> None:
    """Refuse fold codes of the wrong length or dtype, or outside the five folds.

    Raises:
        DataError: As said.
    """
    if fold.shape != (len(index),) or fold.dtype != np.int8:
        raise DataError(
            f"fold codes must be int8 of shape ({len(index)},), one a sample, found {fold.dtype} of {fold.shape}."
        )
    if len(fold) and (fold.min() < 0 or fold.max() >= len(FOLDS)):
        raise DataError(f"fold codes run from {fold.min()} to {fold.max()}; allowed are 0 to {len(FOLDS) - 1}.")


def check_groups_disjoint(index: SampleIndex, fold: NDArray[np.int8]) -> None:
    """Refuse folds that share a group.

    Raises:
        LeakError: Names one group with two of its folds, and how many groups are torn.
    """
    present = np.zeros((len(index.group_names), len(FOLDS)), dtype=np.bool_)
    present[index.group, fold] = True
    torn = np.flatnonzero(present.sum(axis=1) > 1)
    if len(torn):
        folds = [FOLDS[code] for code in np.flatnonzero(present[torn[0]])]
        raise LeakError(
            f"group {index.group_names[int(torn[0])]!r} is in the folds {' and '.join(folds)} "
            f"({len(torn)} group(s) in more than one fold); a group must stay in one: split again by group."
        )


def write_splits(path: Path, index: SampleIndex, fold: NDArray[np.int8]) -> str:
    """Write `splits.csv` (sample_id, group, label, fold) atomically in the order of the index.

    Returns:
        The sha256 (hex) of the file.
    """
    check_fold_codes(index, fold)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    groups = index.group_names.to_list()
    for sample_id, group, label, code in zip(index.ids, index.group, index.label, fold, strict=True):
        writer.writerow((sample_id, groups[group], index.classes[label], FOLDS[code]))
    content = text.getvalue().encode("utf-8")
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def iterate_splits(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield (sample_id, group, label, fold) for every row of a `splits.csv`, without holding the file.

    Raises:
        DataError: The file is missing, is no such table, or names an unknown fold.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = csv.reader(stream, strict=True)
            header = next(rows, [])
            if header != _COLUMNS:
                raise DataError(f"{path} has the columns {header}; expected are {_COLUMNS}.")
            for row in rows:
                if len(row) != len(_COLUMNS):
                    raise DataError(f"{path} line {rows.line_num} has {len(row)} values, not {len(_COLUMNS)}.")
                if row[3] not in FOLDS:
                    raise DataError(
                        f"{path} line {rows.line_num} names the fold {row[3]!r}; allowed are {', '.join(FOLDS)}."
                    )
                yield row[0], row[1], row[2], row[3]
    except FileNotFoundError as error:
        raise DataError(f"the split file {path} does not exist.") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no readable CSV file in UTF-8 ({error}).") from error


def read_splits(path: Path, index: SampleIndex) -> NDArray[np.int8]:
    """Read the fold of every sample of `index` from `splits.csv`; the rows may stand in any order.

    Returns:
        (N,) int8 fold codes in the order of the index.

    Raises:
        DataError: An id is missing, unknown or stands twice, a fold is unknown, or a group or label contradicts the
            index.
    """
    rows = {sample_id: row for row, sample_id in enumerate(index.ids)}
    codes = {name: code for code, name in enumerate(FOLDS)}
    groups = index.group_names.to_list()
    fold = np.full(len(index), -1, dtype=np.int8)
    for sample_id, group, label, name in iterate_splits(path):
        row = rows.get(sample_id)
        if row is None:
            raise DataError(f"{path} holds sample {sample_id!r}, which is not in the data set; rebuild the split.")
        if fold[row] >= 0:
            raise DataError(f"{path} holds sample {sample_id!r} twice; each sample has one fold.")
        known = (groups[index.group[row]], index.classes[index.label[row]])
        if (group, label) != known:
            raise DataError(
                f"{path} says group {group!r} and label {label!r} for sample {sample_id!r}, the data set says "
                f"{known[0]!r} and {known[1]!r}; rebuild the split."
            )
        fold[row] = codes[name]
    missing = np.flatnonzero(fold < 0)
    if len(missing):
        raise DataError(
            f"{path} lacks {len(missing)} of {len(index)} samples, first {index.ids[int(missing[0])]!r}; "
            "rebuild the split."
        )
    return fold


def _check_shares(shares: Mapping[str, float]) -> None:
    """Refuse shares that are no distribution over folds."""
    for name, share in shares.items():
        if name not in FOLDS:
            raise ConfigError(f"shares name the fold {name!r}; allowed are {', '.join(FOLDS)}.")
        if not 0 <= share <= 1:
            raise ConfigError(f"the share of fold {name!r} is {share}; allowed is 0 to 1.")
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise ConfigError(f"the shares of the folds sum to {sum(shares.values()):g}; they must sum to 1.")
    if shares.get("train", 0.0) == 0:
        raise ConfigError("fold 'train' has no share of the groups; it must have one.")


def _assign(
    label: NDArray[Any], group: NDArray[Any], shares: Mapping[str, float], seed: int, cover: str | None
) -> NDArray[np.int8]:
    """Split the groups by positive `shares`; every class reaches the fold `cover`, if one is named."""
    if np.shape(label) != np.shape(group) or np.ndim(label) != 1:
        raise DataError(f"labels and groups must be flat and equally long, found {np.shape(label)}, {np.shape(group)}.")
    group_of_row, member = membership(label, group)
    names = list(shares)
    if len(member) < len(names):
        raise DataError(
            f"{len(names)} groups are needed, one for each of {', '.join(names)}, found {len(member)}: "
            "add groups (batteries, pills, stories) or use fewer folds."
        )
    # One thread: on small matrices two wait for each other (measured 2026-11-21 at 2,000 groups: 3 s against 15 s).
    with threadpool_limits(1):
        position = stratify_groups(
            member, np.array(list(shares.values())), seed, None if cover is None else names.index(cover)
        )
    codes = np.array([FOLDS.index(name) for name in names], dtype=np.int8)
    return codes[position][group_of_row]


def _warnings(index: SampleIndex, samples: NDArray[np.int64]) -> list[str]:
    """Name empty folds and classes absent from folds; `samples` is (folds, classes) counts."""
    found: list[str] = []
    for name, row in zip(FOLDS[1:], samples[1:], strict=True):
        if not row.any():
            found.append(f"fold {name!r} is empty: what it is for will decline.")
            continue
        absent = np.flatnonzero(row == 0)
        if len(absent) > MOST_ABSENT_BY_NAME:
            named = ", ".join(index.classes[code] for code in absent[:MOST_ABSENT_BY_NAME])
            found.append(
                f"{len(absent)} of {len(index.classes)} classes are absent from fold {name!r} ({named}, ...): "
                "no interval for them there."
            )
            continue
        for code in absent:
            num_groups = len(np.unique(index.group[index.label == code]))
            found.append(
                f"class {index.classes[code]!r} is absent from fold {name!r} "
                f"({num_groups} group(s) hold it in all): no interval for it there."
            )
    return found
