"""The one preprocessor: a decoded photo becomes what the network reads, the same to the bit wherever it is called.

Training, evaluation, export and server call this file and nothing else between decoded pixels and the network.
Augmentation comes before it, on uint8 images. It needs numpy, OpenCV and Pillow only.
"""

import hashlib
import json
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

VERSION = 1
"""Counted up whenever the same photo would come out different; the golden digests in the tests change with it only."""

CROP, RESIZE, CONTRAST = "centre_square", "pillow_bilinear_antialias", "clahe_on_l_of_8_bit_lab"

Pixels = NDArray[np.uint8]
Planes = NDArray[np.float32]


class PreprocessError(ValueError):
    """An image or a configuration that the preprocessor cannot take."""


class _Workspace(threading.local):
    """What one thread keeps between images: OpenCV's CLAHE object, which may not be shared, and its buffers."""

    def __init__(self) -> None:
        self.clahe: dict[tuple[float, int], Any] = {}
        self.buffers: dict[int, tuple[Pixels, Pixels, Pixels]] = {}

    def equaliser(self, clip_limit: float, grid: int) -> Any:
        """OpenCV's CLAHE object of these settings."""
        key = (clip_limit, grid)
        if key not in self.clahe:
            self.clahe[key] = cv2.createCLAHE(clipLimit=clip_limit, tileGridSize=(grid, grid))
        return self.clahe[key]

    def planes(self, size_px: int) -> tuple[Pixels, Pixels, Pixels]:
        """An image and two planes to write into."""
        if size_px not in self.buffers:
            shape = (size_px, size_px)
            self.buffers[size_px] = (
                np.empty((*shape, 3), np.uint8), np.empty(shape, np.uint8), np.empty(shape, np.uint8),
            )  # fmt: skip
        return self.buffers[size_px]


_workspace = _Workspace()


