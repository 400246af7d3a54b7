import doctest

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

import shared.calibrators.domain_temperature as domain_temperature
from shared.calibrators.domain_temperature import DomainTemperatureCalibrator, fit_domains, shrinkage_weight
from shared.calibrators.temperature import TemperatureCalibrator, TemperatureFit, fit_temperatures
from tests.shared.calibrators.samples import FixedLogits, planted


def fit(logits, target, groups=50):
    everything = torch.ones(len(target), dtype=torch.bool)
    return fit_temperatures(logits, target, [everything], [groups])[0]


def nll(logits, target, temperature):
    return -log_softmax(logits.numpy() / temperature, axis=1)[np.arange(len(target)), target.numpy()].mean()


@pytest.mark.parametrize(("num_classes", "scale"), [(2, 3.0), (4, 1.0), (10, 0.4), (10, 25.0)])
def test_equals_scikit_learn(num_classes, scale):
    logits, target = planted(800, num_classes, scale, seed=num_classes)
    # With two classes scikit-learn takes the log-odds x and uses the logits (-x, x), twice ours.
    scores = logits if num_classes > 2 else 0.5 * (logits[:, 1] - logits[:, 0])
    wrapped = CalibratedClassifierCV(FrozenEstimator(FixedLogits(num_classes)), method="temperature")
    wrapped.fit(scores.numpy().reshape(800, -1), target.numpy())
    theirs = 1.0 / wrapped.calibrated_classifiers_[0].calibrators[0].beta_
    ours = fit(logits, target)
    assert ours.warning is None
    assert ours.temperature == pytest.approx(theirs, rel=1e-3)
    probs = TemperatureCalibrator(ours.temperature)(logits).softmax(dim=1)
    np.testing.assert_allclose(probs, wrapped.predict_proba(scores.numpy().reshape(800, -1)), atol=1e-3)


def test_is_the_minimum_that_scipy_finds():
    logits, target = planted(600, 5, 2.0, seed=1)
    found = minimize_scalar(lambda t: nll(logits, target, t), bounds=(0.1, 10), options={"xatol": 1e-10})
    assert fit(logits, target).temperature == pytest.approx(found.x, rel=1e-6)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 3.0, 40.0])
def test_planted_temperature_is_recovered(temperature):
    logits, target = planted(20_000, 5, temperature, seed=3)
    assert fit(logits, target).temperature == pytest.approx(temperature, rel=0.05)


def test_planted_temperature_is_exact_where_frequencies_are():
    # Log-odds log 3 are right in 3 of 4 cases: stated as 5 log 3, T is 5 to the last digit.
    logits = 5.0 * torch.tensor([[np.log(3.0), 0.0]] * 4, dtype=torch.float64)
    assert fit(logits, torch.tensor([0, 0, 0, 1])).temperature == pytest.approx(5.0, abs=1e-9)


def test_parts_are_fitted_as_if_alone():
    logits, target = planted(900, 4, 2.5, seed=4)
    parts = [torch.ones(900, dtype=torch.bool), torch.arange(900) % 3 != 0, torch.arange(900) < 200]
    together = fit_temperatures(logits, target, parts, [9, 6, 2])
    alone = [fit(logits[mask], target[mask]) for mask in parts]
    assert [t.temperature for t in together] == pytest.approx([t.temperature for t in alone], rel=1e-7)


def test_mixup_like_under_confidence_gives_a_temperature_below_one():
    logits, target = planted(4000, 6, 0.6, seed=5)
    assert fit(logits, target).temperature == pytest.approx(0.6, rel=0.06)


def test_large_logits_do_not_overflow():
    logits, target = planted(2000, 5, 500.0, seed=6)
    assert fit(logits + 1e5, target).temperature == pytest.approx(500.0, rel=0.1)


def test_separable_samples_are_bounded_by_the_number_of_groups():
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]] * 10, dtype=torch.float64)
    target = torch.tensor([0, 1] * 10)
    found = fit(logits, target, groups=50)
    assert "every sample is right" in found.warning
    # The mean probability of the target is 51/52: log-odds 2/T = log 51.
    assert found.temperature == pytest.approx(2.0 / np.log(51.0), rel=1e-4)
    assert fit(10 * logits, target, groups=50).temperature == 1.0  # sure enough already: not made surer


