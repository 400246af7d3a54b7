"""Top-1 and top-5 with intervals by group: overall, by domain, by class, and against the clean photos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.report.evaluation import ALL, Intervals, mean_by_group

TOPS = (1, 5)
WEAK_BELOW = 0.7
"""Classes with a lower accuracy are listed with what they are taken for."""


@dataclass(frozen=True, eq=False)
class FoldPhotos:
    """What is known of the photos of the test fold, in the order of all logits.

    Attributes:
        rows: (N,) rows of the sample index.
        ids: N sample ids.
        target: (N,) int64 class codes.
        group: (N,) int32 codes; what intervals count.
        domain: (N,) int64 codes into `domains`, -1 where unknown.
        domains: Names of the domains.
        classes: K class codes or names, unique.
        labels: K names for readers.

    Raises:
        ValueError: If the lengths do not fit.
    """

    rows: NDArray[np.int64]
    ids: list[str]
    target: NDArray[np.int64]
    group: NDArray[np.int32]
    domain: NDArray[np.int64]
    domains: tuple[str, ...]
    classes: tuple[str, ...]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        lengths = {len(column) for column in (self.rows, self.ids, self.target, self.group, self.domain)}
        if len(lengths) != 1 or len(self.labels) != len(self.classes):
            raise ValueError(
                f"columns of the tested photos have the lengths {sorted(lengths)}, with {len(self.classes)} classes "
                f"and {len(self.labels)} labels; they must be equal"
            )

    def __len__(self) -> int:
        return len(self.rows)

    def parts(self) -> dict[str, NDArray[np.bool_]]:
        """Name to (N,) mask: all photos, then each domain that has some, where there are several."""
        masks = {name: self.domain == code for code, name in enumerate(self.domains) if (self.domain == code).any()}
        return {ALL: np.ones(len(self), dtype=np.bool_)} | (masks if len(masks) > 1 else {})


def rank_of_target(logits: NDArray[np.floating], target: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of classes that come before the true one, (N,); among equal logits the earlier class comes first.

    Args:
        logits: (N, K).
        target: (N,) codes.
    """
    own = logits[np.arange(len(target)), target][:, None]
    earlier = np.arange(logits.shape[1]) < target[:, None]
    return np.asarray(((logits > own) | ((logits == own) & earlier)).sum(axis=1))


def top_scores(logits: NDArray[np.floating], photos: FoldPhotos, intervals: Intervals) -> dict[str, dict[str, Any]]:
    """Size, groups, top-1 and top-5 of all photos and of each domain.

    Args:
        logits: (N, K); with at most five classes there is no top-5.
        photos: The N photos.
        intervals: Seed and draws.
    """
    rank = rank_of_target(logits, photos.target)
    found: dict[str, dict[str, Any]] = {}
    for name, mask in photos.parts().items():
        part: dict[str, Any] = {"n": int(mask.sum()), "groups": len(np.unique(photos.group[mask]))}
        for top in tops_of(photos):
            part[f"top{top}"] = _share((rank < top)[mask], photos.group[mask], intervals)
        found[name] = part
    return found


def tops_of(photos: FoldPhotos) -> tuple[int, ...]:
    """The numbers of candidates that say something: with at most five classes top-5 is always right."""
    return tuple(top for top in TOPS if top < len(photos.classes))


def paired_scores(
    clean: NDArray[np.floating], changed: NDArray[np.floating], photos: FoldPhotos, intervals: Intervals
) -> dict[str, dict[str, Any]]:
    """Scores of the changed photos, and changed minus clean on the same photos, of all and of each domain.

    Args:
        clean: (N, K) logits.
        changed: (N, K) logits.
        photos: The N photos.
        intervals: Seed and draws; equal groups see equal draws in both, so what is common cancels.

    Returns:
        Part -> n, groups, and for each top its estimate and `top<k>_change`.
    """
    before, after = rank_of_target(clean, photos.target), rank_of_target(changed, photos.target)
    found: dict[str, dict[str, Any]] = {}
    for name, here in photos.parts().items():
        group = photos.group[here]
        part: dict[str, Any] = {"n": int(here.sum()), "groups": len(np.unique(group))}
        for top in tops_of(photos):
            hit, hit_clean = (after < top)[here].astype(np.float64), (before < top)[here].astype(np.float64)
            (ours, count), (theirs, _) = mean_by_group(hit, group), mean_by_group(hit_clean, group)
            part[f"top{top}"] = intervals.of(ours, count)
            part[f"top{top}_change"] = intervals.of_difference(ours, theirs, count)
        found[name] = part
    return found


