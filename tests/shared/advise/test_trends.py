import numpy as np
import pytest
from scipy.stats import theilslopes

from shared.advise.trends import level, lowest, noise, slope, trend_p


def test_noise_is_the_standard_deviation_around_any_trend():
    rng = np.random.default_rng(0)
    trend = np.linspace(5, 0, 4000) ** 2
    assert noise(trend + rng.normal(0, 0.3, 4000)) == pytest.approx(0.3, rel=0.05)
    jump = np.where(np.arange(4000) < 2000, 0.0, 50.0)
    assert noise(trend + jump + rng.normal(0, 0.3, 4000)) == pytest.approx(0.3, rel=0.05)
    assert np.isnan(noise(np.ones(3)))


def test_slope_is_that_of_scipy():
    rng = np.random.default_rng(1)
    values, at = rng.normal(size=40), np.sort(rng.uniform(0, 9, 40))
    assert slope(values) == pytest.approx(theilslopes(values)[0])
    assert slope(values, at) == pytest.approx(theilslopes(values, at)[0])


def test_the_error_of_a_level_is_the_scatter_of_medians():
    rng = np.random.default_rng(2)
    curves = rng.normal(0, 1, (2000, 60))
    levels = [level(curve, 40, 59) for curve in curves]
    scatter = np.std([entry.value for entry in levels])
    assert np.mean([entry.error for entry in levels]) == pytest.approx(scatter, rel=0.15)


def test_the_lowest_window_is_not_the_lowest_point():
    values = np.array([9.0, 9, 0, 9, 9, 5, 4, 5, 9, 9, 9])
    found = lowest(values)
    assert found.value == 5.0
    assert found.first <= 6 <= found.last


def test_trend_p_is_one_sided_and_flat_is_no_trend():
    fall = np.arange(10.0, 0, -1)
    assert trend_p(fall, -1) < 1e-5
    assert trend_p(fall, 1) > 0.99
    assert trend_p(np.ones(10), -1) == 1.0
    assert trend_p(fall[:3], -1) == 1.0
