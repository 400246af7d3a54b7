"""`python -m projects.pillsnap.gateway FILE...`: is each file a photo that the server takes? The only decoder, too.

A photo's bytes go in and RGB uint8 (H, W, 3) comes out, upright and without alpha, or one sentence that says why not.
Training reads its files through here as the server does. Size and format are judged before a pixel is decoded.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from projects.pillsnap.photo_bytes import (
    BytesError,
    PhotoBytes,
    describe_other,
    image_format,
    orientation,
    prepare,
)

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""What Pillow may open; its other fifty decoders are never asked."""

EXPECTED = ("JPEG", "PNG")
PILLOW_MAX_PIXELS = 89_478_485  # above it Pillow warns by itself, above twice as many it refuses

EMPTY, TOO_LARGE, NO_PHOTO, DAMAGED = 400, 413, 415, 422

_OPAQUE = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr")
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")


@dataclass(frozen=True)
class GatewayLimits:
    """What is taken.

    Attributes:
        max_bytes: Size of the file; more is refused.
        max_pixels: Height times width; more is refused before decoding.
        min_side_px: The short side; less is a warning.

    Raises:
        ValueError: If a limit is not positive, or `max_pixels` is above PILLOW_MAX_PIXELS.
    """

    max_bytes: int = 10 * 1024 * 1024
    max_pixels: int = 50_000_000
    min_side_px: int = 512

    def __post_init__(self) -> None:
        if self.max_bytes < 1 or self.min_side_px < 1:
            raise ValueError(f"max_bytes is {self.max_bytes}, min_side_px is {self.min_side_px}, allowed: 1 or more")
        if not 1 <= self.max_pixels <= PILLOW_MAX_PIXELS:
            raise ValueError(f"max_pixels is {self.max_pixels}, allowed: 1 to {PILLOW_MAX_PIXELS}")


DEFAULT_LIMITS = GatewayLimits()


@dataclass(frozen=True)
class PhotoCheck:
    """The gateway's answer about one file.

    Attributes:
        valid: Whether it can be decoded, whole.
        format: JPEG, MPO, PNG, WEBP, GIF, BMP or TIFF; None if it is none of them.
        mode: Pillow's name of the colour mode in the file; None if that was not reached.
        size: Width and height of the upright photo in pixels; of a refused one as in its header, None if not reached.
        file_size_kb: Size of the file in units of 1024 bytes.
        warnings: What is unusual about a photo that is taken, one sentence each.
        error: Why it is refused, one sentence; None if it is not.
    """

    valid: bool
    format: str | None
    mode: str | None
    size: tuple[int, int] | None
    file_size_kb: float
    warnings: tuple[str, ...] = ()
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        return {**asdict(self), "size": self.size and list(self.size), "warnings": list(self.warnings)}


class PhotoError(ValueError):
    """A file is refused.

    Attributes:
        status_hint: Fitting HTTP status: 400 empty, 413 too large, 415 not a photo, 422 damaged or unusable.
        sentence: Why, one sentence.
        check: The gateway's answer about the file.
    """

    def __init__(self, status_hint: int, sentence: str, check: PhotoCheck) -> None:
        super().__init__(sentence)
        self.status_hint = status_hint
        self.sentence = sentence
        self.check = check


class _Reading:
    """One file on its way through the gateway, with what is known about it so far."""

    def __init__(self, size_bytes: int) -> None:
        self.file_size_kb = round(size_bytes / 1024, 1)
        self.format: str | None = None
        self.mode: str | None = None
        self.size: tuple[int, int] | None = None
        self.warnings: list[str] = []

    def check(self, error: str | None = None) -> PhotoCheck:
        """The answer as things stand."""
        known = (self.format, self.mode, self.size, self.file_size_kb)
        return PhotoCheck(error is None, *known, tuple(self.warnings), error)

    def refuse(self, status_hint: int, sentence: str) -> PhotoError:
        """The exception to raise."""
        return PhotoError(status_hint, sentence, self.check(sentence))


