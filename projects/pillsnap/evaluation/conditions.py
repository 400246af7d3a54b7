"""Stress conditions: what may be wrong with a phone photo, each a pure function of the pixels and a seed.

They stand for the world in front of the camera and the way to the server, so they act on the decoded photo, before the
preprocessor. Light is changed in linear light: a stop is a factor of two there, not in sRGB values.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Photo = NDArray[np.uint8]
Change = Callable[[Photo, int], Photo]

CLEAN = "clean"
CLIENT_SIDE_PX = 512
CLIENT_QUALITY = 85
VERSION = 2
"""Counted up whenever a condition gives other pixels, so that predictions kept from before are not taken for theirs."""


@dataclass(frozen=True)
class Condition:
    """One row of the stress table.

    Attributes:
        name: Unique, fit for a file name.
        kind: What is wrong, e.g. "blur"; rows of a kind stand together.
        level: How much, as readers see it, with a number where there is one.
        unit: Unit of the level, "" where it is a name.
        change: (H, W, 3) uint8 and a seed to the changed photo, any size; None for a change of the background, which
            only the source of the photos can make.
    """

    name: str
    kind: str
    level: str
    unit: str
    change: Change | None

    def words(self) -> str:
        """Kind and level as one phrase, "blur 1 % of the side"."""
        return " ".join(part for part in (self.kind, self.level, self.unit) if part)


def unchanged(image: Photo, seed: int = 0) -> Photo:
    """Return the photo itself."""
    return image


def exposure(image: Photo, seed: int = 0, *, stops: float) -> Photo:
    """Multiply linear light by 2 ** stops; what exceeds white is lost."""
    return _from_linear(_to_linear(image) * np.float32(2.0**stops))


def colour_cast(image: Photo, seed: int = 0, *, warmth: float) -> Photo:
    """Multiply red by 1 + warmth and blue by 1 - warmth in linear light: lamplight above 0, shade below.

    Args:
        image: Photo.
        seed: Not used.
        warmth: In (-1, 1).
    """
    gains = np.array([1.0 + warmth, 1.0, 1.0 - warmth], dtype=np.float32)
    return _from_linear(_to_linear(image) * gains)


def low_contrast(image: Photo, seed: int = 0, *, factor: float) -> Photo:
    """Draw all sRGB values towards the photo's mean grey, as haze on a lens does."""
    mean = float(image.mean())
    return _rounded(mean + factor * (image.astype(np.float32) - mean))


def gaussian_blur(image: Photo, seed: int = 0, *, percent: float) -> Photo:
    """Blur with a Gaussian whose sigma is `percent` of the shorter side."""
    sigma = percent / 100.0 * min(image.shape[:2])
    return _photo(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101))


def motion_blur(image: Photo, seed: int, *, percent: float) -> Photo:
    """Smear along a straight line of `percent` of the shorter side, in a direction drawn from the seed."""
    length = percent / 100.0 * min(image.shape[:2])
    reach = int(np.ceil(length / 2.0)) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), dtype=np.float32)
    angle = np.random.default_rng(seed).uniform(0.0, np.pi)
    along = np.linspace(-length / 2.0, length / 2.0, 8 * reach + 1)
    for x, y in zip(reach + along * np.cos(angle), reach + along * np.sin(angle), strict=True):
        left, top = int(x), int(y)
        right_share, low_share = x - left, y - top  # each point of the line is shared by the four pixels around it
        kernel[top, left] += (1 - right_share) * (1 - low_share)
        kernel[top, left + 1] += right_share * (1 - low_share)
        kernel[top + 1, left] += (1 - right_share) * low_share
        kernel[top + 1, left + 1] += right_share * low_share
    return _photo(cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101))


