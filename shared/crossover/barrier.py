"""How high the loss rises on the straight line between two networks: whether they lie in one basin."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Barrier:
    """The loss on the way from network A to network B.

    Attributes:
        height: Largest excess over the straight line between the two losses, at the points looked at; negative where
            the loss lies below the line everywhere; infinite where a loss is not finite.
        at: Where that is, the share of B.
        curve: (share of B, loss), both ends included.
    """

    height: float
    at: float
    curve: tuple[tuple[float, float], ...]

    def as_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)


def loss_barrier(losses_at: Callable[[float], float], points: Sequence[float] = (0.25, 0.5, 0.75)) -> Barrier:
    """Barrier max over a of L((1 - a) A + a B) - ((1 - a) L(A) + a L(B)), at the points given.

    Args:
        losses_at: Loss at a share of B in [0, 1]; called for 0, the points and 1.
        points: Shares looked at, inside (0, 1).

    Raises:
        ValueError: If there is no point or one lies outside (0, 1).

    Source: Frankle et al., "Linear Mode Connectivity and the Lottery Ticket Hypothesis", ICML 2020, section 2; there
    the mean of the two ends is taken off, here the line between them, so that ends of unequal loss make no barrier.

    Example:
        >>> loss_barrier(lambda a: 1 - (2 * a - 1) ** 2).height
        1.0
    """
    if not points or not all(0.0 < point < 1.0 for point in points):
        raise ValueError(f"points are {list(points)}; at least one is needed, each between 0 and 1")
    curve = tuple((share, float(losses_at(share))) for share in (0.0, *sorted(points), 1.0))
    first, last = curve[0][1], curve[-1][1]
    excess = [(loss - ((1 - share) * first + share * last), share) for share, loss in curve[1:-1]]
    excess = [(height if math.isfinite(height) else math.inf, share) for height, share in excess]
    height, at = max(excess, key=lambda pair: pair[0])
    return Barrier(height, at, curve)


def between(a: dict[str, Tensor], b: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """The weights (1 - share) A + share B, reckoned in float64; integer tensors come from the nearer of the two.

    Args:
        a: State dict of network A.
        b: State dict of network B, same names and shapes.
        share: Of B, in [0, 1].
    """
    mixed = {}
    for name, tensor in a.items():
        other = b[name]
        if tensor.is_floating_point():
            mixed[name] = tensor.double().mul(1.0 - share).add(other.double(), alpha=share).to(tensor.dtype)
        else:
            mixed[name] = (tensor if share < 0.5 else other).clone()
    return mixed
