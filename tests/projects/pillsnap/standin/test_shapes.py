import numpy as np
import pytest

from projects.pillsnap.standin.drugs import SHAPES
from projects.pillsnap.standin.shapes import height_over, signed_distance

AXIS = np.linspace(-1.1, 1.1, 221, dtype=np.float32)
X, Y = np.meshgrid(AXIS, AXIS)


def at(shape, x, y, aspect=0.5):
    return float(signed_distance(shape, np.float32([x]), np.float32([y]), aspect)[0])


def test_circles_and_capsules_have_true_distances():
    assert at("round", 0, 0) == -1
    assert at("round", 0.6, 0.8) == pytest.approx(0, abs=1e-6)
    assert at("round", 2, 0) == 1
    assert at("capsule", 0.3, 0.1) == pytest.approx(0.1 - 0.5, abs=1e-6)
    assert at("capsule", 1.2, 0) == pytest.approx(0.2, abs=1e-6)
    assert at("tear", -1.0, 0) == pytest.approx(0, abs=1e-6)
    assert at("tear", 1.0, 0) == pytest.approx(0, abs=1e-6)
    assert at("oval", 0, 0.5) == at("oval", 1, 0) == pytest.approx(0, abs=1e-6)
    assert at("oval", 0, 0) == pytest.approx(-0.5)
    assert at("rectangle", 1, 0) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_outlines_fit_the_unit_and_fall_with_slope_one_at_the_rim(shape):
    distance = signed_distance(shape, X, Y, 0.5)
    assert distance.dtype == np.float32
    inside = distance < 0
    reach = max(np.abs(X[inside]).max(), np.abs(Y[inside]).max())
    assert 0.78 <= reach <= 1.02
    down, across = np.gradient(distance, float(AXIS[1] - AXIS[0]))
    rim = np.abs(distance) < 0.01
    slope = np.hypot(down, across)[rim]
    assert np.median(slope) == pytest.approx(1, abs=0.12)
    assert slope.min() > 0.45  # the soft edge of the pill is never much wider than a pixel


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"shape is 'star'; allowed: round, oval"):
        signed_distance("star", X, Y, 0.5)
    with pytest.raises(ValueError, match=r"profile is 'hollow'; allowed: capsule, domed, bevelled, flat"):
        height_over(X, "hollow")


def test_heights_are_those_of_a_cylinder_a_plateau_and_a_dome():
    line = np.float32([0.1, 0.0, -0.2, -0.5])
    np.testing.assert_allclose(height_over(line, "capsule"), np.sqrt([0, 0, 0.25 - 0.09, 0.25]), atol=1e-6)
    np.testing.assert_allclose(height_over(line, "flat"), [0, 0, 0.07, 0.07], atol=1e-6)
    domed = height_over(line, "domed")
    assert domed[0] == domed[1] == 0
    assert domed[2] < domed[3] == pytest.approx(0.1 + 0.15)
    bevelled = height_over(line, "bevelled")
    assert bevelled[2] == bevelled[3] == pytest.approx(0.05 + 0.055)
