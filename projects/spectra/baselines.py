"""What a network must beat: a linear model of the low Fourier orders, and the curves of the most similar pattern."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

ALPHAS = tuple(10.0**power for power in range(-6, 3))
CHUNK = 1024  # patterns whose float32 pixels are in memory at once: 67 MB at 128 x 128
BLOCKS_PER_SIDE = 32
NUM_SHORTLISTED = 64

# Averaged patterns in memory at once, 4 kB each: 34 MB of those to choose from, 134 MB of those to find.
TRAIN_CHUNK = 8192
TEST_CHUNK = 32768
BOUNDS = 16_000_000  # of one matrix product: 64 MB

Bits = NDArray[np.uint8]


def fourier_features(bits: Bits, side: int, max_order: int) -> NDArray[np.float64]:
    """Low Fourier orders of each pattern as real numbers.

    Args:
        bits: (N, side * side / 8) uint8, pixels packed along x in numpy's order.
        side: Side of the pattern, in pixels.
        max_order: Orders |m|, |n| <= max_order, below side / 2.

    Returns:
        (N, (2 max_order + 1) ** 2): the mean, then real and imaginary parts of one of each conjugate pair of orders,
        divided by the number of pixels.

    Raises:
        ValueError: If `max_order` is out of range or the bits are not `side` x `side`.
    """
    _check_bits(bits, side)
    if not 0 <= max_order < side / 2:
        raise ValueError(f"max_order is {max_order}, allowed: 0 to {(side - 1) // 2}")
    order = np.arange(-max_order, max_order + 1)
    wave = np.exp(-2j * np.pi * np.outer(np.arange(side), order) / side).astype(np.complex64)  # (side, 2K + 1)
    m, n = (axis.ravel() for axis in np.meshgrid(order, order, indexing="ij"))
    half = (m > 0) | ((m == 0) & (n > 0))  # a real picture: order (-m, -n) is the conjugate of (m, n)
    centre = (m == 0) & (n == 0)
    parts = []
    for pixels in _pixels(bits, side):
        along_x = pixels @ wave.view(np.float32).reshape(side, -1)  # (n, side, 2 (2K + 1)), re and im in turn
        along_x = along_x.view(np.complex64)  # (n, side, 2K + 1)
        spectrum = np.einsum("ym,nyx->nmx", wave, along_x, optimize=True).reshape(len(pixels), -1) / side**2
        parts.append(np.hstack([spectrum[:, centre].real, spectrum[:, half].real, spectrum[:, half].imag]))
    return np.vstack(parts).astype(np.float64)


def ridge_fourier(
    train_bits: Bits,
    train_target: NDArray[np.floating],
    test_bits: Bits,
    side: int,
    *,
    max_order: int = 5,
    alphas: tuple[float, ...] = ALPHAS,
) -> NDArray[np.float64]:
    """Ridge regression of the curves on the low Fourier orders, the strength chosen by leave-one-out.

    Linear in the orders and nothing else. The features have a spread of about 0.01 to 0.1, so `alphas` are small; they
    are multiplied by the number of training patterns, as the sum of squares that they stand against grows with it.

    Args:
        train_bits: (N, side * side / 8) uint8, pixels packed along x in numpy's order.
        train_target: (N, *output_shape).
        test_bits: (M, side * side / 8).
        side: Side of the patterns, in pixels.
        max_order: Orders |m|, |n| up to this; 5 covers those that propagate at a pitch of 2 um.
        alphas: Strengths per training pattern to choose from, > 0.

    Returns:
        (M, *output_shape) float64.

    Raises:
        ValueError: If sizes differ, or fewer than 3 patterns are given to train on.
    """
    _check_pairs(train_bits, train_target, minimum=3)
    features = fourier_features(train_bits, side, max_order)
    model = RidgeCV(alphas=np.asarray(alphas) * len(features))
    model.fit(features, np.asarray(train_target, dtype=np.float64).reshape(len(features), -1))
    predicted = model.predict(fourier_features(test_bits, side, max_order))
    return np.asarray(predicted, dtype=np.float64).reshape(len(test_bits), *train_target.shape[1:])


def nearest_neighbour(
    train_bits: Bits, train_target: NDArray[np.floating], test_bits: Bits, side: int
) -> NDArray[np.float64]:
    """Curves of the training pattern that differs in the fewest pixels.

    Args:
        train_bits: (N, side * side / 8) uint8, pixels packed along x in numpy's order.
        train_target: (N, *output_shape).
        test_bits: (M, side * side / 8).
        side: Side of the patterns, in pixels.

    Returns:
        (M, *output_shape) float64.

    Raises:
        ValueError: If sizes differ or there is nothing to train on.
    """
    _check_pairs(train_bits, train_target, minimum=1)
    index, _ = nearest_index(train_bits, test_bits, side)
    return np.asarray(train_target[index], dtype=np.float64)


def nearest_index(train_bits: Bits, test_bits: Bits, side: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The training pattern with the fewest differing pixels, and how many they are; exact, ties to the first.

    Averaging over blocks of pixels is a projection, so the squared distance of two averaged patterns, times the pixels
    of a block, is at most the number of differing pixels. That bound is one matrix product for all pairs; pixels are
    compared only where it is not above the best count so far.

    Args:
        train_bits: (N, side * side / 8) uint8, N >= 1.
        test_bits: (M, side * side / 8).
        side: Side of the patterns, in pixels.

    Returns:
        Row of `train_bits` (M,) and number of differing pixels (M,).

    Raises:
        ValueError: If the bits are not `side` x `side`.
    """
    _check_bits(train_bits, side)
    _check_bits(test_bits, side)
    index = np.zeros(len(test_bits), dtype=np.int64)
    count = np.full(len(test_bits), side * side + 1, dtype=np.int64)
    for start in range(0, len(test_bits), TEST_CHUNK):
        here = slice(start, start + TEST_CHUNK)
        _search(train_bits, test_bits[here], side, index[here], count[here])
    return index, count


