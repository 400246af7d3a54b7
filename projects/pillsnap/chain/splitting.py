"""Cut the groups of a data set into the five folds, in proportion by class and by domain."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projects.pillsnap.chain.captures import DOMAINS, OTHER, PhotoRow
from projects.pillsnap.chain.class_mapping import ClassMapping
from projects.pillsnap.chain.files import CAPTURES, MAPPING, SPLITS, json_bytes, write_if_changed
from projects.pillsnap.chain.integrated import read_integrated
from projects.pillsnap.chain.splits_file import OTHER_PARTS, Splits, splits_content
from shared.folds import FOLDS
from shared.splits import split_groups

DEFAULT_SHARES: Mapping[str, float] = MappingProxyType(
    {"train": 0.80, "val": 0.05, "accept": 0.03, "calibrate": 0.02, "test": 0.10}
)
"""Shares of the groups of each class, from the contract."""

BY_CLASS, BY_CLASS_AND_DOMAIN = "class", "class and domain"
MAX_SETS = 256
"""Different sets of classes and domains in one group up to which `shared.stratify` swaps groups."""


@dataclass(frozen=True)
class SplitSummary:
    """What a split came to.

    Attributes:
        splits: The fold of each photo.
        counts: Fold -> groups, images, studio, real.
        absent: Fold -> K-codes that have no photo in it.
        others: tune and test -> classes, images.
        changed: Whether `splits.json` was written; False where it stood there already.
    """

    splits: Splits
    counts: Mapping[str, Mapping[str, int]]
    absent: Mapping[str, list[str]]
    others: Mapping[str, Mapping[str, int]]
    changed: bool


def split(dataset: Path, *, seed: int = 0, shares: Mapping[str, float] = DEFAULT_SHARES) -> SplitSummary:
    """Write `splits.json`; an equal one is left as it is.

    Args:
        dataset: Folder of the data set, after `integrate`.
        seed: Which of the equally good splits is drawn.
        shares: Fold -> share of the groups, summing to 1.

    Raises:
        ConfigError: The shares are no distribution over the folds.
        DataError: An earlier step is missing, or ran again on other inputs, or there are too few groups.
    """
    mapping, rows, captures_sha256 = read_integrated(dataset)
    known = [row for row in rows if row.domain != OTHER]
    fold, stratified_by = _folds(known, mapping, shares, seed)
    splits = Splits(
        fold={row.path: name for row, name in zip(known, fold, strict=True)},
        part=_parts([row for row in rows if row.domain == OTHER], seed),
        seed=seed,
        stratified_by=stratified_by,
        shares={name: float(shares.get(name, 0.0)) for name in FOLDS},
    )
    content = splits_content(rows, mapping, splits, {MAPPING: mapping.sha256, CAPTURES: captures_sha256})
    changed = write_if_changed(dataset / SPLITS, json_bytes(content))
    return _summary(rows, mapping, splits, changed)


def _folds(
    rows: list[PhotoRow], mapping: ClassMapping, shares: Mapping[str, float], seed: int
) -> tuple[list[str], str]:
    """Return the name of the fold of each row, and by what the groups were stratified."""
    index = mapping.class_to_idx
    label = np.array([index[row.kcode] for row in rows], dtype=np.int64)
    domain = np.array([DOMAINS.index(row.domain) for row in rows], dtype=np.int64)
    _, group = np.unique([row.group for row in rows], return_inverse=True)
    codes, stratified_by = [label], BY_CLASS
    # `split_groups` stratifies a group by all codes that its rows carry, so a row may stand there several times: with
    # its class, with its domain, and with both as one.
    if _domains_count(label, domain, group, shares.get("train", 0.0)):
        codes += [len(index) + domain, len(index) + len(DOMAINS) + len(DOMAINS) * label + domain]
        stratified_by = BY_CLASS_AND_DOMAIN
    assigned = split_groups(np.concatenate(codes), np.tile(group, len(codes)), shares, seed)[: len(rows)]
    return [FOLDS[code] for code in assigned], stratified_by


def _domains_count(
    label: NDArray[np.int64], domain: NDArray[np.int64], group: NDArray[Any], train_share: float
) -> bool:
    """Tell whether domains can be balanced within classes: train has room for twice the strata, and they are few.

    Above 256 different sets of codes `split_groups` leaves out the swaps that even out its folds; without them the
    small folds would be filled with studio photos alone, which come first because they are fewer.
    """
    strata = len(np.unique(len(DOMAINS) * label + domain))
    sets = {tuple(codes) for codes in _codes_of_groups(len(DOMAINS) * label + domain, group)}
    return len(sets) <= MAX_SETS and 2 * strata <= train_share * len(np.unique(group))


def _codes_of_groups(codes: NDArray[np.int64], group: NDArray[Any]) -> list[list[int]]:
    """Return the sorted different codes of each group."""
    pairs = np.unique(np.stack([group, codes], axis=1), axis=0)
    starts = np.flatnonzero(np.diff(pairs[:, 0])) + 1
    return [part.tolist() for part in np.split(pairs[:, 1], starts)]


def _parts(rows: list[PhotoRow], seed: int) -> dict[str, str]:
    """Give each drug that is none of the classes to one part, half of them to each; the odd one to test."""
    kcodes = sorted({row.kcode for row in rows})
    order = np.random.default_rng(seed).permutation(len(kcodes))
    tune = {kcodes[position] for position in order[: len(kcodes) // 2]}
    return {row.path: OTHER_PARTS[0] if row.kcode in tune else OTHER_PARTS[1] for row in rows}


def _summary(rows: list[PhotoRow], mapping: ClassMapping, splits: Splits, changed: bool) -> SplitSummary:
    """Count groups and photos of each fold."""
    counts: dict[str, dict[str, int]] = {}
    absent: dict[str, list[str]] = {}
    for name in FOLDS:
        inside = [row for row in rows if splits.fold.get(row.path) == name]
        domains = Counter(row.domain for row in inside)
        counts[name] = {"groups": len({row.group for row in inside}), "images": len(inside)}
        counts[name] |= {domain: domains[domain] for domain in DOMAINS}
        present = {row.kcode for row in inside}
        absent[name] = [kcode for kcode in mapping.classes if kcode not in present]
    others: dict[str, dict[str, int]] = {}
    for part in OTHER_PARTS:
        inside = [row for row in rows if splits.part.get(row.path) == part]
        others[part] = {"classes": len({row.kcode for row in inside}), "images": len(inside)}
    return SplitSummary(splits, counts, absent, others, changed)
