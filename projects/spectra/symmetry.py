"""The 32 variants of a periodic pattern in unpolarised light at normal incidence, and what each does to a cell.

Transposition, the two mirrors and the two shifts by half a period map a periodic pattern to one whose far side is
the mapped light. Each of them takes quadrants to quadrants, so the cell of a variant is a permutation of the cell:

- the transposition swaps the two off-diagonal quadrants;
- a mirror or a half-period shift along y swaps upper and lower quadrants, along x left and right ones;
- a mirror and a half-period shift along the same axis cancel: another pattern with the same cell.

Rotation by 180 degrees is both mirrors: it swaps the B with the R quadrant and the two G quadrants with each other.
A pattern that is symmetric about its main diagonal has two equal G quadrants, and its rotation is symmetric again; so
there the label changes in its two corners: B and R trade places. It does not stay as it is.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SWITCHES = ("transpose", "flip_y", "flip_x", "shift_y", "shift_x")
_CHUNK = 1024  # patterns whose float32 pixels are in memory at once: 67 MB at 128 x 128


@dataclass(frozen=True)
class Variant:
    """One element of the group: transpose first, then mirror, then shift by half a period.

    Attributes:
        name: Its switches joined by "+", with the usual names for "identity" and "rotation_180".
        transpose: Mirror at the main diagonal.
        flip_y: Mirror the rows, y -> H - 1 - y.
        flip_x: Mirror the columns.
        shift_y: Roll the rows by H / 2.
        shift_x: Roll the columns by W / 2.
    """

    name: str
    transpose: bool = False
    flip_y: bool = False
    flip_x: bool = False
    shift_y: bool = False
    shift_x: bool = False

    def apply_to_structure(self, structure: NDArray[Any]) -> NDArray[Any]:
        """Return the pattern's variant, (..., H, W) -> the same shape; H = W must be even.

        Raises:
            ValueError: The last two axes are no even square.
        """
        height, width = structure.shape[-2:]
        if height != width or height % 2:
            raise ValueError(f"a structure must be a square of even side, got {height} x {width}")
        result = structure.swapaxes(-1, -2) if self.transpose else structure
        flips = tuple(axis for axis, on in ((-2, self.flip_y), (-1, self.flip_x)) if on)
        shifts = [axis for axis, on in ((-2, self.shift_y), (-1, self.shift_x)) if on]
        result = np.flip(result, flips) if flips else result
        result = np.roll(result, [height // 2] * len(shifts), shifts) if shifts else result
        return np.ascontiguousarray(result)

    def apply_to_cell(self, cell: NDArray[Any]) -> NDArray[Any]:
        """Return the cell of the pattern's variant, (..., 2, 2, L) -> the same shape.

        Raises:
            ValueError: The cell is not of that shape.
        """
        if cell.ndim < 3 or cell.shape[-3:-1] != (2, 2):
            raise ValueError(f"a cell must be of shape (..., 2, 2, L), got {cell.shape}")
        result = cell.swapaxes(-2, -3) if self.transpose else cell
        axes = tuple(axis for axis, on in ((-3, self.flip_y ^ self.shift_y), (-2, self.flip_x ^ self.shift_x)) if on)
        return np.ascontiguousarray(np.flip(result, axes) if axes else result)

    def switches(self) -> tuple[bool, bool, bool, bool, bool]:
        """Return (transpose, flip_y, flip_x, shift_y, shift_x)."""
        return self.transpose, self.flip_y, self.flip_x, self.shift_y, self.shift_x


def _named(switches: tuple[bool, ...]) -> Variant:
    on = [name for name, switch in zip(_SWITCHES, switches, strict=True) if switch]
    usual = {(): "identity", ("flip_y", "flip_x"): "rotation_180"}
    return Variant(usual.get(tuple(on), "+".join(on)), *switches)


_ALL = tuple(_named(switches) for switches in product((False, True), repeat=5))

GROUPS: dict[str, tuple[Variant, ...]] = {
    "none": _ALL[:1],
    "rotation_180": tuple(each for each in _ALL if each.name in ("identity", "rotation_180")),
    "diagonal": tuple(
        each for each in _ALL if not each.transpose and each.flip_y == each.flip_x and each.shift_y == each.shift_x
    ),
    "full": _ALL,
}
"""Name -> variants, the identity first.

`diagonal` holds those that leave a diagonal-symmetric pattern diagonal-symmetric: what commutes with the transposition,
that is, acts alike along both axes (and the transposition itself, which leaves such a pattern as it is).
"""


def variant_group(name: str) -> tuple[Variant, ...]:
    """Return the variants of a group by its name.

    Raises:
        ValueError: There is no such group.
    """
    if name not in GROUPS:
        raise ValueError(f"symmetry group {name!r} does not exist; allowed are {', '.join(GROUPS)}")
    return GROUPS[name]


def pattern_groups(bits: NDArray[np.uint8], side: int) -> NDArray[np.int32]:
    """Number patterns so that two get the same number if and only if one is a variant of the other.

    A random integer weight on each pixel and its 32 images under the group give 32 sums a pattern: one matrix product.
    A variant has the same sums in another order, exactly so, since whole numbers below 2^24 are exact in float32.
    Patterns that are no variants agree in all of their sums by chance only: one sum in
    thousands, all 16 or 32 of them never. Smooth random patterns do repeat, though: noise that is below the threshold
    everywhere is a blank pattern, 3 of the first 19,800 of the stand-in at its defaults, and these are one group.

    Args:
        bits: (N, side * side / 8) uint8, packed along x; a memory map is read in chunks.
        side: Pixels of a side, even.

    Returns:
        (N,) int32, numbered from 0 in the order of first appearance.

    Raises:
        ValueError: The packed length does not belong to the side.
    """
    if bits.ndim != 2 or bits.shape[1] * 8 != side * side:
        raise ValueError(f"bits of {side} x {side} pixels must be (N, {side * side // 8}), got {bits.shape}")
    largest = (2**24 - 1) // (side * side)
    weights = np.random.default_rng(20_261_121).integers(0, largest, (side, side), endpoint=True)
    table = np.stack([each.apply_to_structure(weights).ravel() for each in _ALL], axis=1).astype(np.float32)
    sums = np.empty((len(bits), len(_ALL)), dtype=np.int32)
    for start in range(0, len(bits), _CHUNK):
        pixels = np.unpackbits(np.asarray(bits[start : start + _CHUNK]), axis=1).astype(np.float32)
        sums[start : start + _CHUNK] = np.sort(pixels @ table, axis=1)
    return _numbered(sums)


def _numbered(rows: NDArray[np.int32]) -> NDArray[np.int32]:
    """Number equal rows, (N, K) -> (N,), in the order of first appearance."""
    keys = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.shape[1] * rows.itemsize)))[:, 0]
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return rank[inverse.reshape(-1)]
