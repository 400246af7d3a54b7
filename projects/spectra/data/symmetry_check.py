"""Does a symmetry hold in the data? Asked before training samples are varied by it, of the train rows alone.

Two questions. Twins: where the data hold a pattern and a variant of it, do their cells agree? And, since data seldom
hold twins: does a simple model, cross-validated on the data as they are, get worse when the variants of its training
part are added? A true symmetry adds right samples. A broken one, for instance a B quadrant behind a colour filter, adds
wrong ones exactly where the held-out samples lie, and the error grows.

The model is kernel ridge regression on the low Fourier orders. It is local on purpose: where designs favour one colour,
a true symmetry adds samples far from the held-out ones, which must not count against it.

What it finds, measured on fresh stand-in patterns (32 x 32 pixels, 10 wavelengths, seeds that no threshold was set by),
refusals out of draws, with 95 % intervals of the share. "filter" is what the power in the B quadrant was multiplied by:

| patterns | symmetry | no filter | 0.95 | 0.9 | 0.8 | 0.7 |
|---|---|---|---|---|---|---|
| 60 | diagonal | 0 of 200 (0 to 1.8 %) | 0 of 200 | 0 of 200 | 136 of 200 (61 to 74 %) | 200 of 200 (98 to 100 %) |
| 60 | full | 0 of 200 (0 to 1.8 %) | 0 of 200 | 0 of 200 | 23 of 200 (7 to 17 %) | 195 of 200 (94 to 99 %) |
| 150 | diagonal | 0 of 121 (0 to 3.0 %) | 0 of 121 | 7 of 121 (2 to 12 %) | 121 of 121 (97 to 100 %) | 121 of 121 |
| 500 | rotation_180 | 0 of 5 (0 to 52 %) | 5 of 5 (48 to 100 %) | 5 of 5 | 5 of 5 | |

A weak break passes because the question is whether variants harm: with a filter of 0.9 and 60 patterns they still make
the error 21 % smaller (median, diagonal), with none 47 %. That is no proof that the symmetry holds.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from projects.spectra.data.store import unpack_bits
from projects.spectra.symmetry import GROUPS, Variant
from shared.errors import DataError

MIN_SAMPLES = 60
"""Below, the comparison says nothing."""

MAX_SAMPLES = 500
"""As many are drawn at most: the answer is clear by then and the kernel stays small."""

REFUSE_ABOVE = 0.10
"""Growth of the squared error, as a share of it, from which on a significant loss is a refusal."""

T_ABOVE = 3.5
"""t value of the paired differences from which on a loss is significant; up to three generators are asked."""

TWINS_ABOVE = 0.3
"""Median distance of twins' cells, in spreads of the cells, above which they do not agree."""

MIN_TWINS = 3

_NUM_PARTS, _HIGHEST_ORDER, _GRID = 5, 3, 16
_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
_WIDTHS = (0.5, 1.0)  # of the kernel, in median distances: a narrow one looks at near samples only

# The rest of a group follows from these: a transposition turns what is done along y into the same along x.
_GENERATORS: dict[str, tuple[str, ...]] = {
    "none": (),
    "rotation_180": ("rotation_180",),
    "diagonal": ("rotation_180", "shift_y+shift_x"),
    "full": ("flip_y", "shift_y", "transpose"),
}


@dataclass(frozen=True)
class SymmetryCheck:
    """What was measured.

    Attributes:
        verdict: "holds", or "undecidable" where there are too few samples; a broken symmetry raises.
        growth: Generator -> growth of the cross-validated squared error when variants are added; below 0 they help.
        num_samples: Samples compared.
        num_twins: Pairs of a pattern with another variant of it in the data.
        sentence: All this for the findings.
    """

    verdict: str
    growth: dict[str, float]
    num_samples: int
    num_twins: int
    sentence: str


