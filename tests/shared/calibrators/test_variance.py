import doctest

import numpy as np
import pytest
import torch

import shared.calibrators.variance as variance_module
from shared.calibrators.variance import VarianceCalibrator, choose_variance, fit_variance_scale
from shared.errors import DataError


def heads(scale, num_samples=400, seed=0):
    """Predictions whose true variance is `scale` times the stated one."""
    rng = np.random.default_rng(seed)
    stated = rng.uniform(0.5, 2.0, num_samples)
    target = rng.normal(size=num_samples) * np.sqrt(scale * stated)
    return torch.zeros(num_samples), torch.from_numpy(stated).float(), torch.from_numpy(target).float()


def test_examples():
    assert doctest.testmod(variance_module).failed == 0


def test_scale_by_hand():
    prediction, variance = torch.tensor([1.0, 0.0, 3.0]), torch.tensor([1.0, 0.5, 2.0])
    target = torch.tensor([3.0, 1.0, 3.0])
    assert fit_variance_scale(prediction, variance, target) == pytest.approx((4 + 2 + 0) / 3)


def test_scale_minimises_the_gaussian_likelihood():
    prediction, variance, target = heads(3.0)

    def nll(s):
        return -torch.distributions.Normal(prediction, (s * variance).sqrt()).log_prob(target).mean()

    best = fit_variance_scale(prediction, variance, target)
    assert nll(best) < min(nll(best * 0.98), nll(best * 1.02))


def test_over_confident_heads_are_widened():
    choice = choose_variance(*heads(4.0), np.arange(400) % 40)
    assert choice.method == "variance"
    assert float(choice.calibrator.scale) == pytest.approx(4.0, rel=0.2)
    torch.testing.assert_close(choice.calibrator(torch.ones(2)), torch.full((2,), float(choice.calibrator.scale)))


def test_calibrated_heads_are_left_alone_in_most_cases():
    chosen = [choose_variance(*heads(1.0, seed=seed), np.arange(400) % 40).method for seed in range(20)]
    assert chosen.count("identity") >= 14


def test_the_gain_is_that_of_held_out_likelihoods():
    prediction, variance, target = heads(2.0, num_samples=40)
    choice = choose_variance(prediction, variance, target, np.arange(40), folds=40)  # leave one out
    squared = (target.double() ** 2 / variance.double()).numpy()
    held = (squared.sum() - squared) / 39
    var = variance.double().numpy()
    before, after = (0.5 * (np.log(v) + target.double().numpy() ** 2 / v) for v in (var, held * var))
    assert choice.cv["variance"]["gain"] == pytest.approx((before - after).mean())


def test_point_predictions_have_nothing_to_calibrate():
    choice = choose_variance(torch.zeros(5), None, torch.ones(5), np.arange(5))
    assert (choice.method, choice.calibrator) == ("does not apply", None)
    assert "point predictions without a variance" in choice.reason
    assert choice.as_dict()["variance_scale"] is None


@pytest.mark.parametrize(("num_groups", "said"), [(1, "1 group"), (5, "5 groups")])
def test_few_groups_are_not_enough(num_groups, said):
    choice = choose_variance(*heads(4.0), np.arange(400) % num_groups)
    assert (choice.method, choice.calibrator) == ("identity", None)
    assert choice.reason == f"nothing can be fitted: {said}, 6 are needed to tell a gain from chance"


def test_six_groups_are_enough():
    assert choose_variance(*heads(4.0), np.arange(400) % 6).method == "variance"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"variance": torch.zeros(3)}, DataError, "variance falls to 0; it must be positive"),
        ({"prediction": torch.full((3,), torch.nan)}, DataError, "prediction is not finite"),
        ({"target": torch.ones(4)}, ValueError, "must have one shape"),
    ],
)
def test_bad_input_is_named(change, error, message):
    given = {"prediction": torch.zeros(3), "variance": torch.ones(3), "target": torch.ones(3)} | change
    with pytest.raises(error, match=message):
        choose_variance(**given, group=np.arange(3))


def test_scale_must_be_positive():
    with pytest.raises(ValueError, match="scale is 0"):
        VarianceCalibrator(0.0)
