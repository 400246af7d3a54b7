"""The spectra networks by name: `build_network("cnn_xattn", output_shape=(2, 2, 30), image_side_px=128)`."""

from collections.abc import Callable, Sequence
from typing import Any

from projects.spectra.models.cross_attention import CrossAttentionNetwork
from projects.spectra.models.curve_network import CurveNetwork
from projects.spectra.models.gru import GruNetwork
from shared.builders import build_by_name

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
    given = {"output_shape": output_shape, "image_side_px": image_side_px}
    return build_by_name(BUILDERS, name, given, parameters)
