import doctest

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

import shared.calibration as calibration
from shared.calibration import (
    adaptive_calibration_error,
    bin_index,
    brier_score,
    classwise_calibration_error,
    equal_mass_index,
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


# -- class-wise ---------------------------------------------------------------------------------------------------


def test_classwise_error_by_hand():
    # Class 0: 0.6 twice in one bin, it came both times: 0.4. Class 1: 0.4 twice, it never came: 0.4.
    assert classwise_calibration_error([[0.6, 0.4], [0.6, 0.4]], [0, 0], 10) == pytest.approx(0.4)
    # Class 0: bins {0.7} came, {0.1} did not: (0.3 + 0.1)/2. Class 1: {0.2, 0.2} came once: |1 - 0.4|/2.
    # Class 2: {0.1} did not, {0.7} did not: (0.1 + 0.7)/2.
    probs = [[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]]
    assert classwise_calibration_error(probs, [0, 1], 10) == pytest.approx((0.2 + 0.3 + 0.4) / 3)


def test_classwise_error_sees_what_the_top_label_hides():
    # The top label is right in 60 % and says so; the other two classes are exchanged.
    probs = np.tile([0.6, 0.4, 0.0], (10, 1))
    target = np.array([0] * 6 + [2] * 4)
    assert expected_calibration_error(probs, target, 10) == pytest.approx(0.0)
    assert classwise_calibration_error(probs, target, 10) == pytest.approx((0.0 + 0.4 + 0.4) / 3)


def test_classwise_error_is_exact_at_zero_and_one():
    certain = [[0.0, 1.0], [1.0, 0.0]]
    assert classwise_calibration_error(certain, [1, 0], 10) == 0.0
    assert classwise_calibration_error(certain, [0, 1], 10) == 1.0
    # As for the top label: class 1 states 0.95 and 1.0 in one bin and comes once, class 0 states 0.05 and 0.0.
    assert classwise_calibration_error([[0.05, 0.95], [0.0, 1.0]], [1, 0], 10) == pytest.approx(0.475)


def test_classwise_error_differs_from_torchmetrics_at_one():
    columns, target = torch.tensor([[0.05, 0.95], [0.0, 1.0]]), torch.tensor([1, 0])
    theirs = [binary_calibration_error(columns[:, k], (target == k).int(), n_bins=10).item() for k in (0, 1)]
    assert theirs == pytest.approx([0.475, 0.525], abs=1e-6)  # 0 is in the first bin, 1 in one of its own
    assert np.mean(theirs) != pytest.approx(classwise_calibration_error(columns, target, 10), abs=0.01)


@pytest.mark.parametrize("num_bins", [1, 10, 15])
def test_classwise_error_agrees_with_torchmetrics_below_one(num_bins):
    probs, target = random_probs()
    theirs = [
        binary_calibration_error(torch.tensor(probs[:, k]), torch.tensor((target == k).astype(int)), n_bins=num_bins)
        for k in range(4)
    ]
    assert classwise_calibration_error(probs, target, num_bins) == pytest.approx(np.mean(theirs), abs=1e-6)


def test_one_event_is_its_own_class():
    probs, target = random_probs()
    event, happened = probs[:, 0], (target == 0).astype(int)
    assert classwise_calibration_error(event, happened) == expected_calibration_error(event, happened)


# -- adaptive -----------------------------------------------------------------------------------------------------


def test_adaptive_error_by_hand():
    # {0.5, 0.6} with one hit: 0.05; {0.7, 1.0} with two: 0.15.
    assert adaptive_calibration_error([0.7, 0.5, 1.0, 0.6], [1, 0, 1, 1], 2) == pytest.approx(0.1)
    assert adaptive_calibration_error([0.0, 0.0, 1.0, 1.0], [0, 0, 1, 1], 2) == 0.0
    assert adaptive_calibration_error([0.0, 0.0, 1.0, 1.0], [1, 1, 0, 0], 2) == 1.0
    # Equal-width bins would put 0.95 and 1.0 together; with two equal-mass bins each is alone.
    assert adaptive_calibration_error([0.95, 1.0], [1, 0], 2) == pytest.approx((0.05 + 1.0) / 2)
    assert adaptive_calibration_error([0.95, 1.0], [1, 0], 1) == pytest.approx(0.475)


@pytest.mark.parametrize(("num_samples", "num_bins"), [(100, 10), (101, 10), (7, 3), (5, 15)])
def test_equal_mass_bins_differ_by_one_at_most(num_samples, num_bins):
    confidence = np.random.default_rng(0).random(num_samples)
    index = equal_mass_index(confidence, num_bins)
    count = np.bincount(index, minlength=num_bins)
    assert count.max() - count.min() <= 1
    assert (np.diff(index[np.argsort(confidence)]) >= 0).all()


def test_equal_confidences_share_a_bin_whatever_their_order():
    confidence = np.array([1.0] * 7 + [0.2, 0.3, 0.4])
    assert equal_mass_index(confidence, 5).tolist() == [3] * 7 + [0, 0, 1]  # mean rank 6 of 0 to 9
    hit = np.array([1, 1, 1, 1, 0, 0, 0, 0, 1, 1])
    order = np.random.default_rng(0).permutation(10)
    assert adaptive_calibration_error(confidence[order], hit[order], 5) == pytest.approx(
        adaptive_calibration_error(confidence, hit, 5)
    )


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_bins_agree_with_sklearn(strategy):
    # 1,000 different values in 10 bins: none lies on an edge, where the two would differ.
    rng = np.random.default_rng(3)
    event, happened = rng.random(1000), rng.integers(0, 2, 1000)
    frequency, stated = calibration_curve(happened, event, n_bins=10, strategy=strategy)
    if strategy == "uniform":
        bins = reliability_bins(event, happened, 10)
        np.testing.assert_allclose(bins.accuracy, frequency)
        np.testing.assert_allclose(bins.confidence, stated)
    else:
        assert adaptive_calibration_error(event, happened, 10) == pytest.approx(np.abs(frequency - stated).mean())


@pytest.mark.parametrize(
    "function",
    [
        expected_calibration_error,
        classwise_calibration_error,
        adaptive_calibration_error,
        brier_score,
        negative_log_likelihood,
    ],
)
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
    with pytest.raises(ValueError, match="num_bins is 0"):
        adaptive_calibration_error([0.5], [1], 0)
    with pytest.raises(ValueError, match="num_bins is 0"):
        classwise_calibration_error([[0.5, 0.5]], [1], 0)
