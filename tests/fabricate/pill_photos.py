"""Seeded photos without a camera: what a preprocessor must agree on, and the golden files of `pillsnap`."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GOLDEN = Path(__file__).parents[1] / "projects" / "pillsnap" / "golden"


def natural(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth blobs with a little noise, the statistics of a photo; whole-number arithmetic only."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int64)
    return np.clip(smooth + rng.integers(-6, 7, (height, width, 3)), 0, 255).astype(np.uint8)


def kinds_of_images(size: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Name and pixels (size, size, 3) of natural-like, extreme and random images."""
    rng = np.random.default_rng(size)
    colours = {
        "black": (0, 0, 0), "white": (255, 255, 255), "grey": (127, 127, 127), "red": (255, 0, 0), "green": (0, 255, 0),
        "blue": (0, 0, 255), "yellow": (255, 255, 0), "magenta": (255, 0, 255), "cyan": (0, 255, 255),
        "teal": (3, 200, 77),
    }  # fmt: skip
    for name, colour in colours.items():
        yield name, np.full((size, size, 3), colour, np.uint8)
    ramp = np.arange(size) * 255 // (size - 1)
    channels = np.broadcast_arrays(ramp[:, None], ramp[None, :], (ramp[:, None] + ramp) // 2)
    yield "gradients", np.stack(channels, axis=-1).astype(np.uint8)
    yield "grey gradient", np.repeat(np.broadcast_to(ramp[None, :, None], (size, size, 1)), 3, axis=2).astype(np.uint8)
    yield "noise", rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    yield "black and white noise", np.repeat(rng.integers(0, 2, (size, size, 1)) * 255, 3, axis=2).astype(np.uint8)
    yield "saturated noise", (rng.integers(0, 2, (size, size, 3)) * 255).astype(np.uint8)
    yield "dark noise", rng.integers(0, 9, (size, size, 3), dtype=np.uint8)
    pill = np.zeros((size, size, 3), np.uint8)
    rows, columns = np.mgrid[:size, :size] * 2 - size
    pill[rows**2 + 2 * columns**2 < size**2 // 3] = (240, 228, 210)
    yield "pill on black", pill
    for seed in range(4):
        yield f"natural {seed}", natural(size, size, seed)


def golden_files() -> dict[str, bytes]:
    """The golden files, by name: formats that hold pixels exactly, so that no JPEG decoder's taste comes in."""
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = natural(150, 211, 7)
    alpha = np.tile(np.arange(96, dtype=np.uint8) * 2, (80, 1))
    deep = (photo[:70, :90, 0].astype(np.uint16) << 8) | photo[:70, :90, 1]
    return {
        "natural.png": _png(Image.fromarray(photo)),
        "upright_by_exif.png": _png(Image.fromarray(natural(100, 64, 8)), exif=exif),
        "transparent.png": _png(Image.fromarray(np.dstack([natural(80, 96, 9), alpha]))),
        "grey_16_bit.png": _png(Image.fromarray(deep)),
        "network_size.png": _png(Image.fromarray(natural(128, 128, 10))),
    }


def write_golden() -> None:
    """Write the golden files anew; only together with a new version of the preprocessor."""
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name, content in golden_files().items():
        (GOLDEN / name).write_bytes(content)


def _png(image: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG", **options)
    return stream.getvalue()