@dataclass(frozen=True)
class UnifiedPreprocessor:
    """Centre square, resize, CLAHE on lightness, normalise; may be called from any number of threads.

    Attributes:
        size_px: Side of the square that the network reads; a multiple of `grid`.
        clahe: Whether local contrast is equalised.
        clip_limit: CLAHE's clip limit, in multiples of the mean height of a histogram, > 0.
        grid: Tiles along a side, 1 to 64.
        mean: Mean of R, G, B in [0, 1] that is taken off.
        std: Standard deviation of R, G, B that is divided by, > 0.

    Raises:
        PreprocessError: If a value is outside its range.
    """

    size_px: int = 512
    clahe: bool = True
    clip_limit: float = 2.0
    grid: int = 8
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, _three(name, getattr(self, name)))
        object.__setattr__(self, "clip_limit", _number("clip_limit", self.clip_limit))
        if not isinstance(self.clahe, bool):
            raise PreprocessError(f"clahe is {self.clahe!r}, allowed: true or false")
        if not _is_int(self.grid) or not 1 <= self.grid <= 64:
            raise PreprocessError(f"grid is {self.grid!r}, allowed: a whole number from 1 to 64")
        if not _is_int(self.size_px) or not 16 <= self.size_px <= 4096 or self.size_px % self.grid:
            raise PreprocessError(
                f"size_px is {self.size_px!r}, allowed: a multiple of grid = {self.grid} from 16 to 4096"
            )
        if self.clip_limit <= 0:
            raise PreprocessError(f"clip_limit is {self.clip_limit}, allowed: a number > 0")
        if min(self.std) <= 0:
            raise PreprocessError(f"std is {self.std}, allowed: three numbers > 0")

    def square(self, image: Pixels) -> Pixels:
        """Cut the centre square out and resize it; an image that has the right size already is returned as it is.

        Args:
            image: RGB uint8 (H, W, 3). Where a side is longer by an odd number, the square lies nearer the origin.

        Returns:
            RGB uint8 (size_px, size_px, 3): Pillow's BILINEAR, which averages where it shrinks.

        Raises:
            PreprocessError: If `image` is not uint8 (H, W, 3) with H, W >= 1.
        """
        image = centre_square(image)
        if len(image) == self.size_px:
            return image
        small = Image.fromarray(np.ascontiguousarray(image)).resize((self.size_px,) * 2, Image.Resampling.BILINEAR)
        return np.asarray(small)

    def enhance(self, square: Pixels) -> Pixels:
        """Equalise the local contrast of lightness: OpenCV's CLAHE on L of 8-bit LAB; as it is if `clahe` is off.

        Args:
            square: RGB uint8 (size_px, size_px, 3).

        Returns:
            RGB uint8 of the same shape.

        Raises:
            PreprocessError: If the shape or the type is another.
        """
        self._check_square(square)
        if not self.clahe:
            return square
        lab, lightness, equalised = _workspace.planes(self.size_px)
        cv2.cvtColor(np.ascontiguousarray(square), cv2.COLOR_RGB2LAB, dst=lab)
        cv2.extractChannel(lab, 0, dst=lightness)
        _workspace.equaliser(self.clip_limit, self.grid).apply(lightness, equalised)
        cv2.insertChannel(equalised, lab, 0)
        return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), dtype=np.uint8)

    def normalise(self, pixels: Pixels) -> Planes:
        """(x / 255 - mean) / std, computed in float64 and rounded once to float32.

        Args:
            pixels: RGB uint8 (size_px, size_px, 3).

        Returns:
            float32 (3, size_px, size_px), contiguous.

        Raises:
            PreprocessError: If the shape or the type is another.
        """
        self._check_square(pixels)
        planes = np.empty((3, self.size_px, self.size_px), np.float32)
        self._normalise_into(pixels, planes)
        return planes

    def __call__(self, images: Pixels) -> Planes:
        """Do all of it.

        Args:
            images: RGB uint8 (H, W, 3), or (N, H, W, 3).

        Returns:
            float32 (3, size_px, size_px), or (N, 3, size_px, size_px): each image as if it came alone.

        Raises:
            PreprocessError: If the shape or the type is another.
        """
        batch = images[None] if isinstance(images, np.ndarray) and images.ndim == 3 else images
        if not isinstance(batch, np.ndarray) or batch.ndim != 4:
            raise PreprocessError(f"an image is {_describe(images)}, allowed: uint8 (H, W, 3) or (N, H, W, 3)")
        out = np.empty((len(batch), 3, self.size_px, self.size_px), np.float32)
        for image, planes in zip(batch, out, strict=True):
            self._normalise_into(self.enhance(self.square(image)), planes)
        return out if batch is images else out[0]

    def get_config(self) -> dict[str, Any]:
        """Everything that decides the result, as plain values that JSON and YAML can hold."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        fixed = {"version": VERSION, "crop": CROP, "resize": RESIZE, "contrast": CONTRAST}
        return {**fixed, **values, "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "UnifiedPreprocessor":
        """Build the preprocessor that `get_config` described.

        Raises:
            PreprocessError: If a key is missing or unknown, or the configuration is of another version or method.
        """
        expected = cls().get_config()
        strays = sorted(set(expected) ^ set(config))
        if strays:
            what = "is missing" if strays[0] in expected else "is unknown"
            raise PreprocessError(f"preprocessing key {strays[0]} {what}; the keys are {', '.join(expected)}")
        for key in ("version", "crop", "resize", "contrast"):
            if config[key] != expected[key]:
                raise PreprocessError(f"preprocessing {key} is {config[key]!r}, this code does {expected[key]!r} only")
        return cls(**{field.name: config[field.name] for field in fields(cls)})

    def digest(self) -> str:
        """SHA-256 of the configuration as canonical JSON, 64 hex digits."""
        text = json.dumps(self.get_config(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def _check_square(self, image: Pixels) -> None:
        _check_image(image)
        if image.shape != (self.size_px, self.size_px, 3):
            raise PreprocessError(f"the square has shape {image.shape}, allowed: ({self.size_px}, {self.size_px}, 3)")

    def _normalise_into(self, pixels: Pixels, planes: Planes) -> None:
        tables = normalisation_tables(self.mean, self.std)
        plane = _workspace.planes(self.size_px)[1]
        pixels = np.ascontiguousarray(pixels)
        for channel in range(3):
            cv2.extractChannel(pixels, channel, dst=plane)
            cv2.LUT(plane, tables[channel], dst=planes[channel])


def centre_square(image: Pixels) -> Pixels:
    """The largest square in the middle, a view; where a side is longer by an odd number it lies nearer the origin.

    Args:
        image: RGB uint8 (H, W, 3).

    Raises:
        PreprocessError: If it is not uint8 (H, W, 3) with H, W >= 1.
    """
    _check_image(image)
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


@cache
def normalisation_tables(mean: tuple[float, float, float], std: tuple[float, float, float]) -> Planes:
    """Normalised value of each grey level and channel, float32 (3, 256), read-only."""
    levels = np.arange(256, dtype=np.float64) / 255.0
    tables: Planes = ((levels - np.array(mean)[:, None]) / np.array(std)[:, None]).astype(np.float32)
    tables.setflags(write=False)
    return tables


def _describe(value: object) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def _check_image(image: object) -> None:
    fits = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    if not fits or 0 in image.shape:  # type: ignore[attr-defined]
        raise PreprocessError(f"an image is {_describe(image)}, allowed: uint8 (H, W, 3) with H, W >= 1")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise PreprocessError(f"{name} is {value!r}, allowed: a finite number")
    return float(value)


def _three(name: str, values: object) -> tuple[float, float, float]:
    if not isinstance(values, list | tuple) or len(values) != 3:
        raise PreprocessError(f"{name} is {values!r}, allowed: three numbers, for R, G and B")
    first, second, third = (_number(name, value) for value in values)
    return first, second, third
