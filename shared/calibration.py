"""How far stated probabilities are from what happens: exact calibration error, Brier score, likelihood, diagram bins.

All functions take either of two forms:

- `probs` (N, C) with rows that sum to 1 and `target` (N,) class indices. The confidence is the row's largest value, and
  it is a hit if the first class that reaches it is the target (top-label calibration).
- `probs` (N,), the probability stated for one event, and `target` (N,) in {0, 1}, whether it happened. With p(y = 1)
  this measures the calibration of that probability, over the whole range 0 to 1; with confidences and hits it is the
  same as the first form.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

ROW_SUM_TOLERANCE = 1e-3  # float16 softmax is off by up to about this much
PROBABILITY_FLOOR = float(np.finfo(np.float64).eps)  # 2.2e-16, as in sklearn's log_loss: one sample costs at most 36.04


@dataclass(frozen=True)
class ReliabilityBins:
    """The columns of a reliability diagram, each array of length num_bins unless said otherwise.

    Attributes:
        edges: (num_bins + 1,) from 0 to 1.
        count: Samples in the bin.
        confidence: Their mean confidence, NaN in an empty bin.
        accuracy: Their share of hits, NaN in an empty bin.
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def bin_edges(num_bins: int) -> NDArray[np.float64]:
    """Edges k / num_bins, each the double nearest to it, so that a confidence written as 0.3 lies on the edge 3/10.

    Raises:
        ValueError: If num_bins < 1.
    """
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins}; at least 1 is needed")
    return np.arange(num_bins + 1) / num_bins


def bin_index(confidence: NDArray[np.float64], num_bins: int) -> NDArray[np.int64]:
    """The equal-width bin of each confidence: [k/B, (k+1)/B), and the last bin closed so that 1.0 belongs to it.

    Args:
        confidence: (N,) in [0, 1].
        num_bins: B.

    Returns:
        (N,) in [0, B - 1].

    Example:
        >>> bin_index(np.array([0.0, 0.3, 0.95, 1.0]), 10).tolist()
        [0, 3, 9, 9]
    """
    inner = bin_edges(num_bins)[1:-1]  # without the outer edges nothing can fall outside
    return np.searchsorted(inner, confidence, side="right").astype(np.int64)