def check_symmetry(
    bits: NDArray[np.uint8],
    target: NDArray[np.float32],
    rows: NDArray[np.int64],
    group: NDArray[np.int32],
    symmetry: str,
    *,
    seed: int = 0,
) -> SymmetryCheck:
    """Hold a symmetry group against data.

    Args:
        bits: (N, H * W / 8) packed patterns.
        target: (N, 2, 2, L) cells.
        rows: (M,) rows to look at: those of train.
        group: (N,) number of the pattern with all its variants, see `pattern_groups`.
        symmetry: Name of the group, a key of `GROUPS`.
        seed: Seed of the draw of samples and of the parts.

    Raises:
        DataError: The symmetry does not hold.
    """
    side = round((bits.shape[1] * 8) ** 0.5)
    distance, num_twins = _twin_distance(bits, target, rows, group, GROUPS[symmetry], side)
    if num_twins >= MIN_TWINS and distance > TWINS_ABOVE:
        raise DataError(
            f"data.symmetry={symmetry} does not hold in the data: {num_twins} pairs of a pattern and its variant have "
            f"cells that differ by {distance:.2f} spreads (median; allowed {TWINS_ABOVE}); use data.symmetry=none."
        )
    twins = f"; {num_twins} twins differ by {distance:.2g} spreads" if num_twins else ""
    # One of each group: a pattern and its variant, one in each part, would answer for each other.
    single = rows[np.unique(group[rows], return_index=True)[1]]
    chosen = np.random.default_rng(seed).permutation(single)[:MAX_SAMPLES]
    if len(chosen) < MIN_SAMPLES:
        sentence = (
            f"whether data.symmetry={symmetry} holds is undecidable: {len(chosen)} training patterns, "
            f"{MIN_SAMPLES} are needed{twins}"
        )
        return SymmetryCheck("undecidable", {}, len(chosen), num_twins, sentence)
    growth = _growth(unpack_bits(bits[chosen], side), np.asarray(target[chosen]), symmetry)
    _refuse_growth(growth, symmetry, len(chosen))
    worst = max(growth, key=lambda name: growth[name][0])
    sentence = (
        f"data.symmetry={symmetry} held against {len(chosen)} training patterns: its variants change the "
        f"cross-validated error of a simple model by {growth[worst][0]:+.1%} at worst ({worst}){twins}"
    )
    shares = {name: share for name, (share, _) in growth.items()}
    return SymmetryCheck("holds", shares, len(chosen), num_twins, sentence)


def _refuse_growth(growth: dict[str, tuple[float, float]], symmetry: str, num_samples: int) -> None:
    """Refuse a generator whose variants make the error both noticeably and significantly larger."""
    for name, (share, t_value) in growth.items():
        if share > REFUSE_ABOVE and t_value > T_ABOVE:
            raise DataError(
                f"data.symmetry={symmetry} does not hold in the data: adding each pattern's variant {name} to the "
                f"training part makes the cross-validated error of a simple model {share:.0%} larger "
                f"(t = {t_value:.1f}, {num_samples} patterns); use data.symmetry=none."
            )


