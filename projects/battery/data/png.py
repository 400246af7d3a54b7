"""What a PNG says about itself in its first bytes and its last, read without decoding it."""

import struct
from typing import NamedTuple

from shared.errors import DataError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
END_CHUNK = b"\x00\x00\x00\x00IEND\xaeB`\x82"  # length 0, type, CRC: the same in every PNG


class PngHeader(NamedTuple):
    """Size in pixels and bits per sample."""

    width_px: int
    height_px: int
    bit_depth: int


def read_png_header(content: bytes, where: str) -> PngHeader:
    """Check that `content` is a whole PNG and return its header.

    A file cut off in a copy has no end chunk; bytes behind the end chunk are harmless and allowed.

    Args:
        content: All bytes of the file.
        where: Path for the message.

    Raises:
        DataError: The file is empty, no PNG, cut off, or of size zero.
    """
    if not content:
        raise DataError(f"image {where} is empty (0 bytes); copy it again.")
    if not content.startswith(SIGNATURE):
        raise DataError(f"image {where} is no PNG: it begins with {content[:8]!r}; convert it or remove it.")
    if len(content) < 33 or content[12:16] != b"IHDR":
        raise DataError(f"image {where} is a PNG without a header chunk; copy it again.")
    width_px, height_px, bit_depth = struct.unpack(">IIB", content[16:25])
    if width_px == 0 or height_px == 0:
        raise DataError(f"image {where} has {width_px} x {height_px} pixels; copy it again.")
    # Searched from the back, so that a whole file costs one comparison.
    if content.rfind(END_CHUNK) < 0:
        raise DataError(f"image {where} is cut off: {len(content)} bytes without a PNG end mark; copy it again.")
    return PngHeader(width_px, height_px, bit_depth)
