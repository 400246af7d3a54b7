import doctest

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

import shared.calibration as calibration
from shared.calibration import (
    bin_index,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    reliability_bins,
)


def random_probs(num_samples=500, num_classes=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(num_classes, 0.5), num_samples), rng.integers(0, num_classes, num_samples)


def test_examples():
    assert doctest.testmod(calibration).failed == 0


def test_confidence_one_is_exact_where_torchmetrics_is_not():
    # Both samples lie in [0.9, 1.0]: |1/2 - 0.975| = 0.475. torchmetrics puts 1.0 in a bin of its own, issue #3510.
    confidence, hit = [0.95, 1.0], [1, 0]
    two_columns = np.array([[0.05, 0.95], [0.0, 1.0]])
    assert expected_calibration_error(confidence, hit, 10) == pytest.approx(0.475, abs=1e-12)
    assert expected_calibration_error(two_columns, hit, 10) == pytest.approx(0.475, abs=1e-12)
    theirs = binary_calibration_error(torch.tensor(confidence), torch.tensor(hit), n_bins=10).item()
    assert theirs == pytest.approx(0.525, abs=1e-6)  # if this fails, torchmetrics was repaired: say so in the docs
    both = multiclass_calibration_error(torch.tensor(two_columns), torch.tensor(hit), num_classes=2, n_bins=10).item()
    assert both == pytest.approx(0.525, abs=1e-6)


def test_probability_zero_is_exact():
    assert expected_calibration_error([0.0, 0.0, 0.05], [0, 1, 0], 10) == pytest.approx(abs(1 / 3 - 0.05 / 3))
    assert expected_calibration_error([0.0, 1.0], [0, 1], 10) == 0.0
    assert expected_calibration_error([0.0, 1.0], [1, 0], 10) == 1.0


@pytest.mark.parametrize("num_bins", [1, 10, 15])
def test_agrees_with_torchmetrics_below_one(num_bins):
    probs, target = random_probs()
    theirs = multiclass_calibration_error(
        torch.tensor(probs), torch.tensor(target), num_classes=4, n_bins=num_bins, norm="l1"
    )
    assert expected_calibration_error(probs, target, num_bins) == pytest.approx(theirs.item(), abs=1e-6)


def test_edges_belong_to_the_bin_above():
    assert bin_index(np.arange(11) / 10, 10).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9]
    assert bin_index(np.nextafter(np.arange(1, 11) / 10, 0), 10).tolist() == list(range(10))


def test_reliability_bins_by_hand():
    bins = reliability_bins([0.1, 0.2, 0.9], [0, 1, 1], 4)
    assert bins.edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert bins.count.tolist() == [2, 0, 0, 1]
    np.testing.assert_allclose(bins.confidence, [0.15, np.nan, np.nan, 0.9])
    np.testing.assert_allclose(bins.accuracy, [0.5, np.nan, np.nan, 1.0])


def test_brier_and_likelihood_agree_with_sklearn():
    probs, target = random_probs()
    assert negative_log_likelihood(probs, target) == pytest.approx(log_loss(target, probs))
    assert brier_score(probs, target) == pytest.approx(np.mean(np.sum((probs - np.eye(4)[target]) ** 2, axis=1)))
    event, happened = probs[:, 0], (target == 0).astype(int)
    columns = np.stack([1 - event, event], axis=1)
    assert brier_score(event, happened) == pytest.approx(brier_score_loss(happened, event))
    assert brier_score(columns, happened) == pytest.approx(2 * brier_score(event, happened))
    assert negative_log_likelihood(event, happened) == pytest.approx(log_loss(happened, columns))


def test_impossible_sample_costs_36_not_infinity():
    assert negative_log_likelihood([[1.0, 0.0]], [1]) == pytest.approx(36.0437, abs=1e-4)
    assert negative_log_likelihood([[1.0, 0.0]], [1]) == pytest.approx(log_loss([1], [[1.0, 0.0]], labels=[0, 1]))


def test_float32_softmax_and_tensors_are_accepted():
    probs = torch.softmax(torch.tensor([[20.0, 0.0], [0.0, 30.0]]), dim=1)
    assert expected_calibration_error(probs, torch.tensor([0, 1])) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("function", [expected_calibration_error, brier_score, negative_log_likelihood])
@pytest.mark.parametrize(
    ("probs", "target", "message"),
    [
        ([[2.0, -1.0], [0.3, 0.7]], [0, 1], "if these are logits, apply softmax"),
        ([[0.9, 3.1]], [0], "row 0 sums to 4"),
        ([[np.nan, 1.0], [0.5, 0.5]], [0, 1], "not finite in 1 of 2 rows"),
        ([[0.5, 0.5]], [2], "target holds 2 to 2; allowed are 0 to 1"),
        ([[0.5, 0.5]], [-1], "target holds -1"),
        ([[0.5, 0.5]], [0.0], "dtype float64"),
        ([[0.5, 0.5]], [0, 1], "target has shape"),
        ([[1.0]], [0], "C >= 2"),
        (np.zeros((0, 2)), [], "N >= 1"),
        ([1.7], [1], "if these are logits, apply sigmoid"),
        ([np.nan], [1], r"must lie in \[0, 1\]"),
        ([0.5], [3], "allowed are 0 to 1"),
    ],
)
def test_what_is_no_probability_is_refused(function, probs, target, message):
    with pytest.raises(ValueError, match=message):
        function(probs, target)


def test_bins_are_checked():
    with pytest.raises(ValueError, match="num_bins is 0"):
        expected_calibration_error([0.5], [1], 0)
