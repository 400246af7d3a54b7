import numpy as np
import pytest

from projects.battery.data.labels import KINDS
from projects.battery.standin.config import FORMS
from projects.battery.standin.phantom import CAN, draw_battery
from projects.battery.standin.render import slice_points

CASES = [(kind, form) for kind in KINDS for form in FORMS]


@pytest.mark.parametrize(("kind", "form"), CASES)
def test_slices_along_two_axes_agree_on_their_common_line(kind, form):
    shape = draw_battery(kind, form, np.random.default_rng(3))
    size = 64
    x, z = slice_points("y", 0.1, size)[0], slice_points("y", 0.1, size)[2]
    row, column = 40, 20
    on_y = shape.attenuation(slice_points("y", 0.1, size))  # x across, z down
    on_z = shape.attenuation((x, np.float32([[0.1]]), np.float32([[z[row, 0]]])))
    on_x = shape.attenuation((np.float32([[x[0, column]]]), np.float32([[0.1]]), z))
    np.testing.assert_allclose(on_y[row], on_z[0], atol=1e-5)
    np.testing.assert_allclose(on_y[:, column], on_x[:, 0], atol=1e-5)


@pytest.mark.parametrize(("kind", "form"), CASES)
def test_matter_stays_inside_the_body_and_the_body_inside_the_frame(kind, form):
    for seed in range(5):
        shape = draw_battery(kind, form, np.random.default_rng(seed))
        grid = np.linspace(-1, 1, 41, dtype=np.float32)
        point = (grid[:, None, None], grid[None, :, None], grid[None, None, :])
        value, inside = shape.attenuation(point), shape.inside(point)
        assert value[~inside].max() == 0
        assert (shape.extent + np.abs(shape.centre)).max() < 1.0
        assert 0.02 < (value > 0.2).mean() < 0.75


def test_rotation_is_orthonormal():
    rotation = draw_battery("cell", "pouch", np.random.default_rng(0)).rotation
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)


def test_a_cylinder_looks_the_same_from_all_sides_but_for_its_spiral():
    shape = draw_battery("cell", "cylindrical", np.random.default_rng(1))
    radius, _, _ = shape.half
    angle = np.linspace(0, 2 * np.pi, 50, endpoint=False)
    rim = (radius - 0.4 * shape.cell.wall) * np.stack([np.cos(angle), np.sin(angle), 0 * angle])
    x, y, z = (shape.rotation.T @ rim) + np.asarray(shape.centre)[:, None]
    np.testing.assert_allclose(shape.attenuation((x, y, z)), CAN)


def test_batteries_differ_and_are_reproducible():
    one, again, other = (draw_battery("module", "prismatic", np.random.default_rng(s)) for s in (1, 1, 2))
    assert one.half == again.half
    assert one.half != other.half
