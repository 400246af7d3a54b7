import itertools

import numpy as np
import pytest

from shared.selective import COVERAGES, RISKS, RiskCoverage

HALF = COVERAGES.index(0.5)
AREA = len(COVERAGES)


def numbers(confidence, right, weights=None, group=None):
    group = np.arange(len(right)) if group is None else np.asarray(group)
    weights = np.ones(len(np.unique(group))) if weights is None else np.asarray(weights, dtype=float)
    curve = RiskCoverage(confidence, np.asarray(right, dtype=bool), group)
    return curve.values(weights[None])[0]


def test_hand_values():
    # The surest first: right, wrong, right, wrong. Risks among 1, 2, 3, 4 samples: 0, 1/2, 1/3, 1/2.
    found = numbers([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0])
    assert found[0] == pytest.approx(0.5)  # all answered
    assert found[HALF] == pytest.approx(0.5)
    assert found[COVERAGES.index(0.1)] == 0.0
    assert found[COVERAGES.index(0.3)] == pytest.approx(0.2 / 1.2)  # 1.2 samples: a fifth of the wrong one
    assert found[AREA] == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert found[AREA + 1 :].tolist() == [0.25, 0.25]


def test_area_is_that_of_torch_uncertainty_up_to_its_ends():
    rng = np.random.default_rng(1)
    confidence, right = rng.random(50), rng.random(50) < 0.7
    order = np.argsort(-confidence)
    risks = np.cumsum(~right[order]) / np.arange(1, 51)
    found = numbers(confidence, right)
    assert found[AREA] == pytest.approx(risks.mean())
    trapezoids = np.trapezoid(risks, np.arange(1, 51) / 50) / (1 - 1 / 50)  # its `_aurc`, written out
    assert (50 * found[AREA] - (risks[0] + risks[-1]) / 2) / 49 == pytest.approx(trapezoids)
    for place, risk in enumerate(RISKS):
        below = np.flatnonzero(risks <= risk)
        assert found[AREA + 1 + place] == pytest.approx((below[-1] + 1) / 50 if len(below) else 0.0)


def test_equal_confidences_are_the_mean_over_their_orders():
    confidence, right = [0.9, 0.7, 0.7, 0.7, 0.4], [1, 0, 1, 1, 0]
    found = numbers(confidence, right)
    orders = [[1, *middle, 0] for middle in itertools.permutations([0, 1, 1])]
    risks = np.array([np.cumsum(1 - np.array(order)) / np.arange(1, 6) for order in orders]).mean(axis=0)
    assert found[AREA] == pytest.approx(risks.mean())
    assert found[COVERAGES.index(0.4)] == pytest.approx(risks[1])
    assert found[COVERAGES.index(0.8)] == pytest.approx(risks[3])
    # A threshold answers one sample or four (risk 1/4), never two.
    assert found[AREA + 1 :].tolist() == [0.2, 0.2]
    assert numbers(confidence[::-1], right[::-1]).tolist() == pytest.approx(found.tolist())


def test_a_weight_is_so_many_copies():
    rng = np.random.default_rng(2)
    group = rng.integers(0, 8, 60)
    confidence, right = np.round(rng.random(60), 1), rng.random(60) < 0.6
    weights = np.array([0, 1, 2, 0, 3, 1, 1, 2])
    copies = np.repeat(np.arange(60), weights[group])
    expected = numbers(confidence[copies], right[copies], group=np.zeros(len(copies), dtype=int))
    np.testing.assert_allclose(numbers(confidence, right, weights, group), expected, atol=1e-12)


def test_nothing_right_everything_right_and_no_weight():
    assert numbers([0.5, 0.6], [0, 0]).tolist() == [1.0] * (AREA + 1) + [0.0, 0.0]
    assert numbers([0.5, 0.6], [1, 1]).tolist() == [0.0] * (AREA + 1) + [1.0, 1.0]
    assert np.isnan(numbers([0.5, 0.6], [1, 1], [0, 0])).all()


def test_a_risk_reached_exactly_counts():
    right = [1] * 57 + [0] * 3  # 3 of 60 are 5 %, and 0.05 * 60 is rounded
    assert numbers(np.linspace(1, 0, 60), right)[AREA + 1] == 1.0


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"confidence \(2,\), right \(1,\)"):
        RiskCoverage([0.1, 0.2], np.array([True]), np.array([0, 1]))
    with pytest.raises(ValueError, match="right is int64"):
        RiskCoverage([0.1, 0.2], np.array([1, 0]), np.array([0, 1]))