def test_logits_worse_than_chance_become_uniform():
    logits = torch.tensor([[3.0, 0.0, 0.0]] * 10, dtype=torch.float64)
    found = fit(logits, torch.tensor([1, 2] * 5))
    assert "no better than chance" in found.warning
    assert TemperatureCalibrator(found.temperature)(logits).softmax(dim=1).max() == pytest.approx(1 / 3, abs=1e-3)


def test_equal_logits_have_no_temperature():
    found = fit(torch.full((4, 3), 7.0, dtype=torch.float64), torch.tensor([0, 1, 2, 0]))
    assert (found.temperature, "all logits of a row are equal" in found.warning) == (1.0, True)


def test_top_class_stays_and_rows_sum_to_one():
    logits, _ = planted(300, 5, 1.0, seed=7)
    calibrated = TemperatureCalibrator(2.7)(logits.float())
    assert calibrated.dtype == torch.float32
    assert torch.equal(calibrated.argmax(dim=1), logits.argmax(dim=1))
    torch.testing.assert_close(calibrated.softmax(dim=1).sum(dim=1), torch.ones(300))


def test_half_precision_is_widened():
    logits = torch.randn(5, 3).bfloat16()
    calibrated = TemperatureCalibrator(1.5)(logits)
    torch.testing.assert_close(calibrated, logits.float() / 1.5)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="a positive finite number is needed"):
        TemperatureCalibrator(temperature)
    with pytest.raises(ValueError, match="positive finite numbers are needed"):
        DomainTemperatureCalibrator(1.0, [2.0, temperature])


# -- per domain ---------------------------------------------------------------------------------------------------


def test_examples():
    assert doctest.testmod(domain_temperature).failed == 0


@pytest.mark.parametrize(("groups", "weight"), [(0, 0.0), (4, 0.0), (5, 0.2), (20, 0.5), (180, 0.9)])
def test_shrinkage_weight_by_hand(groups, weight):
    assert shrinkage_weight(groups) == pytest.approx(weight)


def domain_of(num_groups, temperature):
    """One domain whose own temperature is exact: log-odds log 3, stated too large, right in 3 of 4 cases."""
    logits = temperature * torch.tensor([[np.log(3.0), 0.0]] * (4 * num_groups), dtype=torch.float64)
    target = torch.tensor([0, 0, 0, 1] * num_groups)
    return logits, target, torch.arange(4 * num_groups) // 4


@pytest.mark.parametrize(("groups", "expected", "own"), [(4, 2.0, None), (20, np.sqrt(2.0 * 8.0), 8.0)])
def test_domain_temperature_by_hand(groups, expected, own):
    logits, target, group = domain_of(groups, 8.0)
    everything = torch.ones(len(target), dtype=torch.bool)
    fitted = fit_domains(logits, target, group, everything, [everything], [TemperatureFit(2.0)])[0]
    assert fitted.temperature == pytest.approx(expected, rel=1e-6)
    assert fitted.own == (own if own is None else pytest.approx(own, rel=1e-6))
    assert (fitted.num_groups, fitted.num_samples) == (groups, 4 * groups)


def test_domain_without_a_minimum_uses_the_common_temperature():
    logits, target, group = domain_of(6, 8.0)
    everything = torch.ones(len(target), dtype=torch.bool)
    right = torch.zeros_like(target)
    fitted = fit_domains(logits, right, group, everything, [everything], [TemperatureFit(2.0)])[0]
    assert (fitted.temperature, fitted.own, fitted.weight) == (2.0, None, 0.0)
    assert "every sample is right" in fitted.warning


def test_unknown_domains_get_the_common_temperature():
    calibrator = DomainTemperatureCalibrator(2.0, [4.0, 0.5])
    logits = torch.ones(5, 3)
    found = calibrator(logits, torch.tensor([0, 1, -1, 2, 99]))
    assert found[:, 0].tolist() == [0.25, 2.0, 0.5, 0.5, 0.5]
    assert calibrator(logits)[:, 0].tolist() == [0.5] * 5


def test_logits_exactly_at_chance_but_for_rounding_become_uniform():
    for seed in range(20):
        logits = planted(4, 3, 1e5, seed)[0].repeat_interleave(3, dim=0)  # each row with each of its classes
        assert "no better than chance" in fit(logits, torch.arange(3).repeat(4)).warning
