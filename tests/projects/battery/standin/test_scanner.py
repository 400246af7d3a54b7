from dataclasses import replace

import numpy as np
import pytest

from projects.battery.standin.config import StandinConfig
from projects.battery.standin.render import slice_points
from projects.battery.standin.scanner import _RADII, draw_scan, scan_slice

SIZE = 128
GREY = 255 / 1.47  # grey values for one unit of attenuation


@pytest.fixture
def scan():
    made = draw_scan(StandinConfig(), np.random.default_rng(0))
    return replace(made, gain=1.0, offset=0.0, noise=0.0, hardening=0.0, rings=np.zeros_like(made.rings))


def take(scan, attenuation, axis="z", seed=0):
    point = slice_points(axis, 0.0, SIZE)
    return scan_slice(attenuation, point, "xyz".index(axis), scan, np.random.default_rng(seed)).astype(np.float64)


def flat(value=0.5):
    return np.full((SIZE, SIZE), value, dtype=np.float32)


def test_a_perfect_scanner_only_applies_the_window(scan):
    assert np.unique(take(scan, flat(0.0))).tolist() == [round(0.12 * GREY)]
    assert np.unique(take(scan, flat(0.5))).tolist() == [round(0.62 * GREY)]
    assert take(scan, flat(1.0)).max() <= 255


def test_noise_has_the_stated_strength_grain_and_seed(scan):
    noisy = replace(scan, noise=0.05)
    image = take(noisy, flat(0.3)) / GREY
    inner = image[32:-32, 32:-32] - image[32:-32, 32:-32].mean()
    assert 0.03 < inner.std() < 0.09
    neighbours = np.mean(inner[:, 1:] * inner[:, :-1]) / inner.var()
    assert neighbours > 0.2  # white noise would have 0 ± 0.016
    assert (take(noisy, flat(), seed=1) == take(noisy, flat(), seed=1)).all()
    assert (take(noisy, flat(), seed=1) != take(noisy, flat(), seed=2)).any()


def test_beam_hardening_darkens_the_middle_of_a_block(scan):
    block = np.zeros((SIZE, SIZE), dtype=np.float32)
    block[24:104, 24:104] = 0.7
    image = take(replace(scan, hardening=0.3), block)
    assert image[64, 64] < image[30, 30] - 10


def test_rings_are_arcs_across_the_axis_and_lines_along_it(scan):
    rings = np.zeros((_RADII, 64), dtype=np.float32)
    rings[30] = 0.3  # one faulty detector column, 30 px from the axis
    faulty = replace(scan, rings=rings, spin=2, spin_centre=(0.0, 0.0))
    across, along = take(faulty, flat(), axis="z"), take(faulty, flat(), axis="y")
    bright = across > across.min() + 20
    rows, columns = np.nonzero(bright)
    radius = np.hypot(rows - 63.5, columns - 63.5)
    assert radius.min() > 28
    assert radius.max() < 32
    assert np.flatnonzero(along[64] > along.min() + 10).tolist() == [33, 34, 93, 94]  # the line lies between two pixels
    assert (along == along[:1]).all()


def test_metal_casts_dark_bands_between_its_pieces(scan):
    two = flat(0.3)
    two[60:68, 20:28] = two[60:68, 100:108] = 1.5
    image = take(replace(scan, spin=0), two, axis="y")  # rays run down the image
    assert image[64, 64] == image[20, 64]
    image = take(replace(scan, spin=2), two, axis="y")  # rays run across it
    assert image[64, 64] < image[20, 64] - 10


def test_the_stage_turns_about_any_axis():
    spins = [draw_scan(StandinConfig(), np.random.default_rng(seed)).spin for seed in range(60)]
    assert min(np.bincount(spins, minlength=3)) > 8
