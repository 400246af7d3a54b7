"""Corrections for rare classes: class weights and sampling probabilities, and a word when they are stacked."""

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataError


def inverse_frequency_weights(label: NDArray[np.integer], num_classes: int) -> NDArray[np.float64]:
    """Return (K,) weights N / (K·n_k); their mean over the samples is 1, so the loss keeps its scale.

    Args:
        label: (N,) class codes of the train fold only.
        num_classes: K.

    Raises:
        DataError: If a class has no sample.

    Example:
        >>> inverse_frequency_weights(np.array([0, 0, 0, 1]), 2).round(4).tolist()
        [0.6667, 2.0]
    """
    counts = _counts(label, num_classes)
    weights: NDArray[np.float64] = counts.sum() / (num_classes * counts)
    return weights


def effective_number_weights(label: NDArray[np.integer], num_classes: int, beta: float = 0.999) -> NDArray[np.float64]:
    """Return (K,) weights proportional to (1 - beta) / (1 - beta^n_k), scaled to mean 1 over the samples.

    Milder than the inverse frequency: samples beyond about 1 / (1 - beta) of a class count less and less. beta 0
    weighs all classes alike.

    Args:
        label: (N,) class codes of the train fold only.
        num_classes: K.
        beta: In [0, 1).

    Raises:
        DataError: If a class has no sample.
        ValueError: If beta is outside its range.

    Source: Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, equation 2; there the
        weights sum to K, which changes the loss's scale with the imbalance.
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta is {beta}, allowed: 0 up to, but not, 1")
    counts = _counts(label, num_classes)
    # expm1: for beta close to 1 and few samples the plain 1 - beta^n loses its digits.
    raw = np.ones_like(counts) if beta == 0 else (1 - beta) / -np.expm1(counts * np.log(beta))
    weights: NDArray[np.float64] = raw * (counts.sum() / (raw * counts).sum())
    return weights


def sampling_probabilities(
    label: NDArray[np.integer], num_classes: int, group: NDArray[np.integer] | None = None
) -> NDArray[np.float64]:
    """Return the probability of drawing each sample so that all classes come up equally often.

    With `group`, the groups of a class come up equally often as well: a battery with 400 slices is one battery, not
    400 witnesses.

    Args:
        label: (N,) class codes of the train fold only.
        num_classes: K.
        group: (N,) group codes, or None to treat the samples of a class alike.

    Returns:
        (N,) float64, sums to 1.

    Raises:
        DataError: If a class has no sample or the lengths differ.
    """
    counts = _counts(label, num_classes)
    if group is None:
        return np.asarray(1.0 / (num_classes * counts[label]), np.float64)
    if len(group) != len(label):
        raise DataError(f"sampling: {len(label)} labels and {len(group)} groups, allowed: one group a sample")
    pairs = np.stack([np.asarray(label, np.int64), np.asarray(group, np.int64)])  # (2, N)
    (pair_class, _), cell, cell_size = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
    groups_per_class = np.bincount(pair_class, minlength=num_classes)
    return np.asarray(1.0 / (num_classes * groups_per_class[label] * cell_size[cell.reshape(-1)]), np.float64)


def correction_warning(sampler: bool, class_weights: bool, smoothing: bool) -> str | None:
    """Return one sentence when more than one correction for rare classes is on, else None.

    Args:
        sampler: The weighted sampler is on.
        class_weights: The loss has class weights (alpha).
        smoothing: The loss smooths its labels.
    """
    switches = {"the weighted sampler": sampler, "class weights (alpha)": class_weights, "label smoothing": smoothing}
    active = [name for name, on in switches.items() if on]
    if len(active) < 2:
        return None
    listed = ", ".join(active[:-1]) + " and " + active[-1]
    return (
        f"{listed} are on together: each one lifts the rare classes or softens the labels, together they can "
        f"over-correct, so compare with one of them alone."
    )


def _counts(label: NDArray[np.integer], num_classes: int) -> NDArray[np.float64]:
    """Return (K,) sample counts, all above 0."""
    label = np.asarray(label)
    if label.size and (label.min() < 0 or label.max() >= num_classes):
        raise DataError(f"labels are {label.min()}..{label.max()}, allowed: 0..{num_classes - 1}")
    counts = np.bincount(label, minlength=num_classes)
    if (counts == 0).any():
        absent = ", ".join(str(k) for k in np.flatnonzero(counts == 0))
        raise DataError(f"class {absent} has no sample in the train fold; each class needs at least one")
    return counts.astype(np.float64)
