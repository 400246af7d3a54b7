import numpy as np
import pytest

from projects.battery.data.decode import decode_grey, resize_square
from shared.errors import DataError


@pytest.fixture
def pixels():
    return np.random.default_rng(5).integers(0, 256, (48, 64), dtype=np.uint8)


def test_grey_values_are_those_that_were_written(battery_ct, pixels):
    assert np.array_equal(decode_grey(battery_ct.png_bytes(pixels), "a.png"), pixels)


def test_sixteen_bits_keep_the_upper_byte(battery_ct, pixels):
    deep = pixels.astype(np.uint16) * 256 + 17
    assert np.array_equal(decode_grey(battery_ct.png_bytes(deep), "a.png"), pixels)


def test_shrinking_by_a_whole_factor_is_the_block_mean(pixels):
    square = pixels[:, :48]
    expected = square.reshape(16, 3, 16, 3).mean(axis=(1, 3))
    assert np.abs(resize_square(square, 16).astype(float) - expected).max() <= 0.5 + 1e-6
    assert resize_square(square, 48) is square
    assert resize_square(pixels, 96).shape == (96, 96)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_damaged_bytes_are_refused_by_name(battery_ct, pixels, damage):
    content = bytearray(battery_ct.png_bytes(pixels))
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flip":
        content[len(content) // 2] ^= 0xFF
    elif damage == "empty":
        content = bytearray()
    else:
        content = bytearray(b"this is no image at all")
    with pytest.raises(DataError, match=r"image folder/a\.png (is|cannot)"):
        decode_grey(bytes(content), "folder/a.png")