def _search(train_bits: Bits, test_bits: Bits, side: int, index: NDArray[np.int64], count: NDArray[np.int64]) -> None:
    """Fill `index` and `count` of some patterns, chunk of training patterns by chunk."""
    test, test_words = _block_means(test_bits, side), _words(test_bits)
    for start in range(0, len(train_bits), TRAIN_CHUNK):
        chunk = train_bits[start : start + TRAIN_CHUNK]
        train, train_words = _block_means(chunk, side), _words(chunk)
        squares = np.einsum("nd,nd->n", train, train)
        step = max(1, BOUNDS // len(chunk))
        for first in range(0, len(test), step):
            block = test[first : first + step]
            bounds = block @ train.T
            bounds *= -2.0  # in place: the product is the largest array of all
            bounds += squares
            bounds += np.einsum("nd,nd->n", block, block)[:, None]
            # Only what is closer than all before it counts: that is how ties go to the first.
            hopeful = np.flatnonzero(bounds.min(axis=1) <= count[first : first + step] - 0.5)
            for row in hopeful.tolist():
                found = _closest(bounds[row], train_words, test_words[first + row], int(count[first + row]))
                if found is not None:
                    index[first + row], count[first + row] = start + found[0], found[1]


def _closest(
    bound: NDArray[np.float32], train: NDArray[np.uint64], test: NDArray[np.uint64], best: int
) -> tuple[int, int] | None:
    """Return row and count of the first closest pattern, if fewer than `best` pixels of it differ.

    The most promising ones are compared first, then all that could still be closer or tie.
    """
    shortlist = np.argpartition(bound, min(NUM_SHORTLISTED, len(bound)) - 1)[:NUM_SHORTLISTED]
    least = int(np.bitwise_count(train[shortlist] ^ test).sum(axis=1, dtype=np.int64).min())
    # Half a pixel for the rounding of the float32 product; counts are whole.
    candidates = np.flatnonzero(bound <= min(least, best - 1) + 0.5)
    if not len(candidates):
        return None
    counts = np.bitwise_count(train[candidates] ^ test).sum(axis=1, dtype=np.int64)
    closest = int(counts.argmin())
    return (int(candidates[closest]), int(counts[closest])) if counts[closest] < best else None


def _block_means(bits: Bits, side: int) -> NDArray[np.float32]:
    """Averages over blocks of pixels -1/2 and 1/2, (N, blocks), scaled so that squared distances count pixels."""
    # Halves, not 0 and 1: a shift changes no distance and halves the size of what cancels in float32.
    blocks = next(size for size in range(min(BLOCKS_PER_SIDE, side), 0, -1) if side % size == 0)
    edge = side // blocks
    means = np.empty((len(bits), blocks * blocks), dtype=np.float32)
    place = 0
    for pixels in _pixels(bits, side):
        sums = pixels.reshape(-1, blocks, edge, blocks, edge).sum(axis=(2, 4))
        means[place : place + len(pixels)] = (sums / np.float32(edge) - np.float32(edge / 2)).reshape(len(pixels), -1)
        place += len(pixels)
    return means


def _words(bits: Bits) -> NDArray[np.uint64]:
    """(N, bytes) -> (N, words of 8 bytes): an eighth of the operations."""
    spare = -bits.shape[1] % 8
    return np.ascontiguousarray(np.pad(bits, ((0, 0), (0, spare))) if spare else bits).view(np.uint64)


def _pixels(bits: Bits, side: int) -> Iterator[NDArray[np.float32]]:
    """Yield (n, side, side) of 0 and 1, a chunk of patterns at a time; one empty chunk where there are none."""
    for start in range(0, max(1, len(bits)), CHUNK):
        yield np.unpackbits(bits[start : start + CHUNK], axis=1).reshape(-1, side, side).astype(np.float32)


def _check_bits(bits: Bits, side: int) -> None:
    if bits.dtype != np.uint8 or bits.ndim != 2 or bits.shape[1] * 8 != side * side:
        raise ValueError(
            f"bits are {bits.dtype} of shape {bits.shape}, allowed for side {side}: uint8 (N, {side * side // 8})"
        )


def _check_pairs(bits: Bits, target: NDArray[np.floating], minimum: int) -> None:
    if len(bits) != len(target) or len(bits) < minimum:
        raise ValueError(
            f"there are {len(bits)} patterns and {len(target)} targets, allowed: as many of both, {minimum} or more"
        )
