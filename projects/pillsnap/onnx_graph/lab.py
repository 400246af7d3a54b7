"""The two colour conversions as ONNX operators, equal to OpenCV's for every colour.

Each step is a table or a product with a 3 x 3 matrix. The products on the way to LAB are sums of whole numbers below
2^24 times a power of two: exact in float32, in whatever order they are added. Those on the way back need 31 bits and
are done in float64. What is added after a product stands in the tables before it where they can hold it.
"""

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from projects.pillsnap.onnx_graph.builder import GraphBuilder
from projects.pillsnap.onnx_graph.lab_tables import F_SHIFT, INVERSE_SHIFT, XYZ_SHIFT, XZ_OFFSET, LabTables, lab_tables

# L = 1.16 * 255 f(Y) - 0.16 * 255, a = 500 (f(X) - f(Y)) + 128, b = 200 (f(Y) - f(Z)) + 128, in units of 2^-15
_LAB_OF_F = np.array([[0, 296, 0], [500, -500, 0], [0, 200, -200]])
_LAB_OFFSET = np.array([-((16 * 255 * (1 << F_SHIFT) + 50) // 100), 128 << F_SHIFT, 128 << F_SHIFT])
B_PLACE = 256
"""b is stored as b + 256, so that a and b can be looked up in one table."""


def rgb_to_lab(build: GraphBuilder, image: str, pixels: int) -> tuple[str, str]:
    """Write RGB -> LAB.

    Args:
        build: Where to write.
        image: uint8 (N, 3, S, S).
        pixels: S * S.

    Returns:
        L, int32 (N, 1, S * S), 0 to 255; and a with b + B_PLACE, int32 (N, 2, S * S).
    """
    tables = lab_tables()
    shape = build.integers(-1, 3, pixels)
    half = tables.gamma + 0.5  # each row of to_xyz sums to one, so this is the half that rounds X, Y and Z
    linear = build.lookup(half.astype(np.float32), build.cast(image, TensorProto.INT32), shape)
    xyz = build.cast(_matrix(build, tables.to_xyz, linear, XYZ_SHIFT, np.float32), TensorProto.INT32)
    roots = build.lookup(tables.root.astype(np.float32), xyz, shape)
    lab = _matrix(build, _LAB_OF_F, roots, F_SHIFT, np.float32)
    offset = _LAB_OFFSET / (1 << F_SHIFT) + 0.5 + np.array([0, 0, B_PLACE])
    lab = build.op("Add", lab, build.constant(offset.astype(np.float32)[:, None]))
    lightness, colour = build.split(build.cast(lab, TensorProto.INT32), (1, 2), axis=1)
    return lightness, colour


def lab_to_rgb(
    build: GraphBuilder, lightness: str, colour: str, pixels: int, levels: NDArray[np.float32]
) -> tuple[NDArray[np.float32], str]:
    """Write LAB -> RGB up to the last table, which is left to the caller so that he can name its output.

    Args:
        build: Where to write.
        lightness: L, int32 (N, 1, S * S), 0 to 255.
        colour: a with b + B_PLACE, int32 (N, 2, S * S).
        pixels: S * S.
        levels: What each grey level becomes, (3, 256).

    Returns:
        The last table, float32 (K,), and the place of each value in it, int32 (N, 3, S * S).
    """
    tables = lab_tables()
    one, two = build.integers(-1, 1, pixels), build.integers(-1, 2, pixels)
    steps = np.concatenate([tables.a_step, len(tables.xz) - tables.b_step]) + XZ_OFFSET
    place = build.op(
        "Add",
        build.lookup(tables.f_y.astype(np.int32), lightness, one),
        build.lookup(steps.astype(np.int32), colour, two),
    )
    coefficients = tables.to_rgb[:, [0, 2, 1]]
    table, start = _clamped(tables, levels)
    x_shift, z_shift, y_shift = np.linalg.solve(coefficients / (1 << INVERSE_SHIFT), start)
    # X and Z need different shifts, so there are two tables one behind the other
    x_then_z = np.concatenate([tables.xz + x_shift, tables.xz + z_shift])
    x_and_z = build.lookup(x_then_z, place, two)
    y = build.lookup(tables.y + y_shift, lightness, one)
    light = _matrix(build, coefficients, build.op("Concat", x_and_z, y, axis=1), INVERSE_SHIFT, np.float64)
    return table, build.cast(light, TensorProto.INT32)


def _matrix(build: GraphBuilder, coefficients: NDArray[np.int64], value: str, shift: int, kind: type) -> str:
    """Write the product of a 3 x 3 matrix, in units of 2^-shift, with (N, 3, P)."""
    return build.op("MatMul", build.constant((coefficients / (1 << shift)).astype(kind)), value)


def _clamped(tables: LabTables, levels: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """One table for three channels that needs no clamping of its index, and what to add to 12-bit light to get it.

    Returns:
        Table (3 * K,), and start of each channel in it (3,), with the half that rounds. The light comes in steps of
        2^-14; half a step more keeps every value 2^-15 away from a whole number, far more than float64 loses.
    """
    x = tables.xz[tables.f_y[:, None] + tables.a_step + XZ_OFFSET]
    z = tables.xz[tables.f_y[:, None] - tables.b_step + XZ_OFFSET]
    terms = [tables.to_rgb[:, 0, None, None] * x, tables.to_rgb[:, 2, None, None] * z]  # (channel, L, a or b)
    of_y = tables.to_rgb[:, 1, None] * tables.y
    least = (of_y + sum(term.min(axis=2) for term in terms)).min() // (1 << INVERSE_SHIFT)
    most = (of_y + sum(term.max(axis=2) for term in terms)).max() // (1 << INVERSE_SHIFT) + 1
    level = tables.inverse_gamma[np.clip(np.arange(least, most + 1), 0, len(tables.inverse_gamma) - 1)]
    start = np.arange(3) * len(level) - least + 0.5 + 0.5 / (1 << INVERSE_SHIFT)
    return levels[:, level].reshape(-1), start
