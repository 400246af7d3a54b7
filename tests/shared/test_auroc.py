import doctest

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import shared.auroc as auroc
from shared.auroc import PooledAuroc, count_wins


@pytest.fixture(params=["matrix", "sorted"])
def path(request, monkeypatch):
    """Both ways to compute the same thing."""
    monkeypatch.setattr(auroc, "_MAX_GROUPS_FOR_MATRIX", 10**6 if request.param == "matrix" else 0)
    monkeypatch.setattr(auroc, "_SAMPLES_PER_CHUNK", 1000)  # several chunks
    return request.param


def fabricate(ties, num_samples=300, num_groups=12, seed=0):
    rng = np.random.default_rng(seed)
    group = np.concatenate([np.arange(num_groups), rng.integers(0, num_groups, num_samples - num_groups)])
    positive = rng.random(num_samples) < 0.3
    score = rng.normal(size=num_samples) + positive
    return (np.round(score) if ties else score), positive, group


def test_examples():
    assert doctest.testmod(auroc).failed == 0


@pytest.mark.parametrize("ties", [False, True])
def test_equals_sklearn_with_and_without_weights(path, ties):
    score, positive, group = fabricate(ties)
    weights = np.random.default_rng(1).multinomial(12, np.full(12, 1 / 12), size=20).astype(float)
    weights[0] = 1.0
    theirs = [roc_auc_score(positive, score, sample_weight=row[group]) for row in weights]
    np.testing.assert_allclose(PooledAuroc(score, positive, group, 12)(weights), theirs, rtol=1e-12)


def test_pools_strata_by_their_pairs(path):
    score, positive, group = fabricate(ties=True)
    stratum = np.random.default_rng(2).integers(5, 8, 300)
    wins = pairs = 0.0
    for value in (5, 6, 7):
        mask = stratum == value
        num_pairs = positive[mask].sum() * (~positive[mask]).sum()
        wins += roc_auc_score(positive[mask], score[mask]) * num_pairs
        pairs += num_pairs
    found = PooledAuroc(score, positive, group, 12, stratum)(np.ones((1, 12)))
    np.testing.assert_allclose(found, wins / pairs)


def test_stratum_with_one_class_says_nothing(path):
    score, positive, group = fabricate(ties=False)
    alone = PooledAuroc(score, positive, group, 12)(np.ones((1, 12)))
    more = PooledAuroc(
        np.append(score, 99.0), np.append(positive, False), np.append(group, 0), 12, np.append(np.zeros(300, int), 1)
    )
    np.testing.assert_allclose(more(np.ones((1, 12))), alone)


def test_no_pair_is_nan_without_a_warning(path):
    area = PooledAuroc(np.array([0.1, 0.9]), np.array([False, True]), np.array([0, 1]), 2)
    np.testing.assert_array_equal(area(np.array([[1.0, 1.0], [2.0, 0.0]])), [1.0, np.nan])


def test_counted_wins_are_the_unweighted_area():
    score, positive, _ = fabricate(ties=True)
    pairs = positive.sum() * (~positive).sum()
    assert count_wins(score[positive], score[~positive]) / pairs == pytest.approx(roc_auc_score(positive, score))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="equally long"):
        PooledAuroc(np.zeros(3), np.zeros(2, bool), np.zeros(3, int), 1)
    with pytest.raises(ValueError, match="NaN in 1 of 2"):
        PooledAuroc(np.array([0.0, np.nan]), np.array([True, False]), np.zeros(2, int), 1)
