"""When two sets of swept values are the same point: 1e-4, 0.0001 and the text "1e-4" are one number."""

import hashlib
import itertools
import json
import math
import numbers
import re
from collections.abc import Mapping, Sequence, Set
from pathlib import PurePath
from typing import Any

ID_DIGITS = 12
_CELL = 1e-5  # of a natural logarithm: ten times the tolerance of `same_number`
EXACT_INTEGERS = 2**53
"""Below this a float that is whole is that integer; above it floats skip integers."""

# What Hydra's grammar of overrides reads as a number. Its nan and inf stay text here, since "inf" also names a norm.
_INTEGER = re.compile(r"[+-]?(0|[1-9](_?[0-9])*)")
_FLOAT = re.compile(
    r"[+-]?(((0|[1-9](_?[0-9])*)\.([0-9](_?[0-9])*)?|\.[0-9](_?[0-9])*)([eE][+-]?[0-9](_?[0-9])*)?"
    r"|(0|[1-9](_?[0-9])*)[eE][+-]?[0-9](_?[0-9])*)"
)


def canonical_value(value: Any) -> Any:
    """One form for all ways to write a value, made of what JSON has.

    Args:
        value: A truth value, None, number, text, path, or mapping or sequence of such. Text that Hydra reads as a
            number is that number. Floats keep 12 significant digits, so that the last bit of a logarithm, which
            differs between libraries, makes no new point; whole floats become integers. Integers are exact.

    Raises:
        ValueError: NaN, an infinity, or a type that has no such form.

    Example:
        >>> canonical_value({"lr": "1e-4", "sizes": (5.0, True)})
        {'lr': 0.0001, 'sizes': [5, True]}
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _read_text(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return _canonical_float(float(value))
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): canonical_value(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [canonical_value(part) for part in value]
    if callable(item := getattr(value, "item", None)) and not isinstance(value, Set) and getattr(value, "ndim", 1) == 0:
        return canonical_value(item())  # numpy's truth values are neither bool nor number
    raise ValueError(
        f"{value!r} of type {type(value).__name__} cannot be swept; allowed are truth values, null, finite numbers, "
        "text, and lists and mappings of these."
    )


def point_id(values: Mapping[str, Any], generation: int) -> str:
    """Name of a point: 12 hex digits that depend on the canonical values and the generation only.

    Args:
        values: Swept keys and their values, in any order.
        generation: Of code and data, from 0; the same values are another point in another generation.

    Raises:
        ValueError: A negative generation, or as for `canonical_value`.
    """
    if generation < 0:
        raise ValueError(f"generation must be at least 0, found {generation}.")
    content = json.dumps([generation, canonical_value(values)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode("ascii")).hexdigest()[:ID_DIGITS]


def same_number(a: float, b: float, rel: float = 1e-6) -> bool:
    """Whether two numbers are the same point of an axis: integers exactly, others within `rel` in log space.

    Args:
        a: A finite number.
        b: Another.
        rel: Greatest |ln |a| - ln |b||; the signs must agree, and 0 is only 0.

    Example:
        >>> same_number(1e-4, 1.0000001e-4), same_number(1e-4, 1.1e-4), same_number(1_000_000, 1_000_001)
        (True, False, False)
    """
    a, b = canonical_value(a), canonical_value(b)
    if a == b:
        return True
    if (isinstance(a, int) and isinstance(b, int)) or a == 0 or b == 0 or (a < 0) != (b < 0):
        return False
    return abs(math.log(abs(a)) - math.log(abs(b))) <= rel


def same_values(a: Any, b: Any) -> bool:
    """Whether two sets of values are one point: same keys, numbers by `same_number`, the rest canonically equal.

    Example:
        >>> same_values({"lr": "1e-4", "net": "a"}, {"net": "a", "lr": 0.0001})
        True
    """
    return _same(canonical_value(a), canonical_value(b))


class ValueIndex:
    """Sets of values that are asked for by `same_values`, at a cost that does not grow with their number."""

    def __init__(self) -> None:
        self._cells: dict[str, list[Any]] = {}

    def add(self, values: Mapping[str, Any]) -> None:
        """Keep a set of values."""
        canonical = canonical_value(values)
        first = next(iter(_cells(canonical)))
        self._cells.setdefault(first, []).append(canonical)

    def __contains__(self, values: Mapping[str, Any]) -> bool:
        canonical = canonical_value(values)
        return any(_same(canonical, known) for cell in _cells(canonical) for known in self._cells.get(cell, ()))


def _cells(canonical: Any) -> list[str]:
    """Cells of the grid in which the same values may lie: its own first, then those whose edge is near."""
    if isinstance(canonical, dict):
        parts = [[f"{key!r}:{cell}" for cell in _cells(value)] for key, value in sorted(canonical.items())]
        return ["{" + ",".join(choice) + "}" for choice in itertools.product(*parts)]
    if isinstance(canonical, list):
        return ["[" + ",".join(choice) + "]" for choice in itertools.product(*map(_cells, canonical))]
    if not _is_number(canonical) or canonical == 0:
        return [repr(canonical)]
    sign, place = ("-" if canonical < 0 else "+"), math.log(abs(canonical)) / _CELL
    near = [f"{sign}{cell}" for cell in dict.fromkeys(map(math.floor, (place, place - 0.2, place + 0.2)))]
    # Integers have cells of their own, or all of 10,000 large seeds would lie in one.
    return [f"i{canonical}", *near] if isinstance(canonical, int) else [*near, f"i{round(canonical)}"]


def _same(a: Any, b: Any) -> bool:
    """Compare canonical values."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_same(*pair) for pair in zip(a, b, strict=True))
    if _is_number(a) and _is_number(b):
        return same_number(a, b)
    return type(a) is type(b) and bool(a == b)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read_text(text: str) -> Any:
    """Text that Hydra would read as a number becomes it."""
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return _canonical_float(float(text))
    return text


def _canonical_float(number: float) -> int | float:
    if not math.isfinite(number):
        raise ValueError(f"a swept number must be finite, found {number}.")
    if number.is_integer() and abs(number) < EXACT_INTEGERS:
        return int(number)
    rounded = float(f"{number:.12g}")
    if math.isinf(rounded):  # the largest floats round up past the end
        return number
    return int(rounded) if rounded.is_integer() and abs(rounded) < EXACT_INTEGERS else rounded
