"""How fast each weight is trained: the lower in the backbone, the slower; the analyzers faster."""

import re
from collections.abc import Callable, Iterable

BACKBONE = "network.backbone."
ANALYZERS = "network.analyzers."
TEXT_ENCODER = "text_encoder."
_LAYER = re.compile(r"\.layers?\.(\d+)\.")


def layer_scales(
    names: Iterable[str], *, layer_decay: float, analyzer_lr_scale: float
) -> Callable[[str], float] | None:
    """Multiples of the base learning rate by the name of a parameter.

    Heads, fusion and the loss's own numbers learn at the base rate, analyzers at `analyzer_lr_scale` times it. The
    topmost of the backbone's L layers has the rate times `layer_decay`, the one below times its square, and so on; what
    stands before the layers (embeddings) comes below the first, what stands behind them belongs to the last. A text
    encoder goes on below the backbone in the same way.

    Args:
        names: Of all parameters, in the order in which the module has them.
        layer_decay: In (0, 1]; 1 is off.
        analyzer_lr_scale: Above 0; 1 is off.

    Returns:
        Name -> multiple; None where all are 1.

    Raises:
        ValueError: If a value is out of range.

    Source: Clark et al., "ELECTRA", ICLR 2020, section 3.1; Howard and Ruder, "ULMFiT", ACL 2018 for the idea.
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay is {layer_decay}, allowed: above 0, up to 1")
    if not 0 < analyzer_lr_scale < float("inf"):
        raise ValueError(f"analyzer_lr_scale is {analyzer_lr_scale}, allowed: above 0")
    if layer_decay == analyzer_lr_scale == 1:
        return None
    names = list(names)
    backbone = _depths([name for name in names if name.startswith(BACKBONE)])
    below = max(backbone.values(), default=0)
    encoder = _depths([name for name in names if name.startswith(TEXT_ENCODER)])
    depths = backbone | {name: below + depth for name, depth in encoder.items()}

    def scale(name: str) -> float:
        if name in depths:
            return float(layer_decay ** depths[name])
        return analyzer_lr_scale if name.startswith(ANALYZERS) else 1.0

    return scale


def _depths(names: list[str]) -> dict[str, int]:
    """Steps down from the heads: 1 for the last layer and what stands behind it, one more for each layer below."""
    found = {name: int(match.group(1)) for name in names if (match := _LAYER.search(name))}
    count = max(found.values(), default=-1) + 1
    depths, passed = {}, False
    for name in names:
        passed = passed or name in found
        depths[name] = count - found[name] if name in found else 1 if passed or not found else count + 1
    return depths
