"""Files that mean harm, or came to harm: each is refused with one sentence, in bounded time and memory."""

import json
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from projects.pillsnap.gateway import GatewayLimits, PhotoError, check_photo, decode_photo, read_photo
from tests.fabricate.pill_files import chunk, encoded, png, ramp

SMALL_OK = GatewayLimits(min_side_px=1)


def refusal(data, limits=SMALL_OK):
    with pytest.raises(PhotoError) as caught:
        decode_photo(data, limits)
    error = caught.value
    check = check_photo(data, limits)
    assert check == error.check
    assert (check.valid, check.error) == (False, error.sentence)
    assert str(error) == error.sentence
    assert "\n" not in error.sentence
    json.dumps(check.as_dict())
    return error


@pytest.mark.parametrize("mode", ["F", "I"])
def test_numbers_without_a_range_are_refused(mode):
    error = refusal(encoded(Image.new(mode, (8, 8)), "TIFF"))
    assert error.status_hint == 422
    assert error.sentence.startswith(f"the photo has the colour mode {mode}, allowed: 1, L, P, RGB")


@pytest.mark.parametrize(
    ("data", "status", "sentence"),
    [
        (b"", 400, "the file is empty"),
        (b"PK\x03\x04" + bytes(50), 415, "the file is a ZIP archive; JPEG or PNG is expected"),
        (b"<!DOCTYPE html><html><img></html>", 415, "the file is an HTML page; JPEG"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', 415, "the file is an SVG drawing; JPEG"),
        (b"%PDF-1.7", 415, "the file is a PDF document; JPEG"),
        (b"\0\0\0\x18ftypheic" + bytes(20), 415, "the file is a HEIC image or a video; JPEG"),
        (b"\0\0\0\x18ftypavif" + bytes(20), 415, "the file is an AVIF image; JPEG"),
        (np.random.default_rng(0).bytes(5000), 415, "the file is no image of a known format; JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", 415, "the file is no image of a known format; JPEG"),
        (b"\xff\xd8\xff\xe0\0\0", 422, "the photo has a damaged JPEG header"),
        (b"\xff\xd8\xff", 422, "the JPEG photo is damaged: its header cannot be read"),
        (b"\x89PNG\r\n\x1a\n", 422, "the PNG photo is damaged: its header cannot be read"),
        (b"II*\0\xf0\xff\xff\xff", 422, "the photo has a TIFF directory that lies outside the file"),
        (b"II*\0\x08\0\0\0\xff\xff", 422, "the photo has a TIFF directory that lies outside the file"),
        (b"BM" + bytes(60), 422, "the BMP photo is damaged or cut off ("),
        (b"GIF89a" + b"\xff" * 7, 422, "the GIF photo is damaged: its header cannot be read"),
        (b"RIFF\x10\0\0\0WEBPVP8 \0\0\0\0", 422, "the WEBP photo is damaged or cut off ("),
    ],
)
def test_hostile_bytes_get_one_sentence(data, status, sentence):
    error = refusal(data)
    assert error.sentence.startswith(sentence)
    assert error.status_hint == status


def test_an_oversize_file_is_refused_unread():
    error = refusal(encoded(ramp(), "BMP"), GatewayLimits(max_bytes=1000))
    assert error.sentence == "the file has 9270 bytes, allowed: 1000"
    assert error.status_hint == 413
    assert error.check.format is None
    assert check_photo(encoded(ramp(), "BMP"), GatewayLimits(max_bytes=9270)).valid


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF"])
def test_too_many_pixels_are_refused_by_the_header(kind):
    data = encoded(Image.new("1" if kind in ("BMP", "TIFF") else "L", (3000, 2001)), kind)
    tracemalloc.start()
    error = refusal(data, GatewayLimits(max_pixels=6_000_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert error.sentence == "the photo has 3000 x 2001 pixels, allowed: 6000000 in all"
    assert error.status_hint == 413
    assert error.check.size == (3000, 2001)
    assert peak < 2_000_000 + 3 * len(data)


@pytest.mark.parametrize("side", [20_000, 60_000, 2**31 - 1])
def test_a_png_that_claims_to_be_huge_is_refused(side):
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    error = refusal(png(header, chunk(b"IDAT", zlib.compress(bytes(1000)))))
    assert error.status_hint == 413
    assert error.sentence.startswith("the photo ")
    assert error.sentence.endswith(" pixels, allowed: 50000000 in all")


def test_a_text_chunk_that_inflates_is_refused():
    bomb = b"Comment\0\0" + zlib.compress(bytes(50_000_000), 9)
    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    began = time.process_time()
    error = refusal(png(header, chunk(b"zTXt", bomb), chunk(b"IDAT", zlib.compress(bytes(72)))))
    assert time.process_time() - began < 2
    assert error.sentence.startswith("the PNG photo is damaged or cut off (Decompressed data too large")


@pytest.mark.parametrize("name", [b"exif", b"transparency", b"dpi", b"icc_profile", b"Raw profile type exif"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "I;16"])
def test_a_text_that_poses_as_something_else_crashes_nothing(name, mode):
    image = Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)) if mode == "I;16" else Image.new(mode, (8, 8))
    data = encoded(image, "PNG")
    first = data.index(b"IDAT") - 4
    check = check_photo(data[:first] + chunk(b"tEXt", name + b"\0II*\0 text") + data[first:], SMALL_OK)
    assert check.valid or check.error.startswith("the PNG photo is damaged or cut off (")


def test_overlapping_tiff_tags_are_refused_before_they_are_copied():
    """3,000 tags that each claim the same 2 MB: Pillow would copy 6 GB."""
    entries = b"".join(struct.pack("<HHII", 700 + tag, 7, 2_000_000, 8) for tag in range(3000))
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", 3000) + entries + bytes(2_000_000)
    error = refusal(data)
    assert error.sentence == f"the photo has TIFF tags that claim 6000000000 bytes, the file has {len(data)}"


def test_overlapping_exif_tags_never_reach_a_parser():
    """The same trap inside a JPEG: 5,000 tags of 60 kB each."""
    entries = b"".join(struct.pack("<HHII", 700 + tag, 7, 60_000, 8) for tag in range(5000))
    block = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 5000) + entries
    segment = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
    clean = encoded(ramp(), "JPEG")
    start = clean.index(b"\xff\xe0")
    data = (
        clean[:2] + segment + clean[start + 2 + int.from_bytes(clean[start + 2 : start + 4], "big") :]
    )  # without JFIF
    tracemalloc.start()
    assert np.array_equal(decode_photo(data, SMALL_OK), decode_photo(clean, SMALL_OK))
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()