def confusion_counts(logits: NDArray[np.floating], photos: FoldPhotos) -> NDArray[np.int64]:
    """Counts (K, K): rows are the true class, columns the first candidate."""
    size = len(photos.classes)
    cells = photos.target * size + logits.argmax(axis=1)
    return np.bincount(cells, minlength=size * size).reshape(size, size).astype(np.int64)


def look_alikes(metadata: Mapping[str, Mapping[str, Any]], classes: Sequence[str]) -> dict[int, tuple[int, ...]]:
    """Classes that share form, shape and colours with a class, so that an imprint at most tells them apart.

    Args:
        metadata: Class -> what is known of it; without `shape` and `colors` it has no look-alike.
        classes: Class names in the order of their codes.

    Returns:
        Code -> codes of the others, for classes that have some.
    """
    looks: dict[tuple[str, ...], list[int]] = {}
    for code, name in enumerate(classes):
        known = metadata.get(name, {})
        if known.get("shape") and known.get("colors"):
            colours = "|".join(str(colour) for colour in known["colors"])
            looks.setdefault((str(known.get("form", "")), str(known["shape"]), colours), []).append(code)
    return {
        code: tuple(other for other in codes if other != code)
        for codes in looks.values()
        for code in codes
        if len(codes) > 1
    }


def class_table(
    logits: NDArray[np.floating],
    photos: FoldPhotos,
    alike: Mapping[int, tuple[int, ...]],
    intervals: Intervals,
    shown: int = 3,
) -> list[dict[str, Any]]:
    """One row a class with test photos, the weakest first.

    Args:
        logits: (N, K).
        photos: The N photos.
        alike: Known look-alikes, see `look_alikes`.
        intervals: Seed and draws.
        shown: Most classes that a class is listed as taken for.

    Returns:
        Rows of class, label, n, accuracy, taken_for [{class, label, n, share}], and for classes with known look-alikes
        `look_alikes` [names] and `taken_for_look_alike` (share of its photos whose first candidate is one).
    """
    counts = confusion_counts(logits, photos)
    hit = logits.argmax(axis=1) == photos.target
    table = []
    for code in np.flatnonzero(counts.sum(axis=1)).tolist():
        mask, size = photos.target == code, int(counts[code].sum())
        wrong = counts[code].copy()
        wrong[code] = 0
        order = [int(other) for other in np.argsort(-wrong, kind="stable")[:shown] if wrong[other]]
        row: dict[str, Any] = {
            "class": photos.classes[code],
            "label": photos.labels[code],
            "n": size,
            "accuracy": _share(hit[mask], photos.group[mask], intervals),
            "taken_for": [_taken_for(photos, other, int(wrong[other]), size) for other in order],
        }
        if code in alike:
            row["look_alikes"] = [photos.classes[other] for other in alike[code]]
            row["taken_for_look_alike"] = float(wrong[list(alike[code])].sum()) / size
        table.append(row)
    return sorted(table, key=lambda row: (row["accuracy"]["value"], row["class"]))


def _taken_for(photos: FoldPhotos, other: int, count: int, size: int) -> dict[str, Any]:
    return {"class": photos.classes[other], "label": photos.labels[other], "n": count, "share": count / size}


def weak_classes(table: Sequence[Mapping[str, Any]], below: float = WEAK_BELOW) -> list[Mapping[str, Any]]:
    """Rows of `class_table` whose accuracy is below the line."""
    return [row for row in table if row["accuracy"]["value"] < below]


def _share(mask: NDArray[np.bool_], group: NDArray[np.int32], intervals: Intervals) -> dict[str, Any]:
    return intervals.of(*mean_by_group(mask.astype(np.float64), group))
