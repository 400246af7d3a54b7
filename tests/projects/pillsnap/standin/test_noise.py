import numpy as np
import pytest

from projects.pillsnap.standin.noise import cloud


def test_clouds_have_about_unit_variance_and_the_asked_grain():
    rng = np.random.default_rng(0)
    field = cloud(rng, 128, 16)
    assert (field.shape, field.dtype) == ((128, 128), np.float32)
    assert field.std() == pytest.approx(1, abs=0.25)
    rough = np.abs(np.diff(cloud(rng, 128, 64), axis=1)).mean()
    assert rough > 3 * np.abs(np.diff(field, axis=1)).mean()


def test_stretched_clouds_change_faster_along_the_fine_axis():
    field = cloud(np.random.default_rng(0), 128, (4, 64))
    assert np.abs(np.diff(field, axis=1)).mean() > 4 * np.abs(np.diff(field, axis=0)).mean()


def test_octaves_add_detail_and_more_cells_than_pixels_are_no_error():
    plain, detailed = (cloud(np.random.default_rng(3), 64, 4, octaves=count) for count in (1, 3))
    assert np.abs(np.diff(detailed)).mean() > 1.5 * np.abs(np.diff(plain)).mean()
    assert cloud(np.random.default_rng(0), 16, 999).shape == (16, 16)
