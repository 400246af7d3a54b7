"""CLAHE as ONNX operators, in the order of operations in which OpenCV does it.

Source: Zuiderveld, "Contrast limited adaptive histogram equalization", Graphics Gems IV (1994), with OpenCV's way of
giving the clipped counts back: equally to all levels, and what is left to every k-th.
"""

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from projects.pillsnap.onnx_graph.builder import GraphBuilder

LEVELS = 256


def clahe(build: GraphBuilder, lightness: str, size_px: int, clip_limit: float, grid: int) -> str:
    """Write CLAHE.

    Args:
        build: Where to write.
        lightness: int32 (N, 1, S * S), 0 to 255.
        size_px: S.
        clip_limit: In multiples of the mean height of a histogram.
        grid: Tiles along a side; divides S.

    Returns:
        int32 (N, 1, S * S), 0 to 255.
    """
    image = build.op("Reshape", lightness, build.integers(-1, 1, size_px, size_px))
    image = build.op("Add", image, _image_offsets(build, image, grid))
    tile = np.arange(size_px) // (size_px // grid)
    counts = _histograms(build, build.op("Add", image, _offsets(build, tile, tile, grid)), grid)
    curves = _curves(build, counts, (size_px // grid) ** 2, clip_limit)
    mixed = _blend(build, image, curves, size_px, grid)
    level = build.cast(build.op("Round", mixed), TensorProto.INT32)
    return build.op("Reshape", level, build.integers(-1, 1, size_px * size_px))


def _image_offsets(build: GraphBuilder, image: str, grid: int) -> str:
    """Place of each image's first table, int32 (N, 1, 1, 1)."""
    number = build.op("Squeeze", build.op("Shape", image, start=0, end=1), build.integers(0))
    numbers = build.op("Range", build.constant(np.int64(0)), number, build.constant(np.int64(1)))
    places = build.op("Mul", build.cast(numbers, TensorProto.INT32), build.constant(np.int32(grid * grid * LEVELS)))
    return build.op("Reshape", places, build.integers(-1, 1, 1, 1))


def _offsets(build: GraphBuilder, row: NDArray[np.int64], column: NDArray[np.int64], grid: int) -> str:
    """Place of the table of each pixel's tile, int32 (S, S); onnxruntime adds the two constants as it loads."""
    rows = build.constant((row * grid * LEVELS).astype(np.int32)[:, None])
    return build.op("Add", rows, build.constant((column * LEVELS).astype(np.int32)[None, :]))


def _histograms(build: GraphBuilder, place: str, grid: int) -> str:
    """Counts of each level, int32 (N * grid * grid, LEVELS), from the places (N, 1, S, S) in them."""
    flat = build.op("Reshape", place, build.integers(-1))
    images = build.op("Shape", place, start=0, end=1)
    size = build.op("Mul", images, build.integers(grid * grid * LEVELS))
    zeros = build.op("Expand", build.constant(np.zeros(1, np.int32)), size)
    ones = build.op("Expand", build.constant(np.ones(1, np.int32)), build.op("Shape", flat))
    counts = build.op("ScatterElements", zeros, flat, ones, axis=0, reduction="add")
    return build.op("Reshape", counts, build.integers(-1, LEVELS))


def _curves(build: GraphBuilder, counts: str, area: int, clip_limit: float) -> str:
    """New level of each old one in each tile, float32 (N * grid * grid * LEVELS,), from the counts (.., LEVELS)."""
    limit = build.constant(np.int32(max(1, int(clip_limit * area / LEVELS))))
    levels, one = build.constant(np.int32(LEVELS)), build.constant(np.int32(1))
    kept = build.op("Min", counts, limit)
    over = build.op("ReduceSum", build.op("Sub", counts, kept), build.integers(1), keepdims=1)
    share = build.op("Div", over, levels)
    left = build.op("Sub", over, build.op("Mul", share, levels))
    step = build.op("Div", levels, build.op("Max", left, one))
    number = build.constant(np.arange(LEVELS, dtype=np.int32)[None])
    turn = build.op("Div", number, step)
    takes = build.op("Equal", build.op("Mul", turn, step), number)
    takes = build.op("And", takes, build.op("Less", turn, left))
    even = build.op("Add", build.op("Add", kept, share), build.cast(takes, TensorProto.INT32))
    below = build.cast(build.op("CumSum", even, build.constant(np.int64(1))), TensorProto.FLOAT)
    scaled = build.op("Mul", below, build.constant(np.float32(LEVELS - 1) / np.float32(area)))
    return build.op("Reshape", build.op("Round", scaled), build.integers(-1))


def _blend(build: GraphBuilder, image: str, curves: str, size_px: int, grid: int) -> str:
    """Mix the curves of the four nearest tiles, float32 (N, 1, S, S)."""
    place = np.arange(size_px, dtype=np.float32) * (np.float32(1) / np.float32(size_px // grid)) - np.float32(0.5)
    first = np.floor(place).astype(np.int64)
    far = place - first.astype(np.float32)
    near = np.float32(1) - far
    low, high = np.maximum(first, 0), np.minimum(first + 1, grid - 1)
    shape = build.integers(-1, 1, size_px, size_px)
    left, right = build.constant(near[None, :]), build.constant(far[None, :])

    def row(tiles: NDArray[np.int64], weight: NDArray[np.float32]) -> str:
        corners = (
            build.lookup(curves, build.op("Add", image, _offsets(build, tiles, columns, grid)), shape)
            for columns in (low, high)
        )
        sides = [build.op("Mul", corner, side) for corner, side in zip(corners, (left, right), strict=True)]
        return build.op("Mul", build.op("Add", *sides), build.constant(weight[:, None]))

    return build.op("Add", row(low, near), row(high, far))
