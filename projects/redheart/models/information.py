"""Information between Gaussian variables, and its decomposition into redundant, unique and synergistic shares."""

import torch
from torch import Tensor

SOURCES = 3
SUBSETS = 2**SOURCES - 1
SHARES: tuple[str, ...] = (
    "redundant_012", "redundant_01", "redundant_02", "redundant_12", "unique_0", "unique_1", "unique_2",
    "synergistic_01", "synergistic_02", "synergistic_12", "synergistic_012",
)  # fmt: skip
"""What `decompose` returns, by the numbers of the sources."""

_SINGLES, _PAIRS, _ALL = [0, 1, 3], [2, 4, 5], 6
"""Where subsets of one, two and three sources stand: subset with code c (bit i: source i) at c - 1."""


def gaussian_information(factors: Tensor) -> Tensor:
    """Mutual information of a target with each subset of three sources, all jointly Gaussian.

    The variables are factors @ z + noise with standard normal z and unit noise, so the covariance of a subset A is
    F_A F_A' + 1, and by the determinant lemma its log determinant is that of 1 + the sum of F_i' F_i over A:
    I(T; A) = (log det A + log det T - log det (A, T)) / 2.

    Args:
        factors: (B, 4, K, M) float32: K numbers of each source and, last, of the target, on M common directions.

    Returns:
        (B, 7) nats, not negative; the subset with code c (bit i: source i is in it) stands at c - 1.
    """
    grams = torch.einsum("bikm,bikn->bimn", factors, factors)
    codes = torch.arange(1, 2 ** (SOURCES + 1), device=factors.device)
    member = (codes[:, None] >> torch.arange(SOURCES + 1, device=factors.device)) & 1
    sums = torch.einsum("ci,bimn->bcmn", member.to(grams.dtype), grams)
    sums = sums + torch.eye(factors.shape[-1], dtype=grams.dtype, device=grams.device)
    diagonal = torch.linalg.cholesky(sums).diagonal(dim1=-2, dim2=-1)
    half = diagonal.log().sum(dim=-1)
    # Codes 1 to 7: sources alone; 8: the target alone; 9 to 15: the same sources with the target.
    return (half[:, :SUBSETS] + half[:, SUBSETS, None] - half[:, SUBSETS + 1 :]).clamp(min=0)


def decompose(information: Tensor) -> Tensor:
    """Shares of the information that three sources carry about a target.

    The procedure of Martinez-Sanchez, Arranz and Lozano-Duran, "Decomposing causality into its synergistic, unique, and
    redundant components" (Nature Communications 2024): single sources sorted by their information give redundancies and
    one unique share as successive increments; what pairs, and then all three, add to the greatest of the order below
    is synergy. They sort the specific information of each state of the target and average; we decompose the mutual
    information itself, for which Barrett (Physical Review E 91, 052802, 2015) shows that the redundancy of Gaussian
    sources is the smaller of their informations, as here.

    Args:
        information: (B, 7) nats, see `gaussian_information`.

    Returns:
        (B, 11) nats in the order of SHARES, not negative, summing to the information of all three sources.
    """
    single, order = information[:, _SINGLES].sort(dim=1)
    greatest = single[:, 2:]
    # The pair without source i stands at 2 - i of (01, 02, 12).
    redundant = _placed(single[:, 1:2] - single[:, :1], 2 - order[:, :1])
    unique = _placed(greatest - single[:, 1:2], order[:, 2:])
    pairs, pair_order = torch.maximum(information[:, _PAIRS], greatest).sort(dim=1)
    added = torch.diff(pairs, dim=1, prepend=greatest)
    synergy = torch.zeros_like(added).scatter(1, pair_order, added)
    joint = (information[:, _ALL : _ALL + 1] - pairs[:, 2:]).clamp(min=0)
    return torch.cat([single[:, :1], redundant, unique, synergy, joint], dim=1)


def _placed(value: Tensor, index: Tensor) -> Tensor:
    """(B, 1) values at (B, 1) places of rows of three, 0 elsewhere."""
    return torch.zeros(len(value), SOURCES, dtype=value.dtype, device=value.device).scatter(1, index, value)
