import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression

from shared.calibrators.base import class_margins
from shared.calibrators.isotonic import IsotonicCalibrator, fit_isotonic
from shared.calibrators.platt import PlattCalibrator, fit_platt
from tests.shared.calibrators.samples import FixedLogits, planted


def everything(target):
    return [torch.ones(len(target), dtype=torch.bool)]


def scikit(margins, target, method):
    """Probabilities by scikit-learn with the log-odds as its decision function."""
    num_classes = margins.shape[1]
    wrapped = CalibratedClassifierCV(FrozenEstimator(FixedLogits(num_classes)), method=method)
    scores = margins[:, 1:].numpy() if num_classes == 2 else margins.numpy()
    return wrapped.fit(scores, target.numpy()).predict_proba(scores)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_margins_are_log_odds(dtype):
    logits = torch.randn(200, 5, dtype=dtype) * 4
    stated = torch.softmax(logits.double(), dim=1)
    torch.testing.assert_close(
        class_margins(logits).double(), torch.log(stated) - torch.log1p(-stated), rtol=1e-4, atol=1e-4
    )


def test_margins_keep_their_digits_near_one():
    # p_0 rounds to 1, so that log(1 - p_0) would be -inf; the others together are two equal logits 100 below.
    margins = class_margins(torch.tensor([[100.0, 0.0, 0.0]]))
    np.testing.assert_allclose(margins, [[100.0 - np.log(2.0), -100.0, -100.0]], rtol=1e-6)
    assert torch.isfinite(class_margins(torch.tensor([[3e4, 0.0, -3e4]]))).all()


@pytest.mark.parametrize(("num_classes", "temperature"), [(2, 2.0), (4, 1.0), (6, 3.0), (5, 0.3)])
def test_platt_equals_scikit_learn(num_classes, temperature):
    logits, target = planted(700, num_classes, temperature, seed=num_classes)
    margins = class_margins(logits)
    ours = fit_platt(margins, target, everything(target))[0](logits).softmax(dim=1)
    np.testing.assert_allclose(ours, scikit(margins, target, "sigmoid"), atol=1e-4)


def test_platt_is_the_minimum_of_its_loss():
    logits, target = planted(500, 3, 2.0, seed=8)
    margins = class_margins(logits)
    fitted = fit_platt(margins, target, everything(target))[0]
    f, hit = margins[:, 1].numpy(), target.numpy() == 1
    wanted = np.where(hit, (hit.sum() + 1) / (hit.sum() + 2), 1 / ((~hit).sum() + 2))
    error = expit(float(fitted.slope[1]) * f + float(fitted.offset[1])) - wanted
    assert abs(error.mean()) < 1e-8
    assert abs((error * f).mean()) < 1e-8


def test_platt_is_finite_on_separable_classes():
    logits = torch.tensor([[5.0, 0.0], [4.0, 0.0], [0.0, 5.0], [0.0, 3.0]] * 5, dtype=torch.float64)
    target = torch.tensor([0, 0, 1, 1] * 5)
    ours = fit_platt(class_margins(logits), target, everything(target))[0](logits).softmax(dim=1)
    np.testing.assert_allclose(ours, scikit(class_margins(logits), target, "sigmoid"), atol=1e-4)


def test_platt_on_constant_margins_states_the_smoothed_frequency():
    logits = torch.zeros(10, 2, dtype=torch.float64)
    target = torch.tensor([0] * 8 + [1] * 2)
    fitted = fit_platt(class_margins(logits), target, everything(target))[0]
    assert fitted.slope.tolist() == [0.0, 0.0]
    smoothed = (8 * 9 / 10 + 2 * 1 / 4) / 10  # mean of Platt's targets of class 0
    assert torch.sigmoid(fitted.offset)[0] == pytest.approx(smoothed, abs=1e-9)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_isotonic_equals_scikit_learn(num_classes):
    logits, target = planted(900, num_classes, 2.0, seed=num_classes)
    margins = class_margins(logits)
    ours = fit_isotonic(margins, target, everything(target), floor=1e-300)[0](logits).softmax(dim=1)
    np.testing.assert_allclose(ours, scikit(margins, target, "isotonic"), atol=1e-9)