def test_a_huge_tiff_tile_is_refused():
    data = bytearray(encoded(ramp(), "TIFF", compression="tiff_deflate"))
    first = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, first)[0]
    for place, tag in zip((first + 2, first + 14), (322, 323), strict=True):
        struct.pack_into("<HHII", data, place, tag, 4, 1, 40_000)
    assert count > 2
    assert refusal(bytes(data)).sentence == "the photo has TIFF tiles of 40000 x 40000 pixels, allowed: 50000000 pixels"


def test_a_jpeg_of_thousands_of_scans_is_refused():
    data = encoded(ramp(), "JPEG", progressive=True)
    scan = data.index(b"\xff\xda")
    end = data.index(b"\xff", scan + 14)
    error = refusal(data[:scan] + data[scan:end] * 5000 + data[end:])
    assert error.sentence.endswith("JPEG scans, allowed: 100")
    assert check_photo(data, SMALL_OK).valid


def test_what_stands_behind_the_picture_is_not_read():
    """A phone's motion photo: a sound JPEG with 8 MB of video behind it."""
    picture = np.tile(ramp(), (11, 8, 1))
    for options in ({}, {"progressive": True}):
        data = encoded(picture, "JPEG", **options)
        behind = np.random.default_rng(0).bytes(8 << 20)
        assert behind.count(b"\xff\xda") > 100
        began = time.process_time()
        pixels, check = read_photo(data + behind)
        assert time.process_time() - began < 1
        assert check.valid
        assert np.array_equal(pixels, decode_photo(data))


