import cv2
import numpy as np
import pytest

from projects.pillsnap.onnx_graph.lab_tables import XZ_OFFSET, lab_tables

TABLES = lab_tables()


def to_lab(rgb):
    """The forward conversion in whole numbers, written out."""
    linear = TABLES.gamma[rgb]
    f = TABLES.root[(linear @ TABLES.to_xyz.T + 2048) >> 12]
    lightness = (296 * f[..., 1] - 1336934 + 16384) >> 15
    a = (500 * (f[..., 0] - f[..., 1]) + (128 << 15) + 16384) >> 15
    b = (200 * (f[..., 1] - f[..., 2]) + (128 << 15) + 16384) >> 15
    return np.clip(np.stack([lightness, a, b], axis=-1), 0, 255)


def to_rgb(lab):
    lightness, a, b = np.moveaxis(lab, -1, 0)
    x = TABLES.xz[TABLES.f_y[lightness] + TABLES.a_step[a] + XZ_OFFSET]
    z = TABLES.xz[TABLES.f_y[lightness] - TABLES.b_step[b] + XZ_OFFSET]
    light = (np.stack([x, TABLES.y[lightness], z], axis=-1) @ TABLES.to_rgb.T + 8192) >> 14
    return TABLES.inverse_gamma[np.clip(light, 0, 4095)]


def slices(step):
    """All colours with every `step`-th first channel, as uint8 (256, 256, 3)."""
    second, third = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    for first in range(0, 256, step):
        yield np.stack([np.full_like(second, first), second, third], axis=-1).astype(np.uint8)


def compare(step):
    for colours in slices(step):
        assert np.array_equal(to_lab(colours), cv2.cvtColor(colours, cv2.COLOR_RGB2LAB))
        assert np.array_equal(to_rgb(colours), cv2.cvtColor(colours, cv2.COLOR_LAB2RGB))


def test_every_15th_slice_of_all_colours_equals_opencv():
    compare(15)


@pytest.mark.slow
def test_all_colours_equal_opencv_in_both_directions():
    """2^24 each way."""
    compare(1)


def test_known_values():
    """Black, white and the white point by definition; the row sums are the white point's invariance."""
    assert TABLES.gamma[[0, 255]].tolist() == [0, 2040]
    assert TABLES.to_xyz.sum(axis=1).tolist() == [4096] * 3
    assert TABLES.root[2040] == 1 << 15
    assert TABLES.root[0] == round((1 << 15) * 16 / 116)
    assert TABLES.y[[0, 255]].tolist() == [0, 1 << 14]
    assert TABLES.f_y[255] == 1 << 14
    assert TABLES.xz[(1 << 14) + XZ_OFFSET] == 1 << 14
    assert TABLES.inverse_gamma[[0, 4095]].tolist() == [0, 255]


def test_no_index_leaves_its_table():
    """Over all L, a and b, also those that no RGB colour has."""
    for place in (TABLES.f_y[:, None] + TABLES.a_step, TABLES.f_y[:, None] - TABLES.b_step):
        assert (place + XZ_OFFSET).min() >= 0
        assert (place + XZ_OFFSET).max() < len(TABLES.xz)
