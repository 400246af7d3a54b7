"""What a photo's bytes say before a decoder sees them, and the traps that are taken out on the way.

Pillow's metadata parsers copy the value of every tag, so a few hundred kB of overlapping tags can ask for gigabytes,
and a JPEG may ask for thousands of passes over the whole image. So JPEG metadata never reaches Pillow, the directory of
a TIFF is checked and cut down to its first page, and the EXIF orientation is read by a parser that reads one number.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

MAX_SCANS = 100
"""Passes that a progressive JPEG may make; cameras and encoders make about 10."""

MAX_PARTS = 100_000
"""Segments, chunks, blocks or strips of a file; Pillow's loop over them takes microseconds each. A GIF of 10 MB has
40,000 by its nature, other photos a few thousand at most."""

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"BM", "BMP"),
)  # fmt: skip
_OTHERS = (
    (b"PK\x03\x04", "a ZIP archive"), (b"%PDF", "a PDF document"), (b"\x1f\x8b", "a gzip archive"),
    (b"II+\0", "a BigTIFF image"), (b"MM\0+", "a BigTIFF image"), (b"{", "JSON text"),
)  # fmt: skip
_SCAN, _APP0, _ADOBE, _APP15, _COMMENT = 0xDA, 0xE0, 0xEE, 0xEF, 0xFE
_END = 0xD9
_NO_LENGTH = {0x01, *range(0xD0, 0xDA)}
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # none of what may stand inside the coded image

_TIFF_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_ORIENTATION, _TILE_WIDTH, _TILE_HEIGHT = 274, 322, 323
_SUB_DIRECTORIES = {330, 34665, 34853, 40965}
_STRIPS = {273, 324}
_PRIVATE_TAG = 65000
_TOO_MANY = f"is made of more than {MAX_PARTS} parts"


class BytesError(ValueError):
    """The bytes are damaged or a trap; the message is the end of a sentence that begins with "the photo"."""


@dataclass(frozen=True)
class PhotoBytes:
    """A photo's bytes as a decoder may have them.

    Attributes:
        data: The bytes; of a JPEG without metadata, of a TIFF with one page.
        exif: EXIF block that was found on the way, b"" if none; PNG and WebP keep theirs in `data`.
        multi_picture: Whether a JPEG says that it holds several pictures (MPO).
        several_pages: Whether a TIFF has more pages than the one that is left.
    """

    data: bytes
    exif: bytes = b""
    multi_picture: bool = False
    several_pages: bool = False


def image_format(data: bytes) -> str | None:
    """Format by signature: JPEG, PNG, GIF, TIFF, BMP or WEBP; None for anything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return next((name for signature, name in _SIGNATURES if data.startswith(signature)), None)


def describe_other(data: bytes) -> str:
    """What bytes seem to be that are no image of a known format, for a sentence."""
    if data[4:8] == b"ftyp":
        return {b"avif": "an AVIF image", b"avis": "an AVIF image"}.get(data[8:12], "a HEIC image or a video")
    head = data[:1000].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in head:
        return "an SVG drawing"
    if head.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    return next((name for signature, name in _OTHERS if data.startswith(signature)), "no image of a known format")


def prepare(data: bytes, name: str, max_pixels: int) -> PhotoBytes:
    """Make a file of a known format harmless.

    Args:
        data: The file.
        name: Its format, as `image_format` says.
        max_pixels: Pixels that a tile of a TIFF may have.

    Raises:
        BytesError: If it is damaged in a way that is seen here, or a trap.
    """
    if name == "TIFF":
        return prepare_tiff(data, max_pixels)
    if name == "JPEG":
        return prepare_jpeg(data)
    if name == "PNG":
        _check_parts(_png_chunks(data))
    elif name == "GIF":
        _check_parts(_gif_blocks(data))
    return PhotoBytes(data)


