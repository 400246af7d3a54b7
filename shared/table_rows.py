"""The rows of the table that are networks, in its order; every other row is a baseline."""

import re
from collections.abc import Iterable

SWEET_SPOT, ENSEMBLE = "sweet_spot", "delta_ensemble"
BEFORE_VARIANTS = ("last", "best_single", "ema", "uniform_soup", "greedy_soup", "lawa", SWEET_SPOT)
BEHIND_VARIANTS = (ENSEMBLE, "crossover", "final")

_VARIANT = re.compile(r"delta_([+-][1-9]\d*)")


def variant_row(shift: int) -> str:
    """Name of the row of the sweet spots shifted by so many epochs.

    Raises:
        ValueError: If the shift is 0.

    Example:
        >>> variant_row(-4), variant_row(2)
        ('delta_-4', 'delta_+2')
    """
    if shift == 0:
        raise ValueError(f"shift is 0; the sweet spots themselves are the row {SWEET_SPOT}")
    return f"delta_{shift:+d}"


def members_of_ensemble(names: Iterable[str]) -> list[str]:
    """The rows whose predictions the ensemble averages: the sweet spots and their shifts, of those among `names`."""
    return [name for name in model_rows(names) if name == SWEET_SPOT or _VARIANT.fullmatch(name)]


def model_rows(names: Iterable[str]) -> list[str]:
    """Those of the names that are networks, in the order of the table.

    Example:
        >>> model_rows(["final", "delta_+2", "image_only", "sweet_spot", "delta_-4", "last"])
        ['last', 'sweet_spot', 'delta_-4', 'delta_+2', 'final']
    """
    known = list(names)
    shifts = sorted(int(match.group(1)) for name in known if (match := _VARIANT.fullmatch(name)))
    order = [*BEFORE_VARIANTS, *(variant_row(shift) for shift in shifts), *BEHIND_VARIANTS]
    return [name for name in order if name in known]
