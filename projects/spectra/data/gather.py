"""Bits and curves of a batch, gathered, turned into their variants and unpacked; the same on every device."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from projects.spectra.symmetry import Variant


def variant_table(variants: tuple[Variant, ...]) -> NDArray[np.bool_]:
    """Return the switches of the variants, (V, 5): transpose, flip_y, flip_x, shift_y, shift_x."""
    return np.array([each.switches() for each in variants], dtype=np.bool_).reshape(len(variants), 5)


def variant_codes(seed: int, draw: NDArray[np.int64], num_variants: int) -> NDArray[np.int64]:
    """Draw a variant for each draw of the run as a function of (seed, draw) alone.

    Source: the finaliser of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014):
    a whole batch in one go, where one `SeedSequence` a sample would take longer than all the rest.

    Args:
        seed: Base seed, >= 0.
        draw: (B,) place in the run, see `shared.sampler.SampleKey`.
        num_variants: A power of two, so that all come up equally often.

    Returns:
        (B,) in 0 .. num_variants - 1.
    """
    # The golden ratio for the draws, another odd constant for the seeds: neighbours of both give unrelated numbers.
    word = draw.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    word ^= _mixed(np.array([seed], dtype=np.uint64) + np.uint64(0xD1B54A32D192ED03))
    return (_mixed(word) % np.uint64(num_variants)).astype(np.int64)


def _mixed(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


def transform(bits: Tensor, target: Tensor, side: int, switches: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
    """Turn patterns and cells into their variants, all at once, and unpack the patterns.

    All is done on the packed rows, an eighth of the bytes, and only where a sample asks for it. (On pixels, with a
    `torch.where` for each switch, 400 patterns of 128 x 128 took 3 to 40 ms; unpacking alone takes 0.3.)

    Args:
        bits: (B, side * side / 8) uint8, side a multiple of 16, so that half a row is whole bytes.
        target: (B, 2, 2, L).
        side: Pixels of a side.
        switches: (B, 5) bool, see `variant_table`.

    Returns:
        (B, side, side) uint8 of 0 and 1, and (B, 2, 2, L).
    """
    transpose, flip_y, flip_x, shift_y, shift_x = switches.T
    packed = bits.view(len(bits), side, side // 8)
    packed = _at(transpose, packed, _transposed)
    packed = _at(flip_y & flip_x, packed, lambda part: _reversed_bits(part.flatten(1).flip(1)).view_as(part))
    packed = _at(flip_y & ~flip_x, packed, lambda part: part.flip(1))
    packed = _at(flip_x & ~flip_y, packed, lambda part: _reversed_bits(part.flip(2)))
    packed = _at(shift_y, packed, lambda part: part.roll(side // 2, 1))
    packed = _at(shift_x, packed, lambda part: part.roll(side // 16, 2))
    target = _at(transpose, target, lambda part: part.transpose(1, 2))
    target = _at(flip_y ^ shift_y, target, lambda part: part.flip(1))
    target = _at(flip_x ^ shift_x, target, lambda part: part.flip(2))
    return unpack(packed.flatten(1), side), target


def unpack(bits: Tensor, side: int) -> Tensor:
    """Unpack (B, side * side / 8) uint8 into (B, side, side) uint8 of 0 and 1, on the tensor's device."""
    if bits.device.type == "cpu":  # NumPy has a routine of its own for it
        return torch.from_numpy(np.unpackbits(bits.numpy(), axis=1)).view(len(bits), side, side)
    return _unpack_in_torch(bits).view(len(bits), side, side)


def _unpack_in_torch(bits: Tensor) -> Tensor:
    """Unpack (B, K) uint8 into (B, 8 K) on any device."""
    places = torch.arange(7, -1, -1, dtype=torch.uint8, device=bits.device)
    return ((bits[:, :, None] >> places) & 1).flatten(1)


def _at(mask: NDArray[np.bool_], values: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the values, changed at the samples of a mask, (B,); the argument stays as it is."""
    if not mask.any():
        return values
    rows = torch.from_numpy(np.flatnonzero(mask)).to(values.device)
    changed = change(values.index_select(0, rows)).contiguous()
    # As words of 64 bits: byte by byte this copy takes longer than all changes. A cell is 4 L numbers: whole words.
    words = values.flatten(1).view(torch.int64).index_copy(0, rows, changed.flatten(1).view(torch.int64))
    return words.view(values.dtype).view(values.shape)


def _transposed(packed: Tensor) -> Tensor:
    """Transpose packed patterns, (K, side, side / 8): blocks of 8 x 8 pixels trade places, and each is transposed.

    A block is one 64-bit word. Byte y of it, counted from the lowest, is a row, and pixel x of the row its bit 7 - x:
    so pixel (y, x) is bit 8 y + 7 - x and goes to bit 8 x + 7 - y. Three exchanges do that, of halves, quarters and
    neighbours. (The lowest byte comes first in memory on each processor and GPU that torch runs on.)
    """
    num, side, row_bytes = packed.shape
    blocks = packed.view(num, row_bytes, 8, row_bytes).permute(0, 3, 1, 2).contiguous()  # (K, block x, block y, row)
    word = blocks.view(torch.int64)
    for distance, mask in ((36, 0x000000000F0F0F0F), (18, 0x0000333300003333), (9, 0x0055005500550055)):
        differ = ((word >> distance) ^ word) & mask
        word = word ^ differ ^ (differ << distance)
    return word.view(torch.uint8).permute(0, 1, 3, 2).reshape(num, side, row_bytes)


def _reversed_bits(packed: Tensor) -> Tensor:
    """Reverse the order of the bits in each byte, eight bytes at a time: halves, pairs, neighbours trade places."""
    word = packed.view(len(packed), -1).view(torch.int64)  # a pattern is a multiple of 32 bytes
    for distance, mask in ((4, 0x0F0F0F0F0F0F0F0F), (2, 0x3333333333333333), (1, 0x5555555555555555)):
        word = ((word >> distance) & mask) | ((word & mask) << distance)
    return word.view(torch.uint8).view(packed.shape)
