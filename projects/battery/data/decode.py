"""Bytes of an image file to grey pixels, with OpenCV."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from projects.battery.data.png import SIGNATURE, read_png_header
from shared.errors import DataError

# Loader workers and the audit's threads are the parallelism here. OpenCV's own pool would multiply with them, and a
# process forked while that pool exists can hang in its first resize.
cv2.setNumThreads(0)


def decode_grey(content: bytes, where: str) -> NDArray[np.uint8]:
    """Decode an image file to grey.

    Args:
        content: All bytes of a file in a format that OpenCV reads; 16-bit samples keep their upper byte.
        where: Path for the message.

    Returns:
        Pixels, (H, W) uint8.

    Raises:
        DataError: The bytes are cut off or no image.
    """
    if not content or content.startswith(SIGNATURE):
        read_png_header(content, where)
    try:
        image = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error as error:
        raise DataError(f"image {where} cannot be decoded ({error.err}); copy it again or remove it.") from error
    if image is None:
        raise DataError(f"image {where} cannot be decoded: {len(content)} damaged bytes; copy it again or remove it.")
    return _as_grey(image)


def resize_square(image: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """Resize to `size_px` x `size_px`, every class alike; the aspect ratio is given up.

    Padding to keep it would write the outline's shape, which differs between kinds, into a border of constant grey:
    a shortcut that the spec reports from the field.

    Args:
        image: Pixels, (H, W) uint8.
        size_px: Side of the result, > 0.

    Returns:
        Pixels, (size_px, size_px) uint8; area weighted where it shrinks, so thin dark voids fade and do not alias.
    """
    if image.shape == (size_px, size_px):
        return image
    shrinks = image.shape[0] > size_px or image.shape[1] > size_px
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return _as_grey(cv2.resize(image, (size_px, size_px), interpolation=interpolation))


def _as_grey(image: Any) -> NDArray[np.uint8]:
    assert image.dtype == np.uint8
    assert image.ndim == 2
    return np.asarray(image, dtype=np.uint8)