def prepare_jpeg(data: bytes) -> PhotoBytes:
    """Take the metadata out of a JPEG: of the application segments JFIF and Adobe's stay, comments go.

    What stands behind the end of the picture goes too: phones put a video or further pictures there.

    Raises:
        BytesError: If the segments are damaged, there are too many, or more than MAX_SCANS scans.
    """
    kept, exif, several, place, parts = [b"\xff\xd8"], b"", False, 2, 0
    while place < len(data) - 1:
        marker, parts = data[place + 1], parts + 1
        if parts > MAX_PARTS:
            raise BytesError(_TOO_MANY)
        if data[place] != 0xFF or marker == 0xFF:  # Pillow skips such bytes too, so no segment may hide behind them
            place += 1
        elif marker == 0 or marker in _NO_LENGTH:
            place += 2
        else:
            segment = data[place : place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")]
            if len(segment) < 4:
                raise BytesError("has a damaged JPEG header")
            if marker == _SCAN:
                kept.append(data[place : _end_of_picture(data, place, parts)])
                break
            exif = exif or (segment[10:] if segment[4:10] == b"Exif\0\0" else b"")
            several |= segment[4:8] == b"MPF\0"
            if not (_APP0 < marker <= _APP15 or marker == _COMMENT) or marker == _ADOBE:
                kept.append(segment)
            place += len(segment)
    clean = b"".join(kept)
    scans = clean.count(b"\xff\xda")  # 0xff in the coded image is always followed by 0 or a restart marker
    if scans > MAX_SCANS:
        raise BytesError(f"has {scans} JPEG scans, allowed: {MAX_SCANS}")
    return PhotoBytes(clean, exif, several)


def _end_of_picture(data: bytes, place: int, parts: int) -> int:
    """Where a JPEG's picture ends: behind its end marker, or with the file where there is none.

    Segments between the scans are stepped over whole, so an end marker inside one is not taken for the picture's.

    Args:
        data: The file.
        place: Of its first scan.
        parts: Segments before that.

    Raises:
        BytesError: If there are too many segments.
    """
    while found := _NEXT_MARKER.search(data, place):
        place, marker, parts = found.start(), data[found.start() + 1], parts + 1
        if parts > MAX_PARTS:
            raise BytesError(_TOO_MANY)
        if marker == _END:
            return place + 2
        place += 2 if marker in _NO_LENGTH else 2 + max(2, int.from_bytes(data[place + 2 : place + 4], "big"))
    return len(data)


def prepare_tiff(data: bytes, max_pixels: int) -> PhotoBytes:
    """Check the first directory of a TIFF and cut off the pages and directories behind it.

    Args:
        data: The file.
        max_pixels: Pixels that one tile may have.

    Raises:
        BytesError: If the directory lies outside the file, its values claim more bytes than the file has, there are
            too many strips, or a tile is larger than `max_pixels`.
    """
    try:
        order, first, entries = _tiff_directory(data)
        clean, claimed, tile = bytearray(data), 0, [1, 1]
        for place, tag, kind, count in entries:
            size = _TIFF_TYPE_SIZES.get(kind, 1) * count
            claimed += size if size > 4 else 0
            if tag in _SUB_DIRECTORIES:  # becomes a private number that nobody follows
                struct.pack_into(f"{order}HHIHH", clean, place, _PRIVATE_TAG, 3, 1, 0, 0)
            elif tag == _ORIENTATION:  # is applied once, by us
                struct.pack_into(f"{order}HHIHH", clean, place, tag, 3, 1, 1, 0)
            elif tag in _STRIPS and count > MAX_PARTS:
                raise BytesError(_TOO_MANY)
            elif tag in (_TILE_WIDTH, _TILE_HEIGHT):
                tile[tag - _TILE_WIDTH] = _tiff_number(data, order, place, kind)
        end = first + 2 + 12 * len(entries)
        several = bytes(data[end : end + 4]) not in (b"\0\0\0\0", b"")
        clean[end : end + 4] = bytes(len(data[end : end + 4]))
    except struct.error:
        raise BytesError("has a TIFF directory that lies outside the file") from None
    if claimed > len(data):
        raise BytesError(f"has TIFF tags that claim {claimed} bytes, the file has {len(data)}")
    if tile[0] * tile[1] > max_pixels:
        raise BytesError(f"has TIFF tiles of {tile[0]} x {tile[1]} pixels, allowed: {max_pixels} pixels")
    return PhotoBytes(bytes(clean), exif=data, several_pages=several)


def orientation(exif: bytes) -> int | None:
    """EXIF orientation.

    Args:
        exif: EXIF block, with or without the leading "Exif" and two zeros, or a whole TIFF file; b"" if none.

    Returns:
        1 to 8, 1 where none is given; None if the block is damaged.
    """
    block = exif.removeprefix(b"Exif\0\0")
    if not block:
        return 1
    try:
        order, _, entries = _tiff_directory(block)
        values = [_tiff_number(block, order, place, kind) for place, tag, kind, _ in entries if tag == _ORIENTATION]
    except struct.error:
        return None
    value = values[0] if values else 1
    return value if 1 <= value <= 8 else None


def _check_parts(places: Iterator[int]) -> None:
    """Refuse a file of too many parts, having looked at no more than are allowed."""
    if any(True for _ in islice(places, MAX_PARTS, None)):
        raise BytesError(_TOO_MANY)


def _png_chunks(data: bytes) -> Iterator[int]:
    """Places of the chunks, up to where the file ends."""
    place = 8
    while place + 8 <= len(data):
        yield place
        place += 12 + int.from_bytes(data[place : place + 4], "big")


def _gif_blocks(data: bytes) -> Iterator[int]:
    """Places of blocks, sub-blocks and of bytes that are neither, which Pillow skips one by one."""
    place = 13 + _gif_palette(data, 10)
    while place < len(data) and data[place] != 0x3B:
        yield place
        kind = data[place]
        if kind not in (0x21, 0x2C):
            place += 1
            continue
        place += 2 if kind == 0x21 else 11 + _gif_palette(data, place + 9)
        while place < len(data) and data[place]:
            yield place
            place += 1 + data[place]
        place += 1


def _gif_palette(data: bytes, flags: int) -> int:
    """Bytes of the palette that the flags at a place announce."""
    return 6 << (data[flags] & 7) if flags < len(data) and data[flags] & 128 else 0


def _tiff_directory(data: bytes) -> tuple[str, int, list[tuple[int, int, int, int]]]:
    """Byte order, offset of the first directory, and its entries (offset, tag, type, count).

    Raises:
        struct.error: If any of it lies outside the data.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(data[:4]))
    if order is None:
        raise struct.error("no TIFF header")
    (first,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, first)
    places = [first + 2 + 12 * entry for entry in range(count)]
    return order, first, [(place, *struct.unpack_from(f"{order}HHI4x", data, place)) for place in places]


def _tiff_number(data: bytes, order: str, place: int, kind: int) -> int:
    """Value of a directory entry that holds one whole number."""
    form = {1: "B", 3: "H"}.get(kind, "I")
    return int(struct.unpack_from(f"{order}{form}", data, place + 8)[0])
