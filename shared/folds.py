"""The five folds of every data set and what each may be used for.

The table is the one of the contracts: a fold serves the purposes listed beside it and no other, so that a number on
`test` was never chosen, accepted or calibrated on the samples it is measured on.
"""

from collections.abc import Mapping
from types import MappingProxyType

from shared.errors import LeakError

FOLDS: tuple[str, ...] = ("train", "val", "accept", "calibrate", "test")
"""Fold names; the fold code in arrays (int8) is the position in this tuple."""

PURPOSES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "train": frozenset({"fit", "batch_norm"}),
        "val": frozenset({"validate", "select"}),
        "accept": frozenset({"accept", "threshold", "stack"}),
        "calibrate": frozenset({"calibrate"}),
        "test": frozenset({"test"}),
    }
)
"""Which purposes a fold may serve."""


def require_purpose(fold: str, purpose: str) -> None:
    """Refuse a use of a fold that the contract does not list.

    Args:
        fold: Name of the fold that is to be opened.
        purpose: What it is to be opened for.

    Raises:
        LeakError: The fold is unknown, or it may not serve this purpose.
    """
    if fold not in PURPOSES:
        raise LeakError(f"fold {fold!r} does not exist; the folds are {', '.join(FOLDS)}.")
    allowed = PURPOSES[fold]
    if purpose not in allowed:
        owners = [name for name in FOLDS if purpose in PURPOSES[name]]
        hint = f"; {purpose!r} is what fold {owners[0]!r} is for" if owners else ""
        raise LeakError(
            f"fold {fold!r} may not be used for {purpose!r}; it may serve {', '.join(sorted(allowed))} only{hint}."
        )