def rotation(image: Photo, seed: int = 0, *, degrees: float) -> Photo:
    """Turn counter-clockwise about the centre; quarter turns are exact, others repeat the border where they uncover."""
    if degrees % 90 == 0:
        return np.ascontiguousarray(np.rot90(image, int(degrees // 90)))
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2.0, (height - 1) / 2.0), degrees, 1.0)
    return _photo(cv2.warpAffine(image, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def client_jpeg(image: Photo, seed: int = 0, *, quality: int, side_px: int = CLIENT_SIDE_PX) -> Photo:
    """Do what the client does: centre square, shrunk to `side_px` where it is larger, through JPEG and back."""
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = Image.fromarray(np.ascontiguousarray(image[top : top + side, left : left + side]))
    if side > side_px:
        square = square.resize((side_px, side_px), Image.Resampling.BILINEAR)
    stream = BytesIO()
    square.save(stream, "JPEG", quality=quality)
    return _photo(np.asarray(Image.open(stream).convert("RGB")))


def noise(image: Photo, seed: int, *, sigma: float) -> Photo:
    """Add Gaussian noise of `sigma` grey levels to every value."""
    grain = np.random.default_rng(seed).standard_normal(image.shape, dtype=np.float32)
    return _rounded(image.astype(np.float32) + np.float32(sigma) * grain)


def darkness(image: Photo, seed: int, *, stops: float, sigma: float) -> Photo:
    """Take light away and add the noise that a sensor shows without it."""
    return noise(exposure(image, stops=stops), seed, sigma=sigma)


def small_pill(image: Photo, seed: int = 0, *, scale: float) -> Photo:
    """Shrink the photo about its centre to `scale` of its size, and repeat its border around it."""
    height, width = image.shape[:2]
    inner = max(round(width * scale), 1), max(round(height * scale), 1)
    shrunk = np.asarray(Image.fromarray(image).resize(inner, Image.Resampling.BILINEAR))
    top, left = (height - inner[1]) // 2, (width - inner[0]) // 2
    bottom, right = height - inner[1] - top, width - inner[0] - left
    return _photo(cv2.copyMakeBorder(shrunk, top, bottom, left, right, cv2.BORDER_REPLICATE))


def standard_conditions(backgrounds: Sequence[str] = ()) -> tuple[Condition, ...]:
    """The rows of the stress table in order, the clean photos first.

    Args:
        backgrounds: Names of backgrounds that the source of the photos can put behind a pill.
    """
    rows = [Condition(CLEAN, CLEAN, "", "", unchanged)]

    def add(kind: str, level: str, unit: str, change: Change) -> None:
        name = "_".join([*kind.split(), *level.replace("%", "").replace("+", "plus").replace("-", "minus").split()])
        rows.append(Condition(name, kind, level, unit, change))

    for stops in (-2, -1, 1, 2):
        add("exposure", f"{stops:+d}", "EV", partial(exposure, stops=stops))
    add("darkness and noise", "-3", "EV", partial(darkness, stops=-3, sigma=12.0))
    for sigma in (5, 15, 30):
        add("noise", f"{sigma}", "grey levels", partial(noise, sigma=float(sigma)))
    for percent in (0.5, 1.0, 2.0):
        add("blur", f"{percent:g} %", "of the side", partial(gaussian_blur, percent=percent))
    for percent in (2.0, 5.0):
        add("motion blur", f"{percent:g} %", "of the side", partial(motion_blur, percent=percent))
    for degrees in (15, 45, 90, 180):
        add("rotation", f"{degrees}", "degrees", partial(rotation, degrees=float(degrees)))
    for quality in (CLIENT_QUALITY, 50, 20, 10):
        unit = "quality (the client's)" if quality == CLIENT_QUALITY else "quality"
        add("JPEG", f"{quality}", unit, partial(client_jpeg, quality=quality))
    for tint, warmth in (("warm", 0.3), ("cool", -0.3)):
        add("colour cast", f"{tint} {100 * abs(warmth):.0f} %", "of red and blue", partial(colour_cast, warmth=warmth))
    for factor in (0.5, 0.25):
        add("low contrast", f"{factor:g}", "x", partial(low_contrast, factor=factor))
    add("small pill", "0.6", "x", partial(small_pill, scale=0.6))
    rows += [Condition(f"background_{name}", "background", name, "", None) for name in backgrounds]
    return tuple(rows)


def _to_linear(image: Photo) -> NDArray[np.float32]:
    """Linear light in [0, 1] of sRGB values."""
    return np.asarray(_LINEAR[image])


def _from_linear(light: NDArray[np.float32]) -> Photo:
    """SRGB values of linear light, clipped to [0, 1]."""
    light = np.clip(light, 0.0, 1.0)
    curved = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.power(light, np.float32(1 / 2.4)) - 0.055)
    return _rounded(255.0 * curved)


def _rounded(values: NDArray[np.floating]) -> Photo:
    return np.asarray(np.clip(np.rint(values), 0.0, 255.0), dtype=np.uint8)


def _photo(values: NDArray[np.generic]) -> Photo:
    return np.asarray(values, dtype=np.uint8)


_SRGB = np.arange(256) / 255.0
# IEC 61966-2-1.
_LINEAR = np.where(_SRGB <= 0.04045, _SRGB / 12.92, ((_SRGB + 0.055) / 1.055) ** 2.4).astype(np.float32)
