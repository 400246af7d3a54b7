import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from torchmetrics.functional.regression import pearson_corrcoef

from projects.spectra.losses import CurveLoss, build_loss, mse_pearson, pearson_along_axis, weighted_smooth

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def curves(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(6, 30), (5, 2, 2, 30), (4, 2, 2)])
def test_pearson_equals_scipy_and_torchmetrics(shape: tuple[int, ...]) -> None:
    x, y = curves(*shape), curves(*shape, seed=4)
    ours = pearson_along_axis(x, y)
    rows = x.reshape(-1, shape[-1]), y.reshape(-1, shape[-1])
    scipy = [pearsonr(a, b).statistic for a, b in zip(*rows, strict=True)]
    np.testing.assert_allclose(ours.flatten().numpy(), scipy, rtol=1e-10, atol=1e-12)
    theirs = pearson_corrcoef(rows[0].T.float(), rows[1].T.float())
    torch.testing.assert_close(ours.flatten().float(), theirs, rtol=1e-4, atol=1e-5)
    assert ours.shape == shape[:-1]


@pytest.mark.parametrize(("scale", "offset"), [(1e-25, 0.0), (1e-6, 0.0), (1.0, 100.0), (1e25, 0.0), (1e37, 0.0)])
def test_pearson_does_not_depend_on_scale_or_offset(scale: float, offset: float) -> None:
    x, y = curves(5, 30), curves(5, 30, seed=4)
    scaled = (offset + scale * x).float()
    expected = [pearsonr(a, b).statistic for a, b in zip(scaled.double().numpy(), y.numpy(), strict=True)]
    np.testing.assert_allclose(pearson_along_axis(scaled, y.float()).numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    x, y = curves(4, 30).to(dtype), curves(4, 30, seed=4).to(dtype)
    for loss in (pearson_along_axis, mse_pearson, weighted_smooth):
        value = loss(x, y)
        assert value.dtype == torch.float32
        assert torch.equal(value, loss(x.float(), y.float()))
    assert torch.isfinite(mse_pearson(1000 * x, y))  # the square is beyond float16


def test_autocast_changes_nothing() -> None:
    x, y = curves(4, 30).float(), curves(4, 30, seed=4).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(mse_pearson(x, y), mse_pearson(x.clone(), y.clone()))
        inside = mse_pearson(x, y)
    assert torch.equal(inside, mse_pearson(x, y))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", [0.0, 0.1, -3.0, 6e4])
@pytest.mark.parametrize("which", ["prediction", "target", "both"])
def test_flat_curves_count_zero_with_zero_gradient(dtype: torch.dtype, level: float, which: str) -> None:
    flat, wavy = torch.full((2, 30), level).to(dtype), curves(2, 30).to(dtype)
    prediction = (wavy if which == "target" else flat).clone().requires_grad_()
    target = wavy if which == "prediction" else flat
    correlation = pearson_along_axis(prediction, target)
    assert correlation.tolist() == [0.0, 0.0]
    gradient = torch.autograd.grad(correlation.sum(), prediction)[0]
    assert not gradient.any()
    loss = mse_pearson(prediction, target, w_mse=0.0)
    assert loss.item() == pytest.approx(0.2)
    assert torch.isfinite(torch.autograd.grad(mse_pearson(prediction, target), prediction)[0]).all()


def test_rounding_noise_counts_as_flat_and_a_faint_curve_does_not() -> None:
    wave = torch.linspace(0, 6, 30).sin()[None]
    for level, amplitude, expected in ((0.25, 1e-8, 0.0), (0.25, 1e-4, 1.0), (0.0, 1e-20, 1.0), (0.0, 1e-40, 0.0)):
        assert pearson_along_axis(level + amplitude * wave, wave).item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("scale", [1e-29, 1e-12, 1.0, 1e12, 1e30])
def test_gradient_is_finite_at_any_scale(scale: float) -> None:
    prediction = (scale * curves(3, 30)).float().requires_grad_()
    pearson_along_axis(prediction, curves(3, 30, seed=4).float()).mean().backward()
    assert torch.isfinite(prediction.grad).all()
    assert prediction.grad.any()


def test_a_flat_curve_does_not_disturb_its_neighbours() -> None:
    x, y = curves(3, 30).requires_grad_(), curves(3, 30, seed=4)
    alone = torch.autograd.grad(pearson_along_axis(x[1:], y[1:]).sum(), x)[0]
    y[0] = 0.5
    assert torch.equal(torch.autograd.grad(pearson_along_axis(x, y).sum(), x)[0], alone)


def test_gradients_agree_with_finite_differences() -> None:
    x, y = curves(2, 2, 2, 6).requires_grad_(), curves(2, 2, 2, 6, seed=4)
    for loss in (pearson_along_axis, mse_pearson, weighted_smooth):
        assert torch.autograd.gradcheck(lambda curve, loss=loss: loss(curve, y), (x,))


def test_not_a_number_is_passed_on() -> None:
    x, y = curves(2, 5), curves(2, 5, seed=4)
    x[0, 2] = torch.nan
    correlation = pearson_along_axis(x, y)
    assert correlation.isnan().tolist() == [True, False]
    assert mse_pearson(x, y).isnan()


def test_losses_in_numpy() -> None:
    x, y = curves(4, 2, 2, 7), curves(4, 2, 2, 7, seed=4)
    a, b = x.numpy(), y.numpy()
    mse = np.mean((a - b) ** 2)
    correlation = np.mean([pearsonr(p, q).statistic for p, q in zip(a.reshape(-1, 7), b.reshape(-1, 7), strict=True)])
    assert mse_pearson(x, y).item() == pytest.approx(mse + 0.2 * (1 - correlation))
    assert mse_pearson(x, y, w_mse=3.0, w_corr=0.0).item() == pytest.approx(3 * mse)
    rough = np.mean(np.diff(a, axis=-1) ** 2)
    assert weighted_smooth(x, y, w_mse=2.0, w_smooth=0.5).item() == pytest.approx(2 * mse + 0.5 * rough)


def test_a_perfect_prediction_costs_nothing() -> None:
    y = curves(4, 2, 2, 30)
    assert mse_pearson(y, y).item() == pytest.approx(0.0, abs=1e-12)
    assert mse_pearson(-y, y, w_mse=0.0).item() == pytest.approx(0.4)


def test_formulas_carry_the_weights() -> None:
    assert build_loss("mse_pearson", w_corr=0.25).formula.count("0.25 ") == 1
    assert r"\rho_l(\hat{y}_{c}, y_{c})" in build_loss("mse_pearson").formula
    assert r"0.1 \cdot \frac{1}{C(L-1)}" in build_loss("weighted_smooth").formula
    for name in ("mse_pearson", "weighted_smooth"):
        formula = build_loss(name).formula
        assert formula.count("{") == formula.count("}")


@pytest.mark.parametrize("unit", [0.06, 3.0])
def test_errors_count_in_the_unit_given(unit: float) -> None:
    """Curves and unit multiplied by the same number are the same loss: nothing else in it has a scale."""
    x, y = curves(4, 2, 2, 7), curves(4, 2, 2, 7, seed=4)
    for loss in (mse_pearson, weighted_smooth):
        assert loss(unit * x, unit * y, unit=unit).item() == pytest.approx(loss(x, y).item())
    squared = np.mean((x.numpy() - y.numpy()) ** 2)
    assert mse_pearson(x, y, w_corr=0.0, unit=unit).item() == pytest.approx(squared / unit**2)
    steps = np.mean(np.diff(x.numpy(), axis=-1) ** 2)
    assert weighted_smooth(x, y, w_mse=0.0, w_smooth=1.0, unit=unit).item() == pytest.approx(steps / unit**2)
    assert build_loss("mse_pearson", unit)(x, y).item() == pytest.approx(mse_pearson(x, y, unit=unit).item())


def test_a_small_error_in_a_small_unit_keeps_its_digits() -> None:
    """Its square alone would be 0 in float32."""
    prediction = torch.tensor([[3e-25, 0.0]])
    assert mse_pearson(prediction, torch.zeros(1, 2), w_corr=0.0, unit=1e-25).item() == pytest.approx(4.5)


def test_formula_divides_by_the_unit_only_where_there_is_one() -> None:
    for name, divisors in (("mse_pearson", 1), ("weighted_smooth", 2)):
        formula = build_loss(name, 0.06).formula
        assert formula.count(r"\, \sigma^2}") == divisors
        assert formula.count("{") == formula.count("}")
        assert "sigma" not in build_loss(name).formula


def test_built_loss_is_the_function() -> None:
    x, y = curves(4, 2, 2, 7), curves(4, 2, 2, 7, seed=4)
    assert torch.equal(build_loss("weighted_smooth", w_smooth=2.0)(x, y), weighted_smooth(x, y, w_smooth=2.0))
    assert CurveLoss("mse_pearson", {}).weights == {"w_mse": 1.0, "w_corr": 0.2}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build_loss("mse_person"), "loss is 'mse_person', allowed: .*; did you mean 'mse_pearson'?"),
        (lambda: build_loss("mse_pearson", w_cor=1.0), "has no weight 'w_cor', allowed: w_mse, w_corr; did you mean"),
        (lambda: build_loss("mse_pearson", w_mse=-1.0), "w_mse is -1.0, allowed: 0 or more"),
        (lambda: weighted_smooth(curves(2, 3), curves(2, 3), w_smooth=float("nan")), "w_smooth is nan"),
        (lambda: build_loss("mse_pearson", 0.0), "unit is 0.0, allowed: above 0"),
        (lambda: build_loss("mse_pearson", float("nan")), "unit is nan, allowed: above 0"),
        (lambda: CurveLoss("mse_pearson", {"unit": 2.0}), "has no weight 'unit', allowed: w_mse, w_corr"),
        (lambda: mse_pearson(curves(2, 3), curves(1, 3)), r"prediction has shape \(2, 3\) and target \(1, 3\)"),
        (lambda: mse_pearson(curves(2, 1), curves(2, 1)), "the curves have 1 point, allowed: 2 or more"),
    ],
)
def test_what_does_not_fit_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
