"""Cheap statistics of each image, and the table that the shortcut audit looks at before the fit.

In the field a network reached F1 0.99 from image style alone: normal images were shrunk outlines, defect images zoomed
crops; a day later black padding told the classes apart. Each statistic here is one such style.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

from projects.battery.data.consistency import is_defect
from projects.battery.data.decode import decode_grey
from shared.audit import AuditTable
from shared.readers import ImageReader
from shared.sample_index import SampleIndex

IMAGE_STATISTICS: tuple[str, ...] = (
    "brightness_mean",
    "brightness_std",
    "black_share",
    "sharpness",
    "aspect_ratio",
    "width_px",
    "height_px",
    "file_bytes",
)
METADATA: tuple[str, ...] = ("axis", "form", "slice_position")
"""The metadata that is audited where the index has it; the kind is given and therefore no shortcut."""

BLACK_BELOW = 13
"""Grey values below this (5 % of 255) count as black: padding and air, scanner noise included."""

SHRINK = 8
SMALLEST_SIDE_PX = 32
SLICE_BINS = 10

_BATCH = 256  # images in flight


def compute_features(
    index: SampleIndex,
    reader: ImageReader,
    *,
    workers: int = 2,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Compute the statistics of every image of an index.

    Args:
        index: The samples, N; those of the train fold, since the audit comes before anything else is opened.
        reader: Gives the bytes of a sample id.
        workers: Threads, >= 1; decoding releases the interpreter lock.
        on_progress: Called with (images done, images in all).

    Returns:
        Name of `IMAGE_STATISTICS` -> (N,) float32.

    Raises:
        ValueError: If `workers` is less than 1.
        DataError: An image is missing or damaged.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")

    def measure(row: int) -> tuple[float, ...]:
        sample_id = index.ids[row]
        content = reader.read(sample_id)
        return image_statistics(decode_grey(content, sample_id), len(content))

    table = np.empty((len(index), len(IMAGE_STATISTICS)), dtype=np.float32)
    with ThreadPoolExecutor(workers) as pool:
        for first in range(0, len(index), _BATCH):
            last = min(first + _BATCH, len(index))
            table[first:last] = list(pool.map(measure, range(first, last)))
            if on_progress is not None:
                on_progress(last, len(index))
    return {name: table[:, column].copy() for column, name in enumerate(IMAGE_STATISTICS)}


def image_statistics(image: NDArray[np.uint8], file_bytes: int) -> tuple[float, ...]:
    """Return the statistics of one image in the order of `IMAGE_STATISTICS`.

    All but the sizes come from the image shrunk 8 times (less where a side would fall below 32 px): enough for style,
    too coarse for the defects themselves, which are a few pixels wide. A PNG has no cheaper way to a small picture than
    decoding it whole.

    Args:
        image: Grey pixels, (H, W) uint8.
        file_bytes: Size of the file.

    Returns:
        Mean and deviation of the grey values and share of black, each in [0, 1]; mean gradient magnitude in grey
        values (of 1) per shrunk pixel; width / height; width and height in px; bytes.
    """
    height_px, width_px = image.shape
    factor = max(1, min(SHRINK, min(image.shape) // SMALLEST_SIDE_PX))
    small = image
    if factor > 1:
        size = (max(1, width_px // factor), max(1, height_px // factor))
        small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    grey = small.astype(np.float32) / np.float32(255)
    return (
        float(grey.mean()),
        float(grey.std()),
        float((small < BLACK_BELOW).mean()),
        _mean_gradient(grey),
        width_px / height_px,
        float(width_px),
        float(height_px),
        float(file_bytes),
    )


def audit_table(index: SampleIndex, features: dict[str, NDArray[np.float32]], *, stratum: str = "kind") -> AuditTable:
    """Build the table of the shortcut audit: is there a defect, given the kind?

    Args:
        index: The samples. Axis, form and slice position are audited where the index has them.
        features: What `compute_features` gave for this index.
        stratum: Metadata column that is known anyway (cell or module, mono or poly) and therefore no shortcut.

    Returns:
        Each metadata column and statistic as a feature, and the bundles "metadata" (where there is any) and
        "image statistics".

    Raises:
        DataError: No stratum holds both a defect and a normal image.
    """
    columns: dict[str, NDArray[np.generic]] = {}
    for name in METADATA:
        if name == "slice_position" and "slice" in index.numbers and "axis" in index.meta:
            columns[name] = slice_position(index)
        elif name in index.meta:
            columns[name] = index.meta[name]
    metadata = tuple(columns)
    bundles = {"metadata": metadata} if metadata else {}
    return AuditTable(
        features=columns | features,
        categorical=frozenset(metadata) & index.meta.keys(),
        bundles=bundles | {"image statistics": tuple(features)},
        target=is_defect(index),
        stratum=index.meta[stratum].astype(np.int64),
        group=index.group.astype(np.int64),
    )


def slice_position(index: SampleIndex) -> NDArray[np.float32]:
    """Return where each slice lies in its battery, as the middle of one of ten bins.

    Args:
        index: The samples, with the number column slice and the meta column axis.

    Returns:
        (N,) float32: 0.05 for the first tenth of the slices' range along this axis of this battery, up to 0.95; NaN
        where all slices have one number.
    """
    number = index.numbers["slice"].astype(np.float64)
    stacks = index.group.astype(np.int64) * (len(index.meta_names["axis"]) + 1) + index.meta["axis"]
    _, stack = np.unique(stacks, return_inverse=True)
    lowest, highest = np.full((2, stack.max(initial=-1) + 1), np.nan)
    np.fmin.at(lowest, stack, number)
    np.fmax.at(highest, stack, number)
    extent = (highest - lowest)[stack]
    position = np.divide(number - lowest[stack], extent, out=np.full(len(number), np.nan), where=extent > 0)
    middle = (np.minimum(np.floor(position * SLICE_BINS), SLICE_BINS - 1) + 0.5) / SLICE_BINS
    return np.asarray(middle, dtype=np.float32)


def _mean_gradient(grey: NDArray[np.float32]) -> float:
    """Mean length of the forward difference, 0 for an image of one row or column."""
    down = np.diff(grey, axis=0)[:, :-1]
    right = np.diff(grey, axis=1)[:-1]
    return float(np.hypot(down, right).mean()) if down.size else 0.0
