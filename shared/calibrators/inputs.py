"""The samples that a calibrator is fitted on, checked for what would make a fit meaningless without any error."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.errors import DataError

_SUM_TOLERANCE = 1e-3  # float16 softmax is off by up to about this much


@dataclass(frozen=True)
class CalibrationPart:
    """N samples with their logits.

    Attributes:
        logits: (N, C) float64 on the CPU.
        target: (N,) int64 in [0, C).
        group: (N,) int64 in [0, G), by ascending given code.
        domain: (N,) int64 in [-1, D), -1 where unknown.
        domain_names: D names.
    """

    logits: Tensor
    target: Tensor
    group: Tensor
    domain: Tensor
    domain_names: tuple[str, ...]

    @property
    def num_groups(self) -> int:
        """G, the number of independent groups."""
        return int(self.group.max()) + 1


def check_part(
    logits: Tensor,
    target: Tensor,
    group: NDArray[np.integer],
    domain: NDArray[np.integer] | None = None,
    domain_names: Sequence[str] = (),
) -> CalibrationPart:
    """The samples in double precision, if a calibrator can be fitted on them.

    Args:
        logits: (N, C), C >= 2, any floating dtype and device.
        target: (N,) class indices.
        group: (N,) integer codes, any values.
        domain: (N,) codes into `domain_names`, -1 where unknown; None: all unknown.
        domain_names: Names of the domains.

    Raises:
        ValueError: If shapes or dtypes do not fit together.
        DataError: If logits are not finite or are probabilities, or a target or domain code is out of range.
    """
    if logits.ndim != 2 or logits.shape[0] < 1 or logits.shape[1] < 2 or not logits.is_floating_point():
        raise ValueError(
            f"logits have shape {tuple(logits.shape)} and dtype {logits.dtype}; "
            "floating point of shape (N, C) with N >= 1 and C >= 2 is needed"
        )
    values = logits.detach().to("cpu", torch.float64)
    rows = len(values)
    codes = np.full(rows, -1) if domain is None else np.asarray(domain)
    columns = {"target": np.asarray(target.detach().cpu()), "group": np.asarray(group), "domain": codes}
    for name, column in columns.items():
        if column.shape != (rows,) or column.dtype.kind not in "iu":
            raise ValueError(
                f"{name} has shape {column.shape} and dtype {column.dtype}; integers of shape ({rows},) are needed"
            )
    _check_values(values)
    _check_range("target", columns["target"], 0, values.shape[1])
    _check_range("domain", codes, -1, len(domain_names))
    dense = np.unique(columns["group"], return_inverse=True)[1]
    target_codes, group_codes, domain_codes = (
        torch.from_numpy(column.astype(np.int64)) for column in (columns["target"], dense, codes)
    )
    return CalibrationPart(values, target_codes, group_codes, domain_codes, tuple(domain_names))


def _check_values(logits: Tensor) -> None:
    """Refuse what is not finite, and probabilities."""
    bad = int((~torch.isfinite(logits).all(dim=1)).sum())
    if bad:
        raise DataError(f"calibrate part: logits are not finite (NaN or infinity) in {bad} of {len(logits)} rows")
    sums = logits.sum(dim=1)
    if bool(((sums - 1.0).abs() <= _SUM_TOLERANCE).all()) and bool((logits >= 0).all()):
        raise DataError(
            f"calibrate part: logits look like probabilities (all {len(logits)} rows sum to 1 and nothing is "
            "negative); pass what stands before the softmax, or its logarithm"
        )


def _check_range(name: str, codes: NDArray[np.integer], lowest: int, end: int) -> None:
    if codes.min() < lowest or codes.max() >= end:
        raise DataError(
            f"calibrate part: {name} holds {codes.min()} to {codes.max()}; allowed are {lowest} to {end - 1}"
        )
