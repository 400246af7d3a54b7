import io

import numpy as np
import pytest
from PIL import Image

from projects.battery.data.png import read_png_header
from shared.errors import DataError


def encode(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, format="PNG")
    return stream.getvalue()


GREY = encode(np.zeros((5, 7), np.uint8))


@pytest.mark.parametrize(("dtype", "depth"), [(np.uint8, 8), (np.uint16, 16)])
def test_size_and_depth_are_those_that_pillow_wrote(dtype, depth):
    assert read_png_header(encode(np.zeros((5, 7), dtype)), "a.png") == (7, 5, depth)


def test_bytes_behind_the_end_are_allowed():
    assert read_png_header(GREY + b"\0" * 100, "a.png").width_px == 7


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "a.png is empty"),
        (b"\xff\xd8\xff\xe0JFIF", r"a.png is no PNG: it begins with b'\\xff\\xd8"),
        (GREY[:20], "without a header chunk"),
        (GREY[:-1], f"a.png is cut off: {len(GREY) - 1} bytes without a PNG end mark"),
        (GREY[:-12], "is cut off"),
        (GREY[:16] + b"\0" * 4 + GREY[20:], "has 0 x 5 pixels"),
    ],
)
def test_what_is_no_whole_png_is_refused(content, sentence):
    with pytest.raises(DataError, match=sentence):
        read_png_header(content, "a.png")
