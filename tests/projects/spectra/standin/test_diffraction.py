import itertools
import math

import numpy as np
import pytest

from projects.spectra.standin.config import WAVELENGTHS_NM, StandinConfig
from projects.spectra.standin.diffraction import (
    WEAKEST_ORDER,
    order_radius,
    quadrant_power,
    quadrant_power_reference,
    real_orders,
    trigonometric_basis,
)
from projects.spectra.standin.patterns import random_patterns
from shared.errors import ConfigError

FORMS = [quadrant_power, quadrant_power_reference]
VISIBLE = np.linspace(400, 700, 13)


def lopsided(count=4, side=32, seed=0):
    """Patterns without any symmetry: smooth ones and pixel noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] * 2 * np.pi / side
    waves = [sum(rng.normal() * np.cos(m * y + n * x + rng.uniform(0, 6)) for m in (0, 1, 2) for n in (-1, 1, 2))
             for _ in range(count)]  # fmt: skip
    return np.concatenate([np.array(waves) > 0, rng.random((1, side, side)) < 0.5]).astype(np.uint8)


@pytest.mark.parametrize(
    "physics",
    [
        {},
        {"distance_um": 0.6},
        {"distance_um": 7.0},
        {"pitch_um": 0.7},
        {"pitch_um": 3.3, "index_a": 2.0, "index_b_um2": 0.02},
    ],
)
def test_fast_form_is_the_plain_transform(physics):
    config = StandinConfig(**physics)
    patterns = np.concatenate([random_patterns(3, 0, 3, config), lopsided(2, 128)])
    expected = quadrant_power_reference(patterns, config, VISIBLE)
    np.testing.assert_allclose(quadrant_power(patterns, config, VISIBLE), expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.01


def test_result_does_not_depend_on_the_batch():
    patterns = random_patterns(0, 0, 70, StandinConfig(side_px=64, sigma_px=5.0))
    whole = quadrant_power(patterns, StandinConfig(), VISIBLE)
    parts = [quadrant_power(patterns[rows], StandinConfig(), VISIBLE) for rows in (slice(0, 1), slice(1, 70))]
    assert (whole.shape, whole.dtype) == ((70, 2, 2, 13), np.float32)
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=1e-6)
    assert quadrant_power(patterns[:0], StandinConfig(), VISIBLE).shape == (0, 2, 2, 13)


@pytest.mark.parametrize("form", FORMS)
def test_energy_is_conserved_where_all_orders_propagate(form):
    """16 pixels have orders up to 8 in each axis; sqrt(2) * 8 / (8 um) is below 1 / (700 nm)."""
    config = StandinConfig(pitch_um=8.0, distance_um=20.0)
    patterns = lopsided(20, 16)
    power = form(patterns, config, VISIBLE)
    np.testing.assert_allclose(power.sum((1, 2)), 1, rtol=0, atol=1e-6)
    assert power.std() > 0.01


def test_evanescent_orders_only_take_energy_away():
    total = quadrant_power(lopsided(), StandinConfig(), WAVELENGTHS_NM).sum((1, 2))
    assert total.max() <= 1 + 1e-6
    assert total[-1].min() < 0.2  # where the order 0 nearly vanishes, most of the pixel noise is lost


@pytest.mark.parametrize("form", FORMS)
def test_refinement_converges(form):
    """The same mask on finer pixels: each doubling changes the powers by a quarter of the doubling before."""
    coarse = random_patterns(4, 0, 3, StandinConfig(side_px=64, sigma_px=5.5))
    powers = [form(np.kron(coarse, np.ones((1, n, n), np.uint8)), StandinConfig(), VISIBLE[::4]) for n in (1, 2, 4, 8)]
    steps = [np.abs(fine - rough).max() for rough, fine in itertools.pairwise(powers)]
    assert steps[0] < 0.02
    assert steps[1] < 0.35 * steps[0]
    assert steps[2] < 0.35 * steps[1]


@pytest.mark.parametrize(("form", "rounding"), [(quadrant_power, 1e-6), (quadrant_power_reference, 1e-12)])
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize(("flip_y", "flip_x"), list(itertools.product([False, True], repeat=2)))
@pytest.mark.parametrize(("shift_y", "shift_x"), list(itertools.product([0, 1], repeat=2)))
def test_all_32_variants_permute_the_quadrants(form, rounding, transpose, flip_y, flip_x, shift_y, shift_x):
    patterns = lopsided()
    cell = form(patterns, StandinConfig(), VISIBLE[:4])
    if transpose:
        patterns, cell = patterns.swapaxes(1, 2), cell.swapaxes(1, 2)
    for axis, flip, shift in ((1, flip_y, shift_y), (2, flip_x, shift_x)):
        if flip:
            patterns, cell = np.flip(patterns, axis), np.flip(cell, axis)
        patterns, cell = np.roll(patterns, shift * 16, axis), np.roll(cell, shift, axis)
    np.testing.assert_allclose(form(patterns, StandinConfig(), VISIBLE[:4]), cell, rtol=0, atol=rounding)


@pytest.mark.parametrize(("form", "rounding"), [(quadrant_power, 1e-6), (quadrant_power_reference, 1e-12)])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_rotation_turns_the_quadrants_along(form, rounding, quarters):
    patterns = lopsided()
    turned = form(np.rot90(patterns, quarters, (1, 2)), StandinConfig(), VISIBLE[:4])
    cell = np.rot90(form(patterns, StandinConfig(), VISIBLE[:4]), quarters, (1, 2))
    np.testing.assert_allclose(turned, cell, rtol=0, atol=rounding)
    assert np.abs(turned - form(patterns, StandinConfig(), VISIBLE[:4])).max() > 0.05


@pytest.mark.parametrize("form", FORMS)
def test_uniform_patterns_give_a_quarter_each(form):
    patterns = np.stack([np.zeros((32, 32), np.uint8), np.ones((32, 32), np.uint8)])
    np.testing.assert_allclose(form(patterns, StandinConfig(), VISIBLE), 0.25, rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_diagonal_symmetric_patterns_have_equal_greens(form):
    power = form(random_patterns(0, 0, 8, StandinConfig()), StandinConfig(), VISIBLE[:4])
    np.testing.assert_allclose(power[:, 0, 1], power[:, 1, 0], rtol=0, atol=1e-6)
    assert np.abs(power[:, 0, 0] - power[:, 1, 1]).max() > 0.1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("phase", [math.pi, math.pi / 2])
def test_lamellar_grating_by_hand(form, phase):
    """Left half of a 0.5 um cell at 400 nm: only the orders 0 and +-1 get through.

    u = A + B sin(2 pi x), A = H_0 (1 + g / 2), B = H_1 g 2 / pi. Over the left half the means of 1, sin^2 and sin are
    1/2, 1/4 and 1/pi. At phi = pi: A = 0, all four quadrants hold 2 / pi^2 and 1 - 8 / pi^2 is lost. At phi = pi / 2:
    |A|^2 = 1/2, |B|^2 = 8 / pi^2, Re(A conj(B)) = (2 / pi) sin((kz_0 - kz_1) z).
    """
    config = StandinConfig(
        index_a=1.5, index_b_um2=0.0, thickness_um=0.4 * phase / math.pi, distance_um=2.8, pitch_um=0.5
    )
    grating = np.zeros((1, 512, 512), np.uint8)
    grating[:, :, :256] = 1
    if phase == math.pi:
        left = right = 2 / math.pi**2
    else:
        lag = 2 * math.pi * (2.5 - math.sqrt(2.5**2 - 2**2)) * 2.8
        left, right = (0.5 * (0.25 + 2 / math.pi**2 + sign * 4 / math.pi**2 * math.sin(lag)) for sign in (1, -1))
        assert abs(left - right) > 0.1
    expected = [[[[left], [right]], [[left], [right]]]]
    np.testing.assert_allclose(form(grating, config, [400.0]), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("pitch", "distance"), [(2.0, 2.0), (3.0, 0.5)])
def test_order_radius_is_where_the_decay_reaches_the_limit(pitch, distance):
    radius = order_radius(StandinConfig(pitch_um=pitch, distance_um=distance), 400.0)
    decay = math.exp(-2 * math.pi * distance * math.sqrt((radius / pitch) ** 2 - 2.5**2))
    assert decay == pytest.approx(WEAKEST_ORDER)


def test_basis_is_orthonormal_and_complete():
    basis = trigonometric_basis(8, 16)
    assert basis.shape == (16, 16)
    np.testing.assert_allclose(basis.T @ basis / 16, np.eye(16), atol=1e-12)
    assert real_orders(8, 16).tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8]


@pytest.mark.parametrize("form", FORMS)
def test_bad_arguments_are_named(form):
    with pytest.raises(ValueError, match=r"shape \(2, 16, 32\); allowed"):
        form(np.zeros((2, 16, 32), np.uint8), StandinConfig(), VISIBLE)
    with pytest.raises(ValueError, match=r"shape \(1, 15, 15\); allowed"):
        form(np.zeros((1, 15, 15), np.uint8), StandinConfig(), VISIBLE)
    with pytest.raises(ValueError, match=r"wavelengths_nm is \[400, -1\]; allowed"):
        form(np.zeros((1, 16, 16), np.uint8), StandinConfig(), [400, -1])


def test_too_many_orders_are_refused():
    with pytest.raises(ConfigError, match=r"standin\.distance_um 0\.05 .* rings of diffraction orders .*allowed: 256"):
        quadrant_power(np.zeros((1, 128, 128), np.uint8), StandinConfig(distance_um=0.05), VISIBLE)