def test_scans_do_not_hide_behind_the_end_marker_of_another_segment():
    data = encoded(ramp(), "JPEG", progressive=True)
    scan = data.index(b"\xff\xda")
    end = data.index(b"\xff", scan + 14)
    disguise = b"\xff\xfe\0\4\xff\xd9"  # a comment that is an end marker
    error = refusal(data[:end] + disguise + data[scan:end] * 5000 + data[end:])
    assert error.sentence.endswith("JPEG scans, allowed: 100")
    assert np.array_equal(decode_photo(data[:end] + disguise + data[end:], SMALL_OK), decode_photo(data, SMALL_OK))


def test_too_many_segments_behind_the_first_scan_are_refused():
    data = encoded(ramp(), "JPEG")
    began = time.process_time()
    error = refusal(data[:-2] + b"\xff\xfe\0\2" * 200_000 + data[-2:])
    assert error.sentence == "the photo is made of more than 100000 parts"
    assert time.process_time() - began < 2


def many_parts():
    """Files of 200,000 parts and more that cost the decoder microseconds each, by name."""
    jpeg, picture, gif = (encoded(ramp(), kind) for kind in ("JPEG", "PNG", "GIF"))
    first = picture.index(b"IDAT") - 4
    behind_palette = 13 + (6 << (gif[10] & 7))
    count = 200_000
    entries = [(256, 4, 1, 64), (257, 4, 1, count), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, count, 74), (278, 4, 1, 1)]
    directory = b"II*\0\x08\0\0\0\x06\0" + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return {
        "JPEG comments": jpeg[:2] + b"\xff\xfe\0\2" * count + jpeg[2:],
        "JPEG padding": jpeg[:2] + b"\xff" * count + jpeg[2:],
        "PNG chunks": picture[:first] + chunk(b"prVt", b"") * count + picture[first:],
        "GIF sub-blocks": gif[:behind_palette] + b"!\xfe" + b"\1a" * count + b"\0" + gif[behind_palette:],
        "GIF frames": gif[:-1] + b"!\xfe\0" * count + b";",
        "GIF filling": gif[:-1] + b"x" * count + b";",
        "TIFF strips": directory + bytes(4) + bytes(4 * count),
    }


@pytest.mark.parametrize("name", sorted(many_parts()))
def test_a_file_of_too_many_parts_is_refused(name):
    began = time.process_time()
    assert refusal(many_parts()[name]).sentence == "the photo is made of more than 100000 parts"
    assert time.process_time() - began < 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_photo_cut_off_anywhere_is_refused(kind):
    """Either refused or, where only a trailer is missing, the same pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    options = {"compression": "tiff_lzw"} if kind == "TIFF" else {}
    data = encoded(noise, kind, **options)
    whole = decode_photo(data, SMALL_OK)
    survived = []
    for length in range(1, len(data), max(1, len(data) // 150)):
        try:
            pixels = decode_photo(data[:length], SMALL_OK)
        except PhotoError:
            continue
        assert np.array_equal(pixels, whole)
        survived.append(length)
    assert all(length > len(data) - 300 for length in survived), survived
    assert kind != "PNG" or not survived


def test_damage_inside_a_png_is_found():
    data = bytearray(encoded(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8), "PNG", compress_level=0))
    data[2000] ^= 1  # stored, not compressed: without the checksum one pixel would change unseen
    assert refusal(bytes(data)).sentence.startswith("the PNG photo is damaged or cut off (")


SEEDS = [encoded(ramp(12, 16), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")]


@settings(deadline=5000, max_examples=300)
@given(data=st.data())
def test_no_bytes_crash_it(data):
    """Random bytes behind a true signature, and true photos with bytes changed, cut, doubled."""
    seed = data.draw(st.sampled_from(SEEDS))
    kept = data.draw(st.integers(0, len(seed)))
    content = bytearray(seed[:kept] + data.draw(st.binary(max_size=200)))
    for _ in range(data.draw(st.integers(0, 8))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    check = check_photo(bytes(content), GatewayLimits(max_pixels=1_000_000))
    assert check.valid is (check.error is None)
    json.dumps(check.as_dict())


@given(st.binary(max_size=400))
def test_no_random_bytes_crash_it(content):
    check_photo(content)
