"""From the front of a pill to its back: is the single pill found again among all others of the test fold?"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.report.evaluation import Intervals, mean_by_group

RECALLS = (1, 5)
PIXEL_SIDE = 24
"""Side of the thumbnails that the pixel baseline compares, px."""


def retrieval_ranks(
    query: NDArray[np.floating],
    gallery: NDArray[np.floating],
    query_pill: NDArray[np.integer],
    gallery_pill: NDArray[np.integer],
) -> NDArray[np.int64]:
    """Number of gallery photos more similar than the best one of the same pill, (Q,), by cosine; equals count as more.

    Counting equals against the query keeps features that are all alike from looking perfect.

    Args:
        query: (Q, F) features.
        gallery: (M, F) features.
        query_pill: (Q,) codes of pills.
        gallery_pill: (M,) codes.

    Raises:
        ValueError: If features do not fit or are not finite, or a query's pill is not in the gallery.
    """
    if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1]:
        raise ValueError(f"features have shapes {query.shape} and {gallery.shape}; (Q, F) and (M, F) are needed")
    if not (np.isfinite(query).all() and np.isfinite(gallery).all()):
        raise ValueError("features are not finite")
    missing = np.setdiff1d(query_pill, gallery_pill)
    if len(missing):
        raise ValueError(f"{len(missing)} pills of the queries are not in the gallery, the first has code {missing[0]}")
    similarity = _unit(query) @ _unit(gallery).T  # (Q, M)
    same = query_pill[:, None] == gallery_pill[None, :]
    best = np.where(same, similarity, -np.inf).max(axis=1, keepdims=True)
    return np.asarray(((similarity >= best - 1e-12) & ~same).sum(axis=1))


def retrieval_scores(
    ranks: NDArray[np.int64], group: NDArray[np.integer], intervals: Intervals
) -> dict[str, dict[str, Any]]:
    """Recall@1, recall@5 and mean reciprocal rank with intervals by group; the gallery stays as it is in every draw.

    Args:
        ranks: (Q,) from `retrieval_ranks`.
        group: (Q,) codes of what all intervals of the run count: the pill, or the labeler where folds are cut by it.
        intervals: Seed and draws.
    """
    values = {f"recall@{k}": (ranks < k).astype(np.float64) for k in RECALLS} | {"mrr": _reciprocal(ranks)}
    return {name: intervals.of(*mean_by_group(each, group.astype(np.int32))) for name, each in values.items()}


def retrieval_difference(
    ranks: NDArray[np.int64], baseline: NDArray[np.int64], group: NDArray[np.integer], intervals: Intervals
) -> dict[str, Any]:
    """Mean reciprocal rank minus that of a baseline on the same queries, paired by group."""
    codes = group.astype(np.int32)
    (ours, count), (theirs, _) = mean_by_group(_reciprocal(ranks), codes), mean_by_group(_reciprocal(baseline), codes)
    return intervals.of_difference(ours, theirs, count)


def chance(gallery_size: int) -> dict[str, float]:
    """What a random order of the gallery gives where each pill is in it once: k / M, and the mean of 1 / rank.

    Raises:
        ValueError: If the gallery is empty.

    Example:
        >>> {name: round(value, 3) for name, value in chance(4).items()}
        {'recall@1': 0.25, 'recall@5': 1.0, 'mrr': 0.521}
    """
    if gallery_size < 1:
        raise ValueError(f"gallery_size is {gallery_size}; at least 1 is needed")
    recalls = {f"recall@{k}": min(k / gallery_size, 1.0) for k in RECALLS}
    return recalls | {"mrr": float(np.mean(1.0 / np.arange(1, gallery_size + 1)))}


def thumbnail_features(squares: NDArray[np.uint8], side: int = PIXEL_SIDE) -> NDArray[np.float64]:
    """Pixels of thumbnails, each channel without the mean over all given photos, (N, 3 * side * side).

    The baseline that a learned feature must beat: pills of one colour and shape already look alike in 24 x 24 pixels.

    Args:
        squares: (N, S, S, 3) uint8.
        side: Of the thumbnails, px.
    """
    small = [np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.BILINEAR)) for square in squares]
    flat = np.stack(small).reshape(len(small), -1).astype(np.float64)
    return np.asarray(flat - flat.mean(axis=0))


def _reciprocal(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    return 1.0 / (ranks.astype(np.float64) + 1.0)


def _unit(values: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = values.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray(np.divide(wide, length, out=np.zeros_like(wide), where=length > 0))