def _twin_distance(
    bits: NDArray[np.uint8],
    target: NDArray[np.float32],
    rows: NDArray[np.int64],
    group: NDArray[np.int32],
    variants: tuple[Variant, ...],
    side: int,
) -> tuple[float, int]:
    """Return the median distance of twins' cells in spreads of the cells, and how many twins there are."""
    order = rows[np.argsort(group[rows], kind="stable")]
    again = np.flatnonzero(group[order][1:] == group[order][:-1])[:MAX_SAMPLES]
    if not len(again):
        return 0.0, 0
    sample = np.asarray(target[rows[:: max(1, len(rows) // MAX_SAMPLES)]], dtype=np.float64)
    spread = float(np.sqrt(((sample - sample.mean(axis=(0, 1, 2))) ** 2).mean())) or 1.0
    distances = []
    for one, other in zip(order[again], order[again + 1], strict=True):
        first, second = unpack_bits(bits[[one, other]], side)
        for variant in variants[1:]:
            if np.array_equal(variant.apply_to_structure(first), second):
                difference = variant.apply_to_cell(np.asarray(target[one])) - target[other]
                distances.append(float(np.sqrt((difference.astype(np.float64) ** 2).mean())) / spread)
                break
    return (float(np.median(distances)), len(distances)) if distances else (0.0, 0)


def _growth(patterns: NDArray[np.uint8], cells: NDArray[np.float32], symmetry: str) -> dict[str, tuple[float, float]]:
    """Return, for each generator, the growth of the squared error as a share of it, and the growth's t value."""
    features, curves = _features(patterns), cells.reshape(len(cells), -1).astype(np.float64)
    part = np.arange(len(patterns)) % _NUM_PARTS  # the rows come in random order
    scale = _median_distance(features)
    plain = _held_out_errors(features, curves, features[:0], curves[:0], part, scale)
    growth = {}
    for name in _GENERATORS[symmetry]:
        variant = next(each for each in GROUPS["full"] if each.name == name)
        turned = variant.apply_to_cell(cells).reshape(len(cells), -1).astype(np.float64)
        more = _held_out_errors(features, curves, _features(variant.apply_to_structure(patterns)), turned, part, scale)
        difference = more - plain
        error = float(difference.std(ddof=1)) / np.sqrt(len(difference))
        # A variant that changes nothing, as the transposition of a symmetric pattern, has no differences at all.
        t_value = float(difference.mean()) / error if error > 0 else 0.0
        growth[name] = (float(difference.mean() / plain.mean()) if plain.mean() > 0 else 0.0, t_value)
    return growth


def _features(patterns: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the Fourier orders up to 3 of block averages, (N, 98), so that distances are those of blurred patterns."""
    num, side, _ = patterns.shape
    block = side // _GRID
    coarse = patterns.reshape(num, _GRID, block, _GRID, block).mean(axis=(2, 4))
    orders = np.arange(-_HIGHEST_ORDER, _HIGHEST_ORDER + 1)
    picked = np.fft.fft2(coarse)[:, orders][:, :, orders].reshape(num, -1) / _GRID**2
    return np.concatenate([picked.real, picked.imag], axis=1)


def _held_out_errors(
    features: NDArray[np.float64],
    curves: NDArray[np.float64],
    more_features: NDArray[np.float64],
    more_curves: NDArray[np.float64],
    part: NDArray[Any],
    scale: float,
) -> NDArray[np.float64]:
    """Return the mean squared error of each sample, (N,), by models that saw neither it nor its variant."""
    settings = [(width * scale, penalty) for width in _WIDTHS for penalty in _PENALTIES]
    errors = np.full((len(settings), len(features)), np.nan)
    for number in range(_NUM_PARTS):
        fit, test = part != number, part == number
        more = fit if len(more_features) else np.zeros(0, dtype=np.bool_)
        x = np.concatenate([features[fit], more_features[more]])
        y = np.concatenate([curves[fit], more_curves[more]])
        mean = y.mean(axis=0)
        inside, across = _squared_distances(x, x), _squared_distances(features[test], x)
        for row, (width, penalty) in enumerate(settings):
            kernel = np.exp(-inside / (2 * width**2)) + penalty * np.eye(len(x))
            weights = cho_solve(cho_factor(kernel, overwrite_a=True), y - mean)
            predicted = mean + np.exp(-across / (2 * width**2)) @ weights
            errors[row, test] = ((predicted - curves[test]) ** 2).mean(axis=1)
    # Each of the two models may choose its own setting: twice the samples ask for another one.
    best: NDArray[np.float64] = errors[int(errors.mean(axis=1).argmin())]
    return best


def _squared_distances(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    squared: NDArray[np.float64] = (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * one @ other.T
    return np.maximum(squared, 0.0)


def _median_distance(features: NDArray[np.float64]) -> float:
    some = features[:200]
    distance = np.sqrt(((some[:, None] - some) ** 2).sum(axis=2))
    return float(np.median(distance[np.triu_indices(len(some), 1)])) or 1.0
