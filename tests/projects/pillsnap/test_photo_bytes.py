import io
import struct

import numpy as np
import pytest
from PIL import Image

from projects.pillsnap.photo_bytes import (
    BytesError,
    describe_other,
    image_format,
    orientation,
    prepare_jpeg,
    prepare_tiff,
)


def saved(kind, **options):
    stream = io.BytesIO()
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"])
def test_formats_are_known_by_their_signature(kind):
    assert image_format(saved(kind)) == kind
    assert image_format(b"x" + saved(kind)) is None


def test_other_files_are_described():
    assert describe_other(b"  <html><svg></svg>") == "an SVG drawing"
    assert describe_other(b"\xef\xbb\xbf<HTML>") == "an HTML page"
    assert describe_other(b'{"a": 1}') == "JSON text"
    assert describe_other(b"MM\0+") == "a BigTIFF image"
    assert describe_other(b"") == "no image of a known format"


def test_a_jpeg_loses_its_metadata_and_nothing_else():
    exif = Image.Exif()
    exif[0x0112] = 3
    data = saved("JPEG", exif=exif, comment=b"a secret", icc_profile=b"profile" * 20)
    photo = prepare_jpeg(data)
    assert orientation(photo.exif) == 3
    assert b"secret" not in photo.data
    assert b"Exif" not in photo.data
    assert b"profile" not in photo.data
    decoded = [np.asarray(Image.open(io.BytesIO(content))) for content in (data, photo.data)]
    assert np.array_equal(*decoded)


def test_adobe_s_segment_stays():
    stream = io.BytesIO()
    Image.new("CMYK", (8, 8)).save(stream, "JPEG")
    assert b"Adobe" in prepare_jpeg(stream.getvalue()).data


@pytest.mark.parametrize("filler", [b"\xff", b"\xff\xff\xff", b"junk", b"\xff\0", b"\xff\xd0"])
def test_no_segment_hides_behind_what_pillow_skips(filler):
    data = saved("JPEG")
    hidden = b"\xff\xe1" + struct.pack(">H", 20) + b"Exif\0\0" + bytes(12)
    assert b"Exif" not in prepare_jpeg(data[:2] + filler + hidden + data[2:]).data


def test_damaged_jpeg_segments_are_refused():
    with pytest.raises(BytesError, match="has a damaged JPEG header"):
        prepare_jpeg(b"\xff\xd8\xff\xe1\0\1")


def tiff(*entries, order="<", tail=b"\0\0\0\0"):
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    return head + b"".join(struct.pack(f"{order}HHIHH", *entry) for entry in entries) + tail


@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_is_read_in_both_byte_orders(order):
    for value in range(1, 9):
        block = tiff((256, 3, 1, 40, 0), (274, 3, 1, value, 0), order=order)
        assert orientation(block) == orientation(b"Exif\0\0" + block) == value
    assert orientation(tiff((256, 3, 1, 40, 0), order=order)) == 1
    assert orientation(tiff((274, 3, 1, 0, 0), order=order)) is None
    assert orientation(b"") == 1
    assert orientation(b"Exif\0\0") == 1
    assert orientation(b"Exif\0\0garbage") is None
    assert orientation(tiff((274, 3, 1, 5, 0), order=order)[:20]) is None


def test_a_tiff_is_cut_down_to_its_first_page():
    photo = prepare_tiff(tiff((34665, 4, 1, 8, 0), (274, 3, 1, 6, 0), tail=struct.pack("<I", 8)), 100)
    assert photo.several_pages
    assert photo.data.endswith(b"\0\0\0\0")
    assert orientation(photo.data) == 1
    assert orientation(photo.exif) == 6
    assert struct.pack("<H", 34665) not in photo.data
    assert not prepare_tiff(tiff((274, 3, 1, 6, 0)), 100).several_pages


def test_traps_in_a_tiff_are_refused():
    with pytest.raises(BytesError, match="has TIFF tags that claim 4000 bytes, the file has 26"):
        prepare_tiff(tiff((700, 4, 1000, 8, 0)), 100)
    with pytest.raises(BytesError, match="has TIFF tiles of 11 x 10 pixels, allowed: 100 pixels"):
        prepare_tiff(tiff((322, 3, 1, 11, 0), (323, 4, 1, 10, 0)), 100)
    with pytest.raises(BytesError, match="has a TIFF directory that lies outside the file"):
        prepare_tiff(tiff((322, 3, 1, 11, 0))[:15], 100)
