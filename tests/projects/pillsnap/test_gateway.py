import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from projects.pillsnap.gateway import GatewayLimits, check_photo, decode_photo, main, read_photo
from tests.fabricate.pill_files import chunk, encoded, png, ramp

SMALL_OK = GatewayLimits(min_side_px=1)


def test_a_good_photo_passes_unchanged():
    data = encoded(np.tile(ramp(), (11, 8, 1)), "PNG")
    pixels, check = read_photo(data)
    assert np.array_equal(pixels, np.tile(ramp(), (11, 8, 1)))
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous
    assert check.as_dict() == {
        "valid": True, "format": "PNG", "mode": "RGB", "size": [512, 528],
        "file_size_kb": round(len(data) / 1024, 1), "warnings": [], "error": None,
    }  # fmt: skip
    assert check_photo(data) == check


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "BMP", "TIFF", "MPO"])
def test_other_formats_are_read_with_a_warning(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    options |= {"save_all": True, "append_images": [Image.fromarray(ramp())]} if kind == "MPO" else {}
    pixels, check = read_photo(encoded(ramp(), kind, **options), SMALL_OK)
    assert check.format == kind
    assert check.warnings == (f"the format is {kind}; JPEG or PNG is expected",)
    limit = {"MPO": 12, "GIF": 60}.get(kind, 0)
    assert np.abs(pixels.astype(int) - ramp()).max() <= limit


def test_a_small_photo_is_warned_about():
    check = check_photo(encoded(ramp(600, 511), "PNG"))
    assert check.valid
    assert check.warnings == ("the photo has 511 x 600 pixels; the short side should have 512 or more",)
    assert check_photo(encoded(ramp(512, 512), "PNG")).warnings == ()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turned", range(1, 9))
def test_every_orientation_is_undone(kind, turned):
    exif = Image.Exif()
    exif[0x0112] = turned
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    options |= {"lossless": True} if kind == "WEBP" else {}
    data = encoded(ramp(), kind, exif=exif, **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    pixels, check = read_photo(data, SMALL_OK)
    assert pixels.shape == ((48, 64, 3) if turned < 5 else (64, 48, 3))
    assert check.size == pixels.shape[1::-1]
    assert np.array_equal(pixels, expected)
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("block", [b"II", b"XX*\0\0\0\0\0", b"II*\0\xff\xff\xff\x7f", b"MM\0*\0\0\0\x08\xff\xff"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_damaged_exif_is_warned_about(kind, block):
    pixels, check = read_photo(encoded(ramp(), kind, exif=b"Exif\0\0" + block), SMALL_OK)
    assert pixels.shape == (48, 64, 3)
    assert check.warnings == ("the EXIF data are damaged; the photo is taken as upright",)


def test_an_orientation_outside_1_to_8_is_damaged():
    exif = Image.Exif()
    exif[0x0112] = 9
    assert check_photo(encoded(ramp(), "JPEG", exif=exif), SMALL_OK).warnings


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_is_scaled_and_not_clipped(kind):
    levels = np.linspace(0, 65535, 48 * 64).round().astype(np.uint16).reshape(48, 64)
    pixels, check = read_photo(encoded(Image.fromarray(levels), kind), SMALL_OK)
    expected = np.rint(levels / 65535 * 255)
    assert np.array_equal(pixels, np.repeat(expected[..., None], 3, axis=2))
    assert "the image has 16 bits a pixel; they are scaled to 8" in check.warnings


def test_16_bit_colour_is_scaled():
    levels = ramp(4, 6).astype(np.uint16) * 256 + 100
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    data = png(struct.pack(">IIBBBBB", 6, 4, 16, 2, 0, 0, 0), chunk(b"IDAT", zlib.compress(rows)))
    assert np.array_equal(decode_photo(data, SMALL_OK), ramp(4, 6))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_comes_out_in_its_colours(kind):
    """Adobe's JPEGs hold the inverse of the ink; Pillow writes such files itself."""
    colours = np.full((16, 16, 3), (200, 40, 90), np.uint8)
    pixels, check = read_photo(encoded(Image.fromarray(colours).convert("CMYK"), kind), SMALL_OK)
    assert np.abs(pixels.astype(int) - colours).max() <= 3
    assert "the colours are CMYK; they are converted without a colour profile" in check.warnings
    if kind == "JPEG":
        assert b"Adobe" in encoded(Image.fromarray(colours).convert("CMYK"), kind)


@pytest.mark.parametrize(("mode", "kind"), [("LA", "PNG"), ("RGBA", "PNG"), ("RGBA", "TIFF"), ("LA", "TIFF")])
def test_transparency_is_laid_over_white(mode, kind):
    """Opaque, half and fully transparent: 100, 100 * a + 255 * (1 - a), 255."""
    image = Image.new("RGBA", (3, 1))
    for column, alpha in enumerate((255, 128, 0)):
        image.putpixel((column, 0), (100, 100, 100, alpha))
    pixels, check = read_photo(encoded(image.convert(mode), kind), SMALL_OK)
    assert pixels[0, :, 0].tolist() == [100, 177, 255]
    assert "the image has transparency; it is laid over white" in check.warnings


def test_a_transparent_palette_and_a_transparent_grey_are_white():
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    assert decode_photo(encoded(palette, "PNG"), SMALL_OK).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert decode_photo(encoded(palette, "PNG", transparency=1), SMALL_OK).tolist() == [[[10, 20, 30], [255] * 3]]
    grey = Image.fromarray(np.array([[7, 9]], np.uint8))
    assert decode_photo(encoded(grey, "PNG", transparency=9), SMALL_OK).tolist() == [[[7] * 3, [255] * 3]]
    deep = Image.fromarray(np.array([[257, 514]], np.uint16))
    assert decode_photo(encoded(deep, "PNG", transparency=514), SMALL_OK).tolist() == [[[1] * 3, [255] * 3]]


def test_1_bit_is_black_and_white():
    image = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    for kind in ("PNG", "TIFF", "BMP"):
        assert decode_photo(encoded(image, kind), SMALL_OK).tolist() == [[[0] * 3, [255] * 3]]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_read(kind):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    pixels, check = read_photo(data, SMALL_OK)
    assert (pixels == (200, 0, 0)).all()
    assert "the image is animated; only its first frame is read" in check.warnings


def test_of_several_pages_the_first_is_read():
    pages = [Image.new("RGB", (20, 10), colour) for colour in ((200, 0, 0), (0, 200, 0))]
    pixels, check = read_photo(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]), SMALL_OK)
    assert (pixels == (200, 0, 0)).all()
    assert "the file has several pages; only the first is read" in check.warnings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_bytes": 0}, "max_bytes is 0, min_side_px is 512, allowed: 1 or more"),
        ({"min_side_px": -1}, "min_side_px is -1, allowed: 1 or more"),
        ({"max_pixels": 10**9}, "max_pixels is 1000000000, allowed: 1 to 89478485"),
    ],
)
def test_senseless_limits_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        GatewayLimits(**values)


def test_the_command_prints_a_line_a_file(tmp_path, capsys):
    good, bad, large = tmp_path / "good.png", tmp_path / "bad.jpg", tmp_path / "large.bmp"
    good.write_bytes(encoded(ramp(), "PNG"))
    bad.write_bytes(b"<html>")
    large.write_bytes(encoded(ramp(), "BMP"))
    assert main([str(good), "--min-side-px", "8"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "file": str(good),
        **check_photo(good.read_bytes(), SMALL_OK).as_dict(),
    }
    missing = tmp_path / "missing.jpg"
    assert main([str(good), str(bad), str(large), str(missing), str(tmp_path), "--max-bytes", "9000"]) == 1
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["valid"] for answer in answers] == [True, False, False, False, False]
    assert answers[2]["error"] == "the file has 9270 bytes, allowed: 9000"
    assert answers[2]["file_size_kb"] == 9.1
    assert answers[3]["error"] == "the file cannot be read (No such file or directory)"
    assert answers[4]["error"] == "the file cannot be read (Is a directory)"


def test_the_command_refuses_senseless_limits(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["a.png", "--max-pixels", "0"])
    assert caught.value.code == 2
    assert "max_pixels is 0, allowed: 1 to 89478485" in capsys.readouterr().err
