"""Near-duplicate texts, exactly as the plain greedy double loop finds them, at a small part of its cost.

The loop: in file order, a text goes if `fuzz.ratio` with an earlier KEPT text is at least the threshold; otherwise it
stays. Equal texts are found by hash. The others are compared in chunks of file order with the texts kept so far, so
that a text that went costs nothing any more; within a chunk both sides are ordered by length, and what the bounds of
`likeness_bounds` cannot exclude is compared by rapidfuzz.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rapidfuzz import fuzz, process

from projects.redheart.data.likeness_bounds import (
    character_counts,
    edit_budget,
    gram_buckets,
    gram_roots,
    grams_needed,
)

THRESHOLD = 92.0
"""Ratio, in percent, from which a text counts as a copy."""

_CHUNK, _ROWS, _COLUMNS, _GRAM_COLUMNS = 4096, 1024, 4096, 1024
_PAIRS_AT_ONCE = 200_000
# Seconds: one comparison by rapidfuzz per (character of a) x (character of b); one term of the matrix product; and of
# what it multiplies one character and one bucket. Measured 2026-11-21 on 2 cores; they decide only which of two exact
# ways is taken.
_COMPARISON_S, _PRODUCT_TERM_S, _CHARACTER_S, _BUCKET_S = 2.5e-12, 1.3e-11, 2e-8, 3e-9

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class NearDuplicates:
    """What the greedy loop keeps and removes.

    Attributes:
        kept: (K,) int64 rows, ascending.
        removed: (R,) int64 rows, ascending.
        like: (R,) int64: the first kept row that the removed one is like.
        ratio: (R,) float64: their `fuzz.ratio`, threshold to 100.
    """

    kept: NDArray[np.int64]
    removed: NDArray[np.int64]
    like: NDArray[np.int64]
    ratio: NDArray[np.float64]


def find_near_duplicates(
    texts: Sequence[str],
    threshold: float = THRESHOLD,
    *,
    workers: int = 2,
    on_progress: Callable[[int, int], None] | None = None,
) -> NearDuplicates:
    """Find the texts that are like an earlier kept one.

    Args:
        texts: N texts in file order; case and white space count.
        threshold: Ratio in percent, above 50 (below, the bounds exclude nothing) to 100.
        workers: Threads of rapidfuzz, at least 1; the result does not depend on it.
        on_progress: Called with (texts done, N).

    Returns:
        The same as the double loop over `rapidfuzz.fuzz.ratio(texts[i], texts[j]) >= threshold`.

    Raises:
        ValueError: `threshold` or `workers` is out of range.
    """
    if not 50 < threshold <= 100:
        raise ValueError(f"threshold is {threshold}; allowed is above 50 to 100 (percent)")
    if workers < 1:
        raise ValueError(f"workers is {workers}; allowed is 1 or more")
    first: dict[str, int] = {}
    copy_of = np.array([first.setdefault(text, row) for row, text in enumerate(texts)], dtype=np.int64)
    like = np.full(len(texts), -1, dtype=np.int64)
    ratio = np.zeros(len(texts))
    search = _Search(texts, np.unique(copy_of), threshold, workers, like, ratio)
    for done in search.run():
        if on_progress is not None:
            on_progress(done, len(texts))
    # A copy of a kept text is like it; a copy of a removed one is like what that one is like.
    copies = np.flatnonzero(copy_of != np.arange(len(texts)))
    origin = copy_of[copies]
    like[copies] = np.where(like[origin] < 0, origin, like[origin])
    ratio[copies] = np.where(like[origin] < 0, 100.0, ratio[origin])
    removed = np.flatnonzero(like >= 0)
    return NearDuplicates(np.flatnonzero(like < 0), removed, like[removed], ratio[removed])


class _Search:
    """The greedy pass over distinct texts; fills `like` and `ratio` of the rows that go.

    Args:
        texts: All texts.
        rows: (M,) ascending rows of the distinct ones.
        threshold: In percent.
        workers: Threads of rapidfuzz.
        like: (N,) filled with the first kept row, -1 where the text stays.
        ratio: (N,) filled with the ratio.
    """

    def __init__(
        self,
        texts: Sequence[str],
        rows: NDArray[np.int64],
        threshold: float,
        workers: int,
        like: NDArray[np.int64],
        ratio: NDArray[np.float64],
    ) -> None:
        self.texts, self.rows, self.threshold, self.workers = texts, rows, threshold, workers
        self.like, self.ratio = like, ratio
        distinct = [texts[row] for row in rows.tolist()]
        self.length = np.zeros(len(texts), dtype=np.int64)
        self.length[rows] = [len(text) for text in distinct]
        self.counts = np.zeros((len(texts), 0), dtype=np.float32)
        if distinct:
            packed = character_counts(distinct)
            self.counts = np.zeros((len(texts), packed.shape[1]), dtype=np.float32)
            self.counts[rows] = packed

    def run(self) -> Iterator[int]:
        """Judge chunk after chunk; yield the number of texts of the file that are behind."""
        kept = np.zeros(0, dtype=np.int64)
        for begin in range(0, len(self.rows), _CHUNK):
            chunk = self.rows[begin : begin + _CHUNK]
            for mine, theirs in self._candidates(self._by_length(chunk), self._by_length(kept)):
                self._remove(*self._compare(mine, theirs))
            left = chunk[self.like[chunk] < 0]
            self._judge_within(left)
            kept = np.concatenate([kept, left[self.like[left] < 0]])
            behind = begin + _CHUNK
            yield int(self.rows[behind]) if behind < len(self.rows) else len(self.texts)

    def _remove(self, later: NDArray[np.int64], earlier: NDArray[np.int64], ratio: NDArray[np.float64]) -> None:
        """Note for each later row the first of the kept rows that it is like."""
        for row, other, value in zip(later.tolist(), earlier.tolist(), ratio.tolist(), strict=True):
            if self.like[row] < 0 or other < self.like[row]:
                self.like[row], self.ratio[row] = other, value

    def _judge_within(self, chunk: NDArray[np.int64]) -> None:
        """Judge the rows of one chunk among themselves, in file order."""
        found: dict[int, list[tuple[int, float]]] = {}
        ordered = self._by_length(chunk)
        for a, b in self._candidates(ordered, ordered, among_themselves=True):
            for row, other, value in zip(*self._compare(np.maximum(a, b), np.minimum(a, b)), strict=True):
                found.setdefault(int(row), []).append((int(other), float(value)))
        for row in sorted(found):
            like = min((pair for pair in found[row] if self.like[pair[0]] < 0), default=None)
            if like is not None:
                self.like[row], self.ratio[row] = like

    def _by_length(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return rows[np.argsort(self.length[rows], kind="stable")]

    def _candidates(
        self, rows: NDArray[np.int64], others: NDArray[np.int64], among_themselves: bool = False
    ) -> Iterator[Pairs]:
        """Yield the pairs (row, other) that the bounds do not exclude; both sides are given in the order of length.

        `among_themselves` says that both are the same rows: then each pair comes once.
        """
        lengths = self.length[others]
        # From 2 min(n, m) / (n + m) >= t follows m >= n t / (2 - t); D carries the slack for rounding.
        spare = float(edit_budget(np.ones(1), self.threshold)[0])
        reach = (1 - spare) / (1 + spare)
        for begin in range(0, len(rows), _ROWS):
            block = rows[begin : begin + _ROWS]
            low = int(np.searchsorted(lengths, np.floor(self.length[block[0]] * reach) - 1))
            high = int(np.searchsorted(lengths, np.ceil(self.length[block[-1]] / reach) + 1, side="right"))
            for start in range(begin if among_themselves else low, high, _COLUMNS):
                columns = others[start : min(start + _COLUMNS, high)]
                allowed = self._character_bounded(block, columns)
                if among_themselves:
                    allowed = np.triu(allowed, k=begin - start + 1)
                if allowed.any():
                    yield self._gram_bounded(block, columns, allowed)

    def _character_bounded(self, rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which pairs of a block their characters do not exclude, (rows, others)."""
        apart = torch.cdist(torch.from_numpy(self.counts[rows]), torch.from_numpy(self.counts[others]), p=1).numpy()
        mine, theirs = (
            # Rounded up: in float32 the sum could fall short of the whole number that the distance is.
            (edit_budget(self.length[side].astype(np.float64), self.threshold) * (1 + 1e-6)).astype(np.float32)
            for side in (rows, others)
        )
        return apart <= mine[:, None] + theirs[None, :]

    def _gram_bounded(self, rows: NDArray[np.int64], others: NDArray[np.int64], allowed: NDArray[np.bool_]) -> Pairs:
        """Exclude pairs of a block that share too few grams, where that is cheaper than to compare them."""
        keep_rows, keep_columns = np.flatnonzero(allowed.any(axis=1)), np.flatnonzero(allowed.any(axis=0))
        rows, others, allowed = rows[keep_rows], others[keep_columns], allowed[np.ix_(keep_rows, keep_columns)]
        mean = float(self.length[rows].mean())
        num_buckets = gram_buckets(mean)
        price = allowed.size * num_buckets * _PRODUCT_TERM_S
        price += (len(rows) + len(others)) * (mean * _CHARACTER_S + num_buckets * _BUCKET_S)
        if np.count_nonzero(allowed) * mean * mean * _COMPARISON_S > price:
            mine = gram_roots([self.texts[row] for row in rows.tolist()], num_buckets)
            for start in range(0, len(others), _GRAM_COLUMNS):
                part = slice(start, start + _GRAM_COLUMNS)
                shared = mine @ gram_roots([self.texts[row] for row in others[part].tolist()], num_buckets).T
                total = (self.length[rows][:, None] + self.length[others[part]][None, :]).astype(np.float64)
                allowed[:, part] &= shared >= grams_needed(total, self.threshold)
        at, to = np.nonzero(allowed)
        return rows[at], others[to]

    def _compare(
        self, mine: NDArray[np.int64], theirs: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return the pairs whose ratio reaches the threshold, and the ratio."""
        parts = []
        for begin in range(0, len(mine), _PAIRS_AT_ONCE):
            a, b = mine[begin : begin + _PAIRS_AT_ONCE], theirs[begin : begin + _PAIRS_AT_ONCE]
            scores = process.cpdist(
                [self.texts[row] for row in a.tolist()],
                [self.texts[row] for row in b.tolist()],
                scorer=fuzz.ratio,
                score_cutoff=self.threshold - 0.01,
                workers=self.workers,
            )
            near = np.flatnonzero(scores > 0)
            # The cutoff and float32 round; what the double loop would compute decides.
            exact = np.array([fuzz.ratio(self.texts[i], self.texts[j]) for i, j in zip(a[near], b[near], strict=True)])
            hit = exact >= self.threshold
            parts.append((a[near][hit], b[near][hit], exact[hit]))
        if not parts:
            return mine[:0], theirs[:0], np.zeros(0)
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))  # type: ignore[return-value]
