"""Building something by its name in a table, with the names and parameters that are allowed in the refusal."""

import inspect
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

T = TypeVar("T")


def build_by_name(
    builders: Mapping[str, Callable[..., T]], name: str, given: Mapping[str, Any], parameters: Mapping[str, Any]
) -> T:
    """Call the builder of a network with its parameters.

    Args:
        builders: Name -> what builds it; its signature says which parameters there are.
        name: A key of `builders`.
        given: Arguments that the caller gives and no configuration may set.
        parameters: The builder's further arguments, as a configuration has them.

    Raises:
        ValueError: On an unknown name or parameter, naming what is allowed and the nearest.

    Example:
        >>> build_by_name({"power": pow}, "power", {"base": 2}, {"exp": 3})
        8
    """
    if name not in builders:
        raise ValueError(f"network is {name!r}, allowed: {', '.join(sorted(builders))}{_hint(name, builders)}")
    allowed = [key for key in inspect.signature(builders[name]).parameters if key not in given]
    for key in parameters:
        if key not in allowed:
            raise ValueError(
                f"network {name!r} has no parameter {key!r}, allowed: {', '.join(allowed)}{_hint(key, allowed)}"
            )
    return builders[name](**given, **parameters)


def _hint(word: str, known: Collection[str]) -> str:
    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
