r"""Two cheap bounds that show, without comparing them, that two texts cannot be near-duplicates.

Write n and m for the lengths of texts a and b and L for their longest common subsequence. `rapidfuzz.fuzz.ratio` is
100 * 2L / (n + m), so a ratio of at least t means that at most D = (1 - t/100)(n + m) characters are deleted from a and
inserted to get b (D = n + m - 2L).

*Characters.* One deletion or insertion changes one count by one, so the counts of characters of a and b differ by at
most D in all (L1 distance). Merging characters into buckets can only bring counts nearer. With |n - m| <= L1 this
contains the bound by length.

*Grams.* A run of q characters of a stands in b as well unless it holds one of the n - L deleted characters, of which
each lies in at most q runs, or is torn by an insertion; each of the m - L insertions tears at most q - 1 runs. So a and
b share, counted with multiplicity, at least (n - q + 1) - q(n - L) - (q - 1)(m - L)
= (2q - 1)L - (q - 1)(n + m + 1) runs. Merging runs into buckets can only raise what is shared, and since
min(x, y) <= sqrt(x y), the inner product of the square roots of the counts is never smaller than it: one matrix
product bounds all pairs.

The bounds are safe, not sharp: what they let through is compared. Sums run in float32; the counts of characters are
whole numbers below 2**24 and exact, the products have at most K = 2**15 terms of one sign, so that their error is below
K * 2**-24 = 0.2 %, which `GRAM_SLACK` covers.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

CHAR_BUCKETS = 48
GRAM_LENGTH = 4
MOST_GRAM_BUCKETS = 2**15
GRAM_SLACK = 0.005
ROUNDING = 1e-6
"""Share of the summed lengths that is added to D, so that a ratio that rounds up to the threshold is not lost."""

_BATCH = 4096
_CODE_POINTS = 0x110000
_FACTOR, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)  # odd, bits well spread


def edit_budget(total: NDArray[np.float64] | NDArray[np.float32], threshold: float) -> NDArray[np.float64]:
    """Return the most deletions and insertions that two texts of summed length `total` may be apart."""
    return np.asarray(total, dtype=np.float64) * (1 - threshold / 100 + ROUNDING) + ROUNDING


def character_counts(texts: Sequence[str]) -> NDArray[np.float32]:
    """Count characters in buckets.

    The most frequent characters of all texts have a bucket each; the others are spread over the same buckets.

    Returns:
        (N, 48) float32, whole numbers.
    """
    frequency = np.zeros(_CODE_POINTS, dtype=np.int64)
    for codes, _ in _batches(texts):
        frequency += np.bincount(codes, minlength=_CODE_POINTS)
    rank = np.empty(_CODE_POINTS, dtype=np.int64)
    rank[np.argsort(-frequency, kind="stable")] = np.arange(_CODE_POINTS)
    bucket = rank % CHAR_BUCKETS
    counts = np.zeros((len(texts), CHAR_BUCKETS), dtype=np.float32)
    done = 0
    for codes, length in _batches(texts):
        row = np.repeat(np.arange(len(length)), length)
        flat = np.bincount(row * CHAR_BUCKETS + bucket[codes], minlength=len(length) * CHAR_BUCKETS)
        counts[done : done + len(length)] = flat.reshape(-1, CHAR_BUCKETS)
        done += len(length)
    return counts


def gram_buckets(mean_length: float) -> int:
    """Return how many buckets runs of four characters need: about eight a character, so that they seldom meet."""
    wanted = int(max(8.0 * mean_length, 256.0))
    return min(1 << (wanted - 1).bit_length(), MOST_GRAM_BUCKETS)


def gram_roots(texts: Sequence[str], num_buckets: int) -> NDArray[np.float32]:
    """Return the square roots of the counts of runs of four characters in buckets, (N, num_buckets) float32."""
    codes, length = _code_points(texts)
    values = codes.astype(np.uint64)
    num_runs = max(len(values) - GRAM_LENGTH + 1, 0)
    mixed = values[:num_runs].copy()
    for step in range(1, GRAM_LENGTH):
        mixed = mixed * _FACTOR + values[step : num_runs + step]
    bucket = ((mixed * _MIX) >> np.uint64(40)).astype(np.int64) % num_buckets
    row = np.repeat(np.arange(len(texts)), length)
    within = row[:num_runs] == row[len(values) - num_runs :]  # a run ends in the text in which it begins
    flat = np.bincount(row[:num_runs][within] * num_buckets + bucket[within], minlength=len(texts) * num_buckets)
    return np.sqrt(flat.reshape(len(texts), num_buckets), dtype=np.float32)


def grams_needed(total: NDArray[np.float64], threshold: float) -> NDArray[np.float64]:
    """Return how many runs two near-duplicates of summed length `total` share at least, less the slack."""
    common = (total - edit_budget(total, threshold)) / 2
    needed = (2 * GRAM_LENGTH - 1) * common - (GRAM_LENGTH - 1) * (total + 1)
    return needed * (1 - GRAM_SLACK)


def _batches(texts: Sequence[str]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the code points of a few thousand texts at a time, and their lengths."""
    for begin in range(0, len(texts), _BATCH):
        codes, length = _code_points(texts[begin : begin + _BATCH])
        yield codes.astype(np.int64), length


def _code_points(texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    joined = "".join(texts).encode("utf-32-le", errors="surrogatepass")
    return np.frombuffer(joined, dtype=np.uint32), np.array([len(text) for text in texts], dtype=np.int64)