def test_isotonic_pools_equal_margins_and_interpolates_like_scikit_learn():
    rng = np.random.default_rng(2)
    margins = torch.from_numpy(np.round(rng.normal(size=(400, 3)), 1))  # many equal ones
    target = torch.from_numpy(rng.integers(0, 3, 400))
    fitted = fit_isotonic(margins, target, everything(target), floor=1e-300)[0]
    new = torch.from_numpy(rng.normal(scale=3, size=(200, 3)))  # between the knots and outside them
    curves = np.exp(fitted.from_margins(new).numpy())
    for code in range(3):
        theirs = IsotonicRegression(out_of_bounds="clip").fit(margins[:, code].numpy(), target.numpy() == code)
        np.testing.assert_allclose(curves[:, code], theirs.predict(new[:, code].numpy()), atol=1e-9)


def test_isotonic_floor_leaves_nothing_impossible():
    logits = torch.tensor([[4.0, 0.0], [3.0, 0.0], [0.0, 3.0], [0.0, 4.0]], dtype=torch.float64)
    target = torch.tensor([0, 0, 1, 1])
    ours = fit_isotonic(class_margins(logits), target, everything(target))[0](logits).softmax(dim=1)
    np.testing.assert_allclose(ours.min(dim=1).values, (1 / 6) / (1 + 1 / 6))  # 1 / (n + 2), normalised


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
def test_parts_are_fitted_as_if_alone(fit):
    logits, target = planted(600, 3, 2.0, seed=9)
    margins = class_margins(logits)
    parts = [*everything(target), torch.arange(600) % 4 != 0, torch.arange(600) < 150]
    for together, mask in zip(fit(margins, target, parts), parts, strict=True):
        alone = fit(margins[mask], target[mask], everything(target[mask]))[0]
        np.testing.assert_allclose(together(logits).softmax(dim=1), alone(logits).softmax(dim=1), atol=1e-7)


def test_probabilities_sum_to_one():
    logits, target = planted(600, 3, 2.0, seed=9)
    margins = class_margins(logits)
    for fit in (fit_platt, fit_isotonic):
        stated = np.exp(log_softmax(fit(margins, target, everything(target))[0](logits.float()).numpy(), axis=1))
        np.testing.assert_allclose(stated.sum(axis=1), 1.0, atol=1e-6)


def test_float32_logits_fall_on_the_same_side_of_a_step():
    logits, target = planted(600, 3, 2.0, seed=10)
    logits = logits.float()
    fitted = fit_isotonic(class_margins(logits.double()), target, everything(target))[0]
    np.testing.assert_allclose(fitted(logits), fitted(logits.double()), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PlattCalibrator(torch.ones(2), torch.ones(3)), r"must both be \(C,\)"),
        (lambda: PlattCalibrator(torch.tensor([torch.nan]), torch.ones(1)), "must be finite"),
        (lambda: IsotonicCalibrator(torch.ones(2, 3), torch.ones(2, 2), 0.1), r"must both be \(C, K\)"),
        (lambda: IsotonicCalibrator(torch.tensor([[1.0, 0.0]]), torch.ones(1, 2), 0.1), "must not fall"),
        (lambda: IsotonicCalibrator(torch.zeros(1, 2), torch.ones(1, 2), 0.0), "floor is 0.0"),
    ],
)
def test_wrong_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_platt_ends_on_saturated_margins():
    # Found by random search: margins of 3e4, where the sigmoid is flat and a plain Newton step leads far away.
    steps = [[-1, 0, 1], [1, 0, 1], [1, -1, 1], [-1, 1, 0], [-1, -1, 1], [1, 0, 0], [1, 0, -1], [1, 0, 0]]
    logits = torch.tensor(steps, dtype=torch.float64) * 33947.54
    margins, target = class_margins(logits), torch.tensor([1, 0, 1, 0, 0, 1, 1, 2])
    rows = torch.arange(8)
    parts = [*everything(target), *((rows != a) & (rows != b) for a in range(8) for b in range(a + 1))]
    for fitted in fit_platt(margins, target, parts):
        assert torch.isfinite(fitted(logits).softmax(dim=1)).all()
