"""The spectra networks by name: `build_network("cnn_xattn", output_shape=(2, 2, 30), image_side_px=128)`."""

import inspect
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

from projects.spectra.models.cross_attention import CrossAttentionNetwork
from projects.spectra.models.curve_network import CurveNetwork
from projects.spectra.models.gru import GruNetwork

BUILDERS: dict[str, Callable[..., CurveNetwork]] = {
    "cnn_gru": GruNetwork,
    "cnn_xattn": CrossAttentionNetwork,
}

__all__ = ["BUILDERS", "CurveNetwork", "build_network"]


def build_network(name: str, *, output_shape: Sequence[int], image_side_px: int, **parameters: Any) -> CurveNetwork:
    """Build a network by name.

    Args:
        name: A key of `BUILDERS`.
        output_shape: (*channels, L), what one picture gives.
        image_side_px: Side of the square picture.
        parameters: The constructor's further arguments: numbers and switches only.

    Raises:
        ValueError: On an unknown name or parameter (naming the nearest), or a value out of range.
    """
    if name not in BUILDERS:
        near = get_close_matches(name, BUILDERS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"network is {name!r}, allowed: {', '.join(BUILDERS)}{hint}")
    given = {"output_shape", "image_side_px"}
    allowed = [key for key in inspect.signature(BUILDERS[name]).parameters if key not in given]
    for key in parameters:
        if key not in allowed:
            near = get_close_matches(key, allowed, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"network {name!r} has no parameter {key!r}, allowed: {', '.join(allowed)}{hint}")
    return BUILDERS[name](output_shape=output_shape, image_side_px=image_side_px, **parameters)