def equal_mass_index(confidence: NDArray[np.float64], num_bins: int) -> NDArray[np.int64]:
    """The equal-mass bin of each confidence: of N sorted samples the first N/B are in bin 0, the next N/B in bin 1.

    Equal confidences share the bin of their mean rank, so the order of the samples does not matter; with many of them
    the bins hold about, not exactly, equally many, and some may be empty.

    Args:
        confidence: (N,) in [0, 1].
        num_bins: B.

    Returns:
        (N,) in [0, B - 1].

    Raises:
        ValueError: If num_bins < 1.

    Example:
        >>> equal_mass_index(np.array([0.9, 0.2, 0.3, 0.4]), 2).tolist()
        [1, 0, 0, 1]
        >>> equal_mass_index(np.array([1.0, 1.0, 1.0, 0.2]), 2).tolist()
        [1, 1, 1, 0]
    """
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins}; at least 1 is needed")
    _, place, count = np.unique(confidence, return_inverse=True, return_counts=True)
    twice_mean_rank = 2 * np.cumsum(count) - count - 1  # ranks from 0; doubled, so that halves stay whole numbers
    return np.asarray(twice_mean_rank * num_bins // (2 * len(confidence)), dtype=np.int64)[place]


def expected_calibration_error(probs: ArrayLike, target: ArrayLike, num_bins: int = 15) -> float:
    """Mean distance between confidence and hit rate over equal-width bins, weighted by the bins' counts; in [0, 1].

    ECE = sum over bins of n_b / N * |hit rate_b - mean confidence_b|, empty bins adding nothing.

    Args:
        probs: (N, C) probabilities or (N,) event probabilities, see the module's text.
        target: (N,) class indices, or {0, 1}.
        num_bins: Bins over [0, 1].

    Raises:
        ValueError: If `probs` are no probabilities (logits, NaN) or `target` is out of range.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3. There bins are closed above,
    here below, as in torchmetrics; unlike in torchmetrics 1.9 a confidence of exactly 1.0 is in the last bin, not in
    one of its own behind it.

    Example:
        >>> round(expected_calibration_error([0.95, 1.0], [1, 0], num_bins=10), 12)
        0.475
    """
    bins = reliability_bins(probs, target, num_bins)
    filled = bins.count > 0
    gap = np.abs(bins.accuracy[filled] - bins.confidence[filled])
    return float(np.sum(bins.count[filled] * gap) / bins.count.sum())


def classwise_calibration_error(probs: ArrayLike, target: ArrayLike, num_bins: int = 15) -> float:
    """Mean over classes of the calibration error of the class's own probability, over equal-width bins; in [0, 1].

    cw-ECE = 1/C * sum over classes and bins of n_bc / N * |share of class c in the bin - mean p_c in the bin|. Unlike
    the error of the top label it sees a probability that is wrong in a class that is never the most likely one. With C
    classes most of p_c is near 0, so values are small: compare them only at equal C.

    For the (N,) form, one event, it is the event's own, the same as `expected_calibration_error`.

    Args:
        probs: As in `expected_calibration_error`.
        target: As in `expected_calibration_error`.
        num_bins: Bins over [0, 1].

    Raises:
        ValueError: As in `expected_calibration_error`.

    Source: Kull et al., "Beyond temperature scaling", NeurIPS 2019, section 2; bins as in `bin_index`.

    Example:
        >>> round(classwise_calibration_error([[0.6, 0.4], [0.6, 0.4]], [0, 0], num_bins=10), 12)
        0.4
    """
    if np.ndim(probs) == 1:
        return expected_calibration_error(probs, target, num_bins)
    checked, classes = check_probabilities(probs, target)
    errors = [
        _binned_gap(stated, classes == code, bin_index(stated, num_bins), num_bins)
        for code, stated in enumerate(np.minimum(checked, 1.0).T)
    ]
    return float(np.mean(errors))


def adaptive_calibration_error(probs: ArrayLike, target: ArrayLike, num_bins: int = 15) -> float:
    """Mean distance between confidence and hit rate of the top label over equal-mass bins; in [0, 1].

    As `expected_calibration_error`, with bins that hold equally many samples (`equal_mass_index`), so that none is
    nearly empty where a network is mostly sure.

    Args:
        probs: As in `expected_calibration_error`.
        target: As in `expected_calibration_error`.
        num_bins: Bins of about N / num_bins samples.

    Raises:
        ValueError: As in `expected_calibration_error`.

    Source: Nguyen and O'Connor, "Posterior calibration and exploratory analysis for natural language processing
    models", EMNLP 2015, section 2.2; there the bins' size is fixed, here their number. Nixon et al. (CVPR workshops
    2019) give the name adaptive to the mean over classes of the same.

    Example:
        >>> round(adaptive_calibration_error([0.5, 0.6, 0.7, 1.0], [0, 1, 1, 1], num_bins=2), 12)
        0.1
    """
    confidence, hit = confidence_and_hit(probs, target)
    return _binned_gap(confidence, hit, equal_mass_index(confidence, num_bins), num_bins)


def _binned_gap(
    stated: NDArray[np.float64], happened: NDArray[np.generic], index: NDArray[np.int64], num_bins: int
) -> float:
    """Sum over bins of |sum of what happened - sum of what was stated| / N."""
    difference = happened.astype(np.float64) - stated
    return float(np.abs(np.bincount(index, weights=difference, minlength=num_bins)).sum() / len(stated))


def reliability_bins(probs: ArrayLike, target: ArrayLike, num_bins: int = 15) -> ReliabilityBins:
    """Count, mean confidence and hit rate per bin, for a reliability diagram.

    Args:
        probs: As in `expected_calibration_error`.
        target: As in `expected_calibration_error`.
        num_bins: Bins over [0, 1].

    Raises:
        ValueError: As in `expected_calibration_error`.
    """
    confidence, hit = confidence_and_hit(probs, target)
    index = bin_index(confidence, num_bins)
    count = np.bincount(index, minlength=num_bins)
    per_sample = 1.0 / np.where(count > 0, count, np.nan)  # NaN, not 0, where there is nothing to average
    return ReliabilityBins(
        edges=bin_edges(num_bins),
        count=count.astype(np.int64),
        confidence=np.bincount(index, weights=confidence, minlength=num_bins) * per_sample,
        accuracy=np.bincount(index, weights=hit, minlength=num_bins) * per_sample,
    )


def brier_score(probs: ArrayLike, target: ArrayLike) -> float:
    """Mean squared distance between probabilities and what happened.

    For (N, C) summed over the classes, in [0, 2] as Brier defined it; for (N,) of the one event, in [0, 1], which is
    half of what the same forecast gets as two columns.

    Args:
        probs: As in `expected_calibration_error`.
        target: As in `expected_calibration_error`.

    Raises:
        ValueError: As in `expected_calibration_error`.

    Source: Brier, "Verification of forecasts expressed in terms of probability", Mon. Weather Rev. 78 (1950), eq. 2.
    """
    if np.ndim(probs) == 1:
        event, happened = check_event_probabilities(probs, target)
        return float(np.mean((event - happened) ** 2))
    return float(sample_brier(*check_probabilities(probs, target)).mean())


def negative_log_likelihood(probs: ArrayLike, target: ArrayLike) -> float:
    """Mean of -log p(target) in nats, p cut from below at 2.2e-16 so that one impossible sample costs 36, not infinity.

    Args:
        probs: As in `expected_calibration_error`.
        target: As in `expected_calibration_error`.

    Raises:
        ValueError: As in `expected_calibration_error`.
    """
    if np.ndim(probs) == 1:
        event, happened = check_event_probabilities(probs, target)
        return float(sample_nll(np.stack([1.0 - event, event], axis=1), happened.astype(np.int64)).mean())
    return float(sample_nll(*check_probabilities(probs, target)).mean())


def sample_brier(probs: NDArray[np.float64], target: NDArray[np.int64]) -> NDArray[np.float64]:
    """Brier score of each sample (N,), in [0, 2], for checked (N, C) input."""
    happened = np.eye(probs.shape[1])[target]
    return np.asarray(np.sum((probs - happened) ** 2, axis=1))


def sample_nll(probs: NDArray[np.float64], target: NDArray[np.int64]) -> NDArray[np.float64]:
    """-log p(target) of each sample (N,), in nats, at most 36.04, for checked (N, C) input."""
    stated = probs[np.arange(len(target)), target]
    return np.asarray(-np.log(np.clip(stated, PROBABILITY_FLOOR, 1.0)))


def confidence_and_hit(probs: ArrayLike, target: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Confidence (N,) in [0, 1] and hit (N,) in {0.0, 1.0} of either input form.

    Raises:
        ValueError: As in `expected_calibration_error`.
    """
    if np.ndim(probs) == 1:
        return check_event_probabilities(probs, target)
    checked, classes = check_probabilities(probs, target)
    return np.minimum(checked.max(axis=1), 1.0), (checked.argmax(axis=1) == classes).astype(np.float64)


def check_probabilities(probs: ArrayLike, target: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The input as (N, C) float64 and (N,) int64, if it is what it claims to be.

    Raises:
        ValueError: If shapes do not match, N = 0, C < 2, a value is not finite, rows do not sum to 1 (logits), or a
            target is no class index.
    """
    values = np.asarray(probs, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] < 1 or values.shape[1] < 2:
        raise ValueError(f"probs has shape {values.shape}; (N, C) with N >= 1 and C >= 2 is needed")
    if not np.isfinite(values).all():
        bad = int(np.sum(~np.isfinite(values).all(axis=1)))
        raise ValueError(f"probs is not finite in {bad} of {len(values)} rows")
    sums = values.sum(axis=1)
    wrong = (np.abs(sums - 1.0) > ROW_SUM_TOLERANCE) | (values.min(axis=1) < 0.0)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"probs must be probabilities (rows sum to 1, nothing negative): row {row} sums to {sums[row]:.4g}, "
            f"its smallest value is {values[row].min():.4g}; if these are logits, apply softmax first"
        )
    return values, _check_target(target, len(values), values.shape[1])


def check_event_probabilities(probs: ArrayLike, target: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The input as two (N,) float64 arrays, probabilities in [0, 1] and outcomes in {0.0, 1.0}.

    Raises:
        ValueError: If a probability lies outside [0, 1] or is not finite, or an outcome is neither 0 nor 1.
    """
    values = np.asarray(probs, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"probs has shape {values.shape}; (N,) with N >= 1 is needed")
    wrong = ~((values >= 0.0) & (values <= 1.0 + 1e-6))  # written so that NaN is wrong too
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"probs must lie in [0, 1], row {row} is {values[row]:.4g}; if these are logits, apply sigmoid"
        )
    return np.minimum(values, 1.0), _check_target(target, len(values), 2).astype(np.float64)


def _check_target(target: ArrayLike, num_samples: int, num_classes: int) -> NDArray[np.int64]:
    codes = np.asarray(target)
    if codes.shape != (num_samples,):
        raise ValueError(f"target has shape {codes.shape}; ({num_samples},) is needed, one entry per row of probs")
    if codes.dtype.kind not in "biu":
        raise ValueError(f"target has dtype {codes.dtype}; integers in [0, {num_classes - 1}] are needed")
    codes = codes.astype(np.int64)
    if codes.min() < 0 or codes.max() >= num_classes:
        raise ValueError(f"target holds {codes.min()} to {codes.max()}; allowed are 0 to {num_classes - 1}")
    return codes
