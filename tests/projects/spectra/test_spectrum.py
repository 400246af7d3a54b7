"""The cell from the file's curves: order of channels, interpolation, refusals."""

import numpy as np
import pytest

from projects.spectra.spectrum import CELL_CHANNELS, cells_from_rgb, resample, wavelengths_nm


def test_thirty_wavelengths_span_the_visible_range():
    assert wavelengths_nm(30)[[0, -1]].tolist() == [400.0, 700.0]
    assert np.allclose(np.diff(wavelengths_nm(30)), 300 / 29)


@pytest.mark.parametrize("num", [1, 302])
def test_a_number_of_wavelengths_outside_the_range_is_refused(num):
    with pytest.raises(ValueError, match=f"num_wavelengths must be 2 to 301, got {num}"):
        wavelengths_nm(num)


@pytest.mark.parametrize("num", [2, 7, 30, 301])
def test_interpolation_equals_that_of_numpy(num):
    curves = np.random.default_rng(0).normal(size=(3, 301)).astype(np.float32)
    grid = np.linspace(400, 700, 301)
    expected = [np.interp(np.linspace(400, 700, num), grid, curve) for curve in curves]
    np.testing.assert_allclose(resample(curves, num), expected, rtol=0, atol=1e-12)


def test_curves_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"301 bands, got shape \(2, 300\)"):
        resample(np.zeros((2, 300)), 30)


def test_blue_is_upper_left_and_red_lower_right():
    curves = np.stack([np.full(301, level) for level in (0.1, 0.2, 0.3)])[None]  # R, G, B
    cell = cells_from_rgb(curves, 30)
    assert cell.shape == (1, 2, 2, 30)
    assert cell.dtype == np.float32
    np.testing.assert_allclose(cell[0, :, :, 5], [[0.3, 0.2], [0.2, 0.1]], rtol=1e-6)
    assert CELL_CHANNELS == ("B", "G upper right", "G lower left", "R")


def test_a_file_without_three_channels_is_refused():
    with pytest.raises(ValueError, match=r"\(N, 3, 301\), got \(4, 2, 301\)"):
        cells_from_rgb(np.zeros((4, 2, 301)), 30)
