"""How far raters agree with each other, with the network and with the annotation; intervals draw stories."""

from collections import Counter
from itertools import combinations
from typing import Any, Literal

import krippendorff
import numpy as np
from numpy.typing import NDArray

from projects.redheart.people.export import EMOTION, SCORE_COLUMNS
from projects.redheart.people.ratings import Ratings
from shared.rank_correlation import RankCorrelations
from shared.report.evaluation import mean_by_group
from shared.statistics import BoundedStatistic, Statistic, estimate

Floats = NDArray[np.float64]
NOMINAL, INTERVAL = "nominal", "interval"


def agreement(ratings: Ratings, key: dict[str, Any], *, seed: int = 0, draws: int = 2000) -> dict[str, Any]:
    """All statistics of some raters.

    Args:
        ratings: What they said.
        key: The key of the export.
        seed: Of the bootstrap.
        draws: Number of bootstrap draws.

    Returns:
        {raters, items, emotion: {alpha, model, annotation}, scores: {column: {alpha, alpha_ordinal, between_raters,
        model, annotation}}, notes}, with estimates {value, lo, hi, n_groups, method}. `model` and `annotation` of the
        emotion are the share of stories where the majority of raters says the same; of a score Spearman's correlation
        with the raters' mean. What nobody rated is left out.
    """
    settings = {"seed": seed, "draws": draws}
    content: dict[str, Any] = {"raters": list(ratings.raters), "items": len(ratings.items), "notes": []}
    emotions = ratings.emotion
    if not np.isnan(emotions).all():
        content[EMOTION] = {"alpha": _alpha(emotions, NOMINAL, settings), **_majority(ratings, key, settings, content)}
    content["scores"] = {}
    for column in SCORE_COLUMNS:
        values = ratings.scores[column]
        if not np.isnan(values).all():
            content["scores"][column] = _score(values, column, ratings, key, settings)
    return content


def _score(
    values: Floats, column: str, ratings: Ratings, key: dict[str, Any], settings: dict[str, int]
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "alpha": _alpha(values, INTERVAL, settings),
        "alpha_ordinal": library_alpha(values, "ordinal"),
    }
    pairs = [values[list(pair)] for pair in combinations(range(len(values)), 2)]
    found["between_raters"] = _spearman(pairs, settings)
    rated = ~np.isnan(values).all(axis=0)
    mean = np.full(values.shape[1], np.nan)
    mean[rated] = np.nanmean(values[:, rated], axis=0)
    for name, part in (("model", "predicted_scores"), ("annotation", "label_scores")):
        theirs = np.array([key["items"][item][part].get(column, np.nan) for item in ratings.items])
        found[name] = _spearman([np.stack([mean, theirs])], settings)
    return found


def _alpha(values: Floats, level: str, settings: dict[str, int]) -> dict[str, Any]:
    statistic, count = alpha_statistic(values, level)
    if count == 0:
        return {"value": None, "lo": None, "hi": None, "n_groups": 0, "method": "no interval: nothing rated twice"}
    return estimate(statistic, count, **settings).as_dict()


def library_alpha(values: Floats, level: Literal["nominal", "ordinal", "interval"]) -> float | None:
    """Krippendorff's alpha by the `krippendorff` package; None where fewer than two values differ or none is paired."""
    paired = values[:, (~np.isnan(values)).sum(axis=0) > 1]
    if paired.size == 0 or len(np.unique(paired[~np.isnan(paired)])) < 2:
        return None
    return float(krippendorff.alpha(reliability_data=values, level_of_measurement=level))


def alpha_statistic(values: Floats, level: str) -> tuple[Statistic, int]:
    """Krippendorff's alpha = 1 - observed / expected disagreement, as a statistic of weights of the stories.

    Args:
        values: (raters, stories), NaN where a rater said nothing; codes for "nominal", numbers for "interval".
        level: "nominal" or "interval".

    Returns:
        The statistic of weights (D, U) and U, the number of stories with two ratings or more.

    Raises:
        ValueError: If there is no such level.

    Source: Krippendorff, "Content Analysis" (2004), chapter 11; a weight of 2 stands for two equal stories.
    """
    if level not in (NOMINAL, INTERVAL):
        raise ValueError(f"level is {level!r}; allowed are {NOMINAL} and {INTERVAL}")
    paired = values[:, (~np.isnan(values)).sum(axis=0) > 1]
    count = (~np.isnan(paired)).sum(axis=0).astype(np.float64)  # (U,) ratings of each story
    if level == NOMINAL:
        codes = np.unique(paired[~np.isnan(paired)])
        table = np.stack([(paired == code).sum(axis=0) for code in codes], axis=1).astype(np.float64)  # (U, codes)
        within = count**2 - np.square(table).sum(axis=1)
    else:
        centred = paired - (np.nanmean(paired) if paired.size else 0.0)
        first, second = np.nansum(centred, axis=0), np.nansum(centred**2, axis=0)
        within = 2 * (count * second - first**2)
    observed = within / np.maximum(count - 1, 1)

    def alpha(weights: Floats) -> Floats:
        size = weights @ count
        if level == NOMINAL:
            between = size**2 - np.square(weights @ table).sum(axis=1)
        else:
            between = 2 * (size * (weights @ second) - np.square(weights @ first))
        expected = np.where(between > 1e-12 * size**2, between / (size - 1), np.nan)
        return np.asarray(1.0 - (weights @ observed) / expected)

    return BoundedStatistic(alpha, -1.0, 1.0), paired.shape[1]


def _spearman(pairs: list[Floats], settings: dict[str, int]) -> dict[str, Any]:
    """Mean of Spearman's correlations of some pairs of columns (2, stories) over the stories that have both."""
    num_stories = pairs[0].shape[1] if pairs else 0
    ranks = []
    for pair in pairs:
        both = np.flatnonzero(~np.isnan(pair).any(axis=0))
        if len(both) > 1 and np.ptp(pair[0, both]) > 0 and np.ptp(pair[1, both]) > 0:
            ranks.append(RankCorrelations([pair[0, both]], pair[1, both], both))
    if not ranks:
        return {"value": None, "lo": None, "hi": None, "n_groups": 0, "method": "no interval: no two columns that vary"}

    def mean(weights: Floats) -> Floats:
        return np.asarray(np.mean([rank(weights)[:, 0] for rank in ranks], axis=0))

    return estimate(BoundedStatistic(mean, -1.0, 1.0), num_stories, **settings).as_dict()


def _majority(
    ratings: Ratings, key: dict[str, Any], settings: dict[str, int], content: dict[str, Any]
) -> dict[str, Any]:
    """Share of stories where the most frequent answer of the raters is that of the network, and of the annotation."""
    emotions = key["emotions"]
    said: dict[str, str] = {}
    for place, item in enumerate(ratings.items):
        codes = ratings.emotion[:, place]
        ranked = Counter(codes[~np.isnan(codes)].astype(int).tolist()).most_common(2)
        if ranked and (len(ranked) == 1 or ranked[0][1] > ranked[1][1]):
            said[item] = emotions[ranked[0][0]]
    content["notes"].append(f"{len(ratings.items) - len(said)} stories have no majority emotion and are left out of it")
    found = {}
    for name, part in (("model", "predicted"), ("annotation", "label")):
        equal = np.array([float(said[item] == key["items"][item][part]) for item in said])
        if len(equal):
            statistic, count = mean_by_group(equal, np.arange(len(equal), dtype=np.int32))
            found[name] = estimate(statistic, count, **settings).as_dict()
    return found
