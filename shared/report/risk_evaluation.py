"""The part `risk_coverage` of report.json: what final errs when it answers only where it is sure."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.calibration import confidence_and_hit
from shared.selective import COVERAGES, RISKS, RiskCoverage
from shared.statistics import estimate_many


def risk_coverage_part(
    probs: NDArray[np.float64], target: NDArray[np.int64], group: NDArray[np.int32], *, seed: int, draws: int = 2000
) -> dict[str, Any]:
    """Score the order in which a network is sure of its answers, each number with its interval by group.

    Args:
        probs: (N, C) probabilities; the confidence is the largest.
        target: (N,) class codes.
        group: (N,) integer codes.
        seed: Of the group bootstrap.
        draws: Number of bootstrap draws.

    Returns:
        {"curve": [{"coverage", "risk": estimate}], "aurc": estimate, "coverage_at_risk": [{"risk", "coverage":
        estimate}]}; see `shared.selective.RiskCoverage`.
    """
    confidence, hit = confidence_and_hit(probs, target)
    scores = RiskCoverage(confidence, hit > 0.0, group)
    found = [
        entry.as_dict()
        for entry in estimate_many(scores.values, scores.bounds, scores.num_groups, seed=seed, draws=draws)
    ]
    curve, rest = found[: len(COVERAGES)], found[len(COVERAGES) :]
    return {
        "curve": [{"coverage": coverage, "risk": risk} for coverage, risk in zip(COVERAGES, curve, strict=True)],
        "aurc": rest[0],
        "coverage_at_risk": [{"risk": risk, "coverage": entry} for risk, entry in zip(RISKS, rest[1:], strict=True)],
    }
