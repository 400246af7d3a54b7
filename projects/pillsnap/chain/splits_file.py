"""`splits.json`: which photo is in which fold; its form, read and checked against the mapping and the captures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from projects.pillsnap.chain.captures import OTHER, PhotoRow
from projects.pillsnap.chain.class_mapping import ClassMapping
from projects.pillsnap.chain.files import CAPTURES, MAPPING, SPLITS, check_sources, command, parse_json, read_step
from shared.errors import DataError
from shared.folds import FOLDS

VERSION = 1
OTHER_PARTS = ("tune", "test")
"""Parts of the drugs that are none of the classes: 'none of these' is tuned on the one, measured on the other."""


@dataclass(frozen=True)
class Splits:
    """Folds of the photos.

    Attributes:
        fold: Path of a photo of a class -> name of its fold.
        part: Path of a photo of another drug -> tune or test.
        seed: Of the draw.
        stratified_by: What is spread over the folds in proportion: "class and domain", or "class" where there are too
            few groups or too many classes for both.
        shares: Fold -> share of the groups.
    """

    fold: Mapping[str, str]
    part: Mapping[str, str]
    seed: int
    stratified_by: str
    shares: Mapping[str, float]


def splits_content(rows: list[PhotoRow], mapping: ClassMapping, splits: Splits, sources: Mapping[str, str]) -> Any:
    """Return what `splits.json` holds.

    Args:
        rows: All photos, by path.
        mapping: The classes.
        splits: The fold of each photo.
        sources: File name -> sha256 of `class_mapping.json` and `captures.csv`.
    """
    index = mapping.class_to_idx
    folds: dict[str, list[Any]] = {name: [] for name in FOLDS}
    others: dict[str, list[Any]] = {name: [] for name in OTHER_PARTS}
    groups: dict[str, str] = {}
    for row in rows:
        if row.domain == OTHER:
            others[splits.part[row.path]].append({"path": row.path, "kcode": row.kcode})
            continue
        name = splits.fold[row.path]
        groups[row.group] = name
        folds[name].append(
            {
                "path": row.path,
                "label": index[row.kcode],
                "kcode": row.kcode,
                "group": row.group,
                "domain": row.domain,
            }
        )
    return {
        "version": VERSION,
        "seed": splits.seed,
        "stratified_by": splits.stratified_by,
        "shares": dict(splits.shares),
        "sources": dict(sources),
        "groups": dict(sorted(groups.items())),
        "folds": folds,
        "others": others,
    }


def read_splits(dataset: Path, rows: list[PhotoRow], mapping: ClassMapping, captures_sha256: str) -> Splits:
    """Read `splits.json` and check it against the photos and classes that are there now.

    Raises:
        DataError: It is missing or damaged, was made from another mapping or other captures, tears a group, or says of
            a photo something else than `captures.csv`.
    """
    path = dataset / SPLITS
    found = parse_json(path, read_step(dataset, SPLITS))
    if not isinstance(found, dict) or found.get("version") != VERSION:
        version = found.get("version") if isinstance(found, dict) else None
        raise DataError(f"{path} has version {version!r}, this code reads {VERSION}; run `{command(SPLITS)}` again.")
    check_sources(dataset, SPLITS, found.get("sources"), {MAPPING: mapping.sha256, CAPTURES: captures_sha256})
    try:
        expected = Splits(
            fold={entry["path"]: name for name in FOLDS for entry in found["folds"][name]},
            part={entry["path"]: name for name in OTHER_PARTS for entry in found["others"][name]},
            seed=int(found["seed"]),
            stratified_by=str(found["stratified_by"]),
            shares={str(name): float(share) for name, share in found["shares"].items()},
        )
        _check_whole(path, rows, expected)
        content = splits_content(rows, mapping, expected, found["sources"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({error!r}); run `{command(SPLITS)}` again.") from error
    if content != found:
        key = next(key for key in sorted({*content, *found}) if content.get(key) != found.get(key))
        raise DataError(f"{path}: {key!r} contradicts {CAPTURES} or {MAPPING}; run `{command(SPLITS)}` again.")
    return expected


def _check_whole(path: Path, rows: list[PhotoRow], splits: Splits) -> None:
    """Refuse photos without a fold and groups with two."""
    fold_of: dict[str, str] = {}
    for row in rows:
        name = (splits.part if row.domain == OTHER else splits.fold).get(row.path)
        if name is None:
            raise DataError(f"{path} lacks the photo {row.path!r} of {CAPTURES}; run `{command(SPLITS)}` again.")
        if row.domain != OTHER and fold_of.setdefault(row.group, name) != name:
            raise DataError(
                f"{path} has the group {row.group!r} in the folds {fold_of[row.group]} and {name}; a group must stay "
                f"in one: run `{command(SPLITS)}` again."
            )
