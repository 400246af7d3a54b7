"""Small image files of every kind, and PNG files put together by hand."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def ramp(height=48, width=64):
    """Three gradients, smooth enough for JPEG."""
    rows, columns = np.mgrid[:height, :width]
    channels = [
        rows * 255 // (height - 1),
        columns * 255 // (width - 1),
        (rows + columns) * 255 // (height + width - 2),
    ]
    return np.stack(channels, axis=-1).astype(np.uint8)


def encoded(image, kind, **options):
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, kind, **options)
    return stream.getvalue()


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(header, *chunks):
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")
