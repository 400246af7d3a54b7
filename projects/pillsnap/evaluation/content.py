"""From logits to the parts of evaluation.json; nothing here reads a run, so all of it works on made-up logits."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projects.pillsnap.evaluation.accuracy import FoldPhotos, class_table, paired_scores, top_scores, weak_classes
from projects.pillsnap.evaluation.conditions import CLEAN, Condition
from projects.pillsnap.evaluation.open_set import NoneOfThese, fit_none_of_these, score_aurocs
from projects.pillsnap.evaluation.retrieval import (
    chance,
    retrieval_difference,
    retrieval_ranks,
    retrieval_scores,
    thumbnail_features,
)
from shared.report.evaluation import Intervals

FRONT, BACK = "front", "back"
MIN_KNOWN_PHOTOS, MIN_UNKNOWN_PHOTOS = 10, 10
"""With fewer photos to tune on, 'none of these' is not fitted at all."""


def clean_part(
    logits: NDArray[np.floating], photos: FoldPhotos, alike: Mapping[int, tuple[int, ...]], intervals: Intervals
) -> dict[str, Any]:
    """Scores on the photos as they are: `scores` by domain, `classes`, `weak_classes`.

    Args:
        logits: (N, K) calibrated.
        photos: The N photos.
        alike: Known look-alikes of a class.
        intervals: Seed and draws.
    """
    table = class_table(logits, photos, alike, intervals)
    part: dict[str, Any] = {
        "scores": top_scores(logits, photos, intervals),
        "classes": table,
        "weak_classes": [row["class"] for row in weak_classes(table)],
    }
    pairs = [row for row in table if "look_alikes" in row]
    if pairs:
        wrong = sum(row["n"] * (1.0 - row["accuracy"]["value"]) for row in pairs)
        alike_wrong = sum(row["n"] * row["taken_for_look_alike"] for row in pairs)
        part["look_alikes"] = {
            "classes": len(pairs),
            "n": sum(row["n"] for row in pairs),
            "wrong": round(wrong),
            "wrong_for_look_alike": round(alike_wrong),
        }
    return part


def floor_part(
    floor: NDArray[np.floating], logits: NDArray[np.floating], photos: FoldPhotos, intervals: Intervals
) -> dict[str, Any]:
    """What a simple model is worth on the same photos, and the network beside it.

    Args:
        floor: (N, K) probabilities of the simple model.
        logits: (N, K) of the network.
        photos: The N photos.
        intervals: Seed and draws.

    Returns:
        `what` in words, `scores` of the floor by domain, and `network_minus_floor`, paired by group, by domain.
    """
    return {
        "what": "random forest on 24 x 24 pixels, fitted on the same train photos",
        "scores": top_scores(floor, photos, intervals),
        "network_minus_floor": paired_scores(floor, logits, photos, intervals),
    }


def stress_part(
    outputs: Mapping[str, NDArray[np.floating]],
    conditions: Sequence[Condition],
    photos: FoldPhotos,
    intervals: Intervals,
) -> list[dict[str, Any]]:
    """One row a condition, in order, without the clean one.

    Args:
        outputs: Condition name -> (N, K) calibrated logits, "clean" among them.
        conditions: Their names, kinds and levels.
        photos: The N photos.
        intervals: Seed and draws.

    Returns:
        Rows of name, kind, level, unit, words, and `parts` from `paired_scores`.
    """
    return [
        {
            "name": row.name,
            "kind": row.kind,
            "level": row.level,
            "unit": row.unit,
            "words": row.words(),
            "parts": paired_scores(outputs[CLEAN], outputs[row.name], photos, intervals),
        }
        for row in conditions
        if row.name != CLEAN
    ]


def too_few_to_tune(known: int, threshold_known: int, unknown: int) -> str | None:
    """Why 'none of these' cannot be fitted, None where it can."""
    if unknown == 0:
        return "these data hold no photos of other classes to tune on"
    if known < MIN_KNOWN_PHOTOS or threshold_known < MIN_KNOWN_PHOTOS or unknown < MIN_UNKNOWN_PHOTOS:
        return (
            f"there are {known} photos of the classes in calibrate, {threshold_known} in accept and {unknown} of other "
            f"classes to tune on; {MIN_KNOWN_PHOTOS}, {MIN_KNOWN_PHOTOS} and {MIN_UNKNOWN_PHOTOS} are needed"
        )
    return None


def tuned(
    known: NDArray[np.floating],
    threshold_known: NDArray[np.floating],
    unknown: NDArray[np.floating],
    *,
    base_rate: float,
    accept_known: float,
) -> tuple[NoneOfThese, dict[str, float], dict[str, Any]]:
    """Fit 'none of these': what was fitted, the AUROC of each score on the tuning photos, and on what.

    Args:
        known: (N, K) calibrated logits of the calibrate fold: slope, offset and choice of the score.
        threshold_known: (L, K) of the accept fold: the threshold.
        unknown: (M, K) of held-out classes for tuning.
        base_rate: Share of unknown photos that the probability is stated for.
        accept_known: Share of known photos that must still be answered.
    """
    fitted = fit_none_of_these(
        known, unknown, base_rate=base_rate, accept_known=accept_known, threshold_known=threshold_known
    )
    settings = {"base_rate": base_rate, "accept_known": accept_known}
    counts = {"calibrate": len(known), "accept": len(threshold_known), "others": len(unknown)}
    return fitted, score_aurocs(known, unknown), settings | {"photos": counts}


def retrieval_part(
    features: NDArray[np.floating],
    square: Callable[[int], NDArray[np.uint8]],
    photos: FoldPhotos,
    pills: Sequence[str],
    surface: Sequence[str],
    intervals: Intervals,
) -> dict[str, Any]:
    """Front to back retrieval of the single pill, by the domain of the front; backs are studio photos if there are any.

    Args:
        features: (N, F) of the network.
        square: Position to the square that the network reads, (S, S, 3) uint8, before its contrast is changed.
        photos: The N photos.
        pills: N pill names.
        surface: N sides, "front" or "back".
        intervals: Seed and draws.

    Returns:
        Domain of the fronts -> queries, pills, groups (what intervals count), gallery, gallery_domain, `features`,
        `pixels` and `chance` with recall@1, recall@5 and mrr each, and `mrr_difference` of features minus
        pixels. A pill without its back is left out and counted in `without_back`. Empty where no pill has both sides.
    """
    _, pill = np.unique(np.array(pills), return_inverse=True)
    side = np.array(surface)
    back_code = min((int(code) for code in photos.domain[side == BACK]), key=_studio_first(photos), default=-1)
    backs = np.flatnonzero((side == BACK) & (photos.domain == back_code))
    back = backs[np.unique(pill[backs], return_index=True)[1]]  # each pill once, as chance supposes
    found: dict[str, Any] = {}
    for code, name in enumerate(photos.domains):
        fronts = np.flatnonzero((side == FRONT) & (photos.domain == code))
        front = fronts[np.isin(pill[fronts], pill[back])]
        if not len(front):
            continue
        both = np.concatenate([front, back])
        pixels = thumbnail_features(np.stack([square(int(place)) for place in both]))
        own = retrieval_ranks(features[front], features[back], pill[front], pill[back])
        plain = retrieval_ranks(pixels[: len(front)], pixels[len(front) :], pill[front], pill[back])
        found[name] = {
            "queries": len(front),
            "pills": len(np.unique(pill[front])),
            "groups": len(np.unique(photos.group[front])),
            "without_back": len(fronts) - len(front),
            "gallery": len(back),
            "gallery_domain": photos.domains[back_code],
            "features": retrieval_scores(own, photos.group[front], intervals),
            "pixels": retrieval_scores(plain, photos.group[front], intervals),
            "chance": chance(len(back)),
            "mrr_difference": retrieval_difference(own, plain, photos.group[front], intervals),
        }
    return found


def _studio_first(photos: FoldPhotos) -> Callable[[int], tuple[bool, int]]:
    """Order of the domains for the gallery: a register of pills is photographed in the studio."""
    return lambda code: (photos.domains[code] != "studio", code)


def agreement(logits: NDArray[np.floating], photos: FoldPhotos, predicted: Mapping[str, str]) -> dict[str, Any]:
    """Share of photos on which this pass and the run's own test name the same class first.

    Args:
        logits: (N, K) calibrated.
        photos: The N photos.
        predicted: Sample id -> class that the run's own test predicted.

    Returns:
        n, missing (photos that the test lacks) and share, None where all are missing.
    """
    ours = [photos.classes[code] for code in logits.argmax(axis=1)]
    pairs = [(own, predicted[name]) for own, name in zip(ours, photos.ids, strict=True) if name in predicted]
    share = sum(own == theirs for own, theirs in pairs) / len(pairs) if pairs else None
    return {"n": len(pairs), "missing": len(photos) - len(pairs), "share": share}


def part_named(photos: FoldPhotos, name: str) -> NDArray[np.bool_]:
    """Mask (N,) of the photos of a domain; none of them where the data do not know it."""
    code = photos.domains.index(name) if name in photos.domains else None
    return np.asarray(photos.domain == code) if code is not None else np.zeros(len(photos), dtype=np.bool_)
