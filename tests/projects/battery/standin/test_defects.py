import numpy as np
import pytest

from projects.battery.standin.defects import Bead, Sheet

VOID = Sheet(0, (0.1, -0.2, 0.3), (0.2, 0.15), (0.0, 0.0), 0.04, 0.8)


def at(*point):
    return tuple(np.array([value]) for value in point)


def test_a_sheet_takes_its_contrast_in_the_middle_and_half_at_half_width():
    assert VOID.transmission(at(0.1, -0.2, 0.3)) == pytest.approx(1 - 0.8)
    assert VOID.transmission(at(0.12, -0.2, 0.3)) == pytest.approx(1 - 0.4, abs=1e-5)
    assert VOID.transmission(at(0.1, 0.01, 0.3)) == pytest.approx(1.0)  # beyond the rim along y


def test_a_void_is_seen_along_y_and_z_but_not_along_x():
    line = np.linspace(-1, 1, 401)
    seen_on_y = VOID.transmission((line[None, :], np.array([[-0.2]]), line[:, None])) < 0.6
    assert seen_on_y.any(axis=1).sum() * 0.005 == pytest.approx(0.29, abs=0.03)  # tall: 2 · 0.15
    assert seen_on_y.any(axis=0).sum() * 0.005 == pytest.approx(0.04, abs=0.01)  # thin
    beside = VOID.transmission((np.array([[0.2]]), line[None, :], line[:, None]))
    assert beside.min() > 0.999


def test_depth_is_one_at_the_rim():
    assert VOID.depth(1, -0.2) == 0
    assert VOID.depth(1, 0.0) == pytest.approx(1.0)
    assert VOID.depth(2, 0.15) == pytest.approx(1.0)
    assert VOID.depth(0, 0.14) == pytest.approx(1.0)


def test_slope_moves_the_line_across():
    tilted = Sheet(0, (0.0, 0.0, 0.0), (0.5, 0.5), (0.0, 1.0), 0.04, 0.8)
    assert tilted.transmission(at(0.2, 0.0, 0.2)) == pytest.approx(0.2, abs=1e-4)
    assert tilted.transmission(at(0.0, 0.0, 0.2)) == pytest.approx(1.0, abs=1e-4)


def test_a_bead_is_solid_inside_its_radius_only():
    bead = Bead((0.8, 0.0, 0.0), (0.1, 0.2, 0.2), 1.0)
    assert bead.attenuation(at(0.85, 0.1, 0.0)) > 0.3
    assert bead.attenuation(at(0.95, 0.0, 0.0)) == 0
    assert bead.attenuation(at(0.75, 0.0, 0.0)) == 0  # inside the module it is not seen, nor is it on x slices
    low, high = bead.box(1, 0.0)
    assert low.tolist() == pytest.approx([0.76, -0.2, -0.2])
    assert high.tolist() == pytest.approx([0.9, 0.2, 0.2])