def read_photo(data: bytes, limits: GatewayLimits = DEFAULT_LIMITS) -> tuple[NDArray[np.uint8], PhotoCheck]:
    """Check and decode a photo in one go.

    Args:
        data: The file's bytes.
        limits: What is taken.

    Returns:
        RGB uint8 (H, W, 3), contiguous and writable, upright, transparency over white; and the answer about the file.

    Raises:
        PhotoError: If the file is refused; nothing else is raised, whatever the bytes.
    """
    reading = _Reading(len(data))
    _check_bytes(reading, data, limits)
    try:
        photo = prepare(data, str(reading.format), limits.max_pixels)
    except BytesError as error:
        raise reading.refuse(DAMAGED, f"the photo {error}") from error
    reading.format = "MPO" if photo.multi_picture else reading.format
    try:
        image, exif = _open(reading, photo, limits)
        pixels = _to_rgb(reading, image)
    except PhotoError:
        raise
    except Image.DecompressionBombError as error:
        sentence = f"the photo claims more than {2 * PILLOW_MAX_PIXELS} pixels, allowed: {limits.max_pixels} in all"
        raise reading.refuse(TOO_LARGE, sentence) from error
    except UnidentifiedImageError as error:
        raise reading.refuse(DAMAGED, f"the {reading.format} photo is damaged: its header cannot be read") from error
    except Exception as error:  # a decoder fed with arbitrary bytes raises anything; here that has one meaning
        reason = str(error).strip().splitlines()
        sentence = f"the {reading.format} photo is damaged or cut off ({reason[0] if reason else type(error).__name__})"
        raise reading.refuse(DAMAGED, sentence) from error
    pixels = _upright(reading, pixels, orientation(exif))
    reading.size = (pixels.shape[1], pixels.shape[0])
    return pixels, reading.check()


