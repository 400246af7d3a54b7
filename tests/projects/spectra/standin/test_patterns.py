import math

import numpy as np
import pytest

from projects.spectra.standin.config import StandinConfig
from projects.spectra.standin.patterns import random_patterns


def test_patterns_are_binary_symmetric_and_all_different():
    patterns = random_patterns(0, 0, 40, StandinConfig())
    assert (patterns.shape, patterns.dtype) == ((40, 128, 128), np.uint8)
    assert set(np.unique(patterns)) == {0, 1}
    np.testing.assert_array_equal(patterns, patterns.swapaxes(1, 2))
    assert len({pattern.tobytes() for pattern in patterns}) == 40


@pytest.mark.parametrize("config", [StandinConfig(), StandinConfig(side_px=32, sigma_px=0.7)])
def test_a_pattern_depends_on_seed_and_number_only(config):
    whole = random_patterns(5, 0, 23, config)
    parts = [random_patterns(5, first, count, config) for first, count in ((0, 1), (1, 9), (10, 0), (10, 13))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert not np.array_equal(random_patterns(6, 0, 23, config), whole)
    shifted = random_patterns(6, 0, 22, config)  # another seed is not the same stream at another place
    assert not any(np.array_equal(a, b) for a in shifted for b in whole)


@pytest.mark.parametrize("axis", [1, 2])
def test_correlation_is_that_of_noise_under_a_periodic_gaussian(axis):
    """Signs of two normal values of correlation rho agree with probability 1/2 + asin(rho) / pi."""
    config = StandinConfig(side_px=64, sigma_px=5.0)
    patterns = random_patterns(1, 0, 1500, config)
    far = (
        np.abs(np.abs(np.subtract.outer(np.arange(64), np.arange(64))) - 32) < 10
    )  # from the diagonal, around the border
    for distance in (2, 5, 10):
        same = (patterns == np.roll(patterns, distance, axis))[:, far].mean(1)
        expected = 0.5 + math.asin(math.exp(-((distance / 10) ** 2))) / math.pi  # rho = exp(-d^2 / (4 sigma^2))
        standard_error = same.std() / math.sqrt(len(same))
        assert abs(same.mean() - expected) < 4 * standard_error
        assert standard_error < 0.01


def test_half_of_a_set_is_material():
    share = random_patterns(2, 0, 2000, StandinConfig(side_px=32, sigma_px=3.0)).mean((1, 2))
    assert abs(share.mean() - 0.5) < 4 * share.std() / math.sqrt(2000)


def test_negative_numbers_are_refused():
    with pytest.raises(ValueError, match="seed 0, first -1 and count 2 must be 0 or more"):
        random_patterns(0, -1, 2, StandinConfig())