def decode_photo(data: bytes, limits: GatewayLimits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """The pixels of `read_photo`: RGB uint8 (H, W, 3).

    Raises:
        PhotoError: If the file is refused.
    """
    return read_photo(data, limits)[0]


def check_photo(data: bytes, limits: GatewayLimits = DEFAULT_LIMITS) -> PhotoCheck:
    """The answer of `read_photo`, also about a file that is refused; the whole file is decoded for it."""
    try:
        return read_photo(data, limits)[1]
    except PhotoError as error:
        return error.check


def check_file(path: Path, limits: GatewayLimits = DEFAULT_LIMITS) -> PhotoCheck:
    """`check_photo` of a file; one that is too large is not read.

    Raises:
        OSError: If it cannot be read.
    """
    size = path.stat().st_size
    if size > limits.max_bytes:
        return _too_large(_Reading(size), size, limits).check
    return check_photo(path.read_bytes(), limits)


def _too_large(reading: _Reading, size: int, limits: GatewayLimits) -> PhotoError:
    sentence = f"the file has {size} bytes, allowed: {limits.max_bytes}"
    return reading.refuse(TOO_LARGE, sentence)


def _check_bytes(reading: _Reading, data: bytes, limits: GatewayLimits) -> None:
    """Judge size and signature."""
    if not data:
        raise reading.refuse(EMPTY, "the file is empty")
    if len(data) > limits.max_bytes:
        raise _too_large(reading, len(data), limits)
    reading.format = image_format(data)
    if reading.format is None:
        sentence = f"the file is {describe_other(data)}; JPEG or PNG is expected, {', '.join(FORMATS[2:])} are read"
        raise reading.refuse(NO_PHOTO, sentence)


def _open(reading: _Reading, photo: PhotoBytes, limits: GatewayLimits) -> tuple[Image.Image, bytes]:
    """Read the header, judge it, then decode the first frame whole.

    Returns:
        The image and its EXIF block.
    """
    image = _header(photo.data)
    reading.mode, reading.size = image.mode, image.size
    width, height = image.size
    if width * height > limits.max_pixels:
        sentence = f"the photo has {width} x {height} pixels, allowed: {limits.max_pixels} in all"
        raise reading.refuse(TOO_LARGE, sentence)
    if reading.format == "PNG":
        image.verify()  # the checksums of all chunks; decoding compares none, and reads on where the end is missing
        image = _header(photo.data)
    _warn(reading, image, photo, limits)
    image.load()
    exif = image.info.get("exif")  # in a PNG a text of that name comes out as text
    return image, photo.exif or (exif if isinstance(exif, bytes) else b"")


def _header(data: bytes) -> ImageFile.ImageFile:
    return Image.open(BytesIO(data), formats=FORMATS)


def _warn(reading: _Reading, image: Image.Image, photo: PhotoBytes, limits: GatewayLimits) -> None:
    """Note what is unusual by the header."""
    width, height = image.size
    if reading.format not in EXPECTED:
        reading.warnings.append(f"the format is {reading.format}; JPEG or PNG is expected")
    if min(width, height) < limits.min_side_px:
        least = f"the short side should have {limits.min_side_px} or more"
        reading.warnings.append(f"the photo has {width} x {height} pixels; {least}")
    if getattr(image, "is_animated", False):
        reading.warnings.append("the image is animated; only its first frame is read")
    if photo.several_pages:
        reading.warnings.append("the file has several pages; only the first is read")


def _to_rgb(reading: _Reading, image: Image.Image) -> NDArray[np.uint8]:
    """Bring a decoded image of any mode to RGB uint8 (H, W, 3)."""
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        reading.warnings.append("the image has transparency; it is laid over white")
    if image.mode.startswith("I;16"):
        reading.warnings.append("the image has 16 bits a pixel; they are scaled to 8")
        return _from_16_bit(image)
    if image.mode in _WITH_ALPHA or (image.mode in _OPAQUE and "transparency" in image.info):
        colours = image.convert("RGBA")
        image = Image.new("RGB", image.size, "white")
        image.paste(colours, mask=colours.getchannel("A"))
    elif image.mode in _OPAQUE:
        if image.mode == "CMYK":
            reading.warnings.append("the colours are CMYK; they are converted without a colour profile")
        image = image.convert("RGB")
    else:
        allowed = ", ".join((*_OPAQUE, *_WITH_ALPHA, "I;16"))
        raise reading.refuse(DAMAGED, f"the photo has the colour mode {image.mode}, allowed: {allowed}")
    return np.array(image)


def _from_16_bit(image: Image.Image) -> NDArray[np.uint8]:
    """Grey levels 0 to 65535 as 0 to 255, rounded; a transparent level becomes white."""
    levels = np.asarray(image).astype(np.uint32)
    grey = ((levels * 255 + 32767) // 65535).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[levels == transparent] = 255
    return np.repeat(grey[..., None], 3, axis=2)


def _upright(reading: _Reading, pixels: NDArray[np.uint8], turned: int | None) -> NDArray[np.uint8]:
    """Undo the camera's orientation, 1 to 8 as in EXIF; None is damaged EXIF and changes nothing."""
    if turned is None:
        reading.warnings.append("the EXIF data are damaged; the photo is taken as upright")
        return pixels
    if turned > 4:
        pixels = pixels.swapaxes(0, 1)
    if turned in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if turned in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def main(argv: list[str] | None = None) -> int:
    """Print one JSON object a line for each file; see `--help`.

    Returns:
        Exit code: 0, or 1 if any file is refused.
    """
    parser = argparse.ArgumentParser(prog="python -m projects.pillsnap.gateway", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--max-bytes", type=int, default=DEFAULT_LIMITS.max_bytes, help="(%(default)s)")
    parser.add_argument("--max-pixels", type=int, default=DEFAULT_LIMITS.max_pixels, help="(%(default)s)")
    parser.add_argument("--min-side-px", type=int, default=DEFAULT_LIMITS.min_side_px, help="(%(default)s)")
    given = parser.parse_args(argv)
    try:
        limits = GatewayLimits(given.max_bytes, given.max_pixels, given.min_side_px)
    except ValueError as error:
        parser.error(str(error))
    refused = False
    for path in given.files:
        try:
            check = check_file(path, limits)
        except OSError as error:
            check = PhotoCheck(False, None, None, None, 0.0, (), f"the file cannot be read ({error.strerror})")
        refused |= not check.valid
        print(json.dumps({"file": str(path), **check.as_dict()}), flush=True)
    return int(refused)


if __name__ == "__main__":
    sys.exit(main())
