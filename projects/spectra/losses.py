"""Losses between curves: squared error, correlation along the axis, and roughness."""

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

FLAT_TOLERANCE = 16
"""A curve is flat if its values differ by less than this many units of rounding: what is left is noise."""

SMALLEST_SPREAD = 1e-30
"""And if they differ by less than this in absolute terms, where float32 could no longer hold the gradient."""


def pearson_along_axis(prediction: Tensor, target: Tensor) -> Tensor:
    """Pearson correlation of each pair of curves, along the last axis.

    A flat curve, predicted or true, has no correlation. It counts as 0, "no linear relation", with gradient zero: the
    neutral value, between a curve that follows the target and one that runs against it, and the pull away from flatness
    is left to the squared error. For any other curve the value is exact; there is no epsilon in the denominator that
    would lower the correlation of faint curves.

    Args:
        prediction: (..., L), any floating type; half precision is computed in float32.
        target: Of the same shape.

    Returns:
        (...) in [-1, 1], float32, or float64 for float64 curves. NaN where a curve holds NaN or infinity.

    Raises:
        ValueError: If the shapes differ or L < 2.

    Example:
        >>> rising = torch.tensor([[1.0, 2.0, 3.0]])
        >>> round(pearson_along_axis(rising, 7 - rising).item(), 6)
        -1.0
        >>> pearson_along_axis(rising, torch.ones(1, 3)).item()
        0.0
    """
    _check(prediction, target)
    x, x_flat = _standardised(_wide(prediction))
    y, y_flat = _standardised(_wide(target))
    correlation = (x * y).sum(dim=-1).clamp(-1.0, 1.0)
    return torch.where(x_flat | y_flat, 0.0, correlation)


def mse_pearson(
    prediction: Tensor, target: Tensor, w_mse: float = 1.0, w_corr: float = 0.2, unit: float = 1.0
) -> Tensor:
    """w_mse · MSE / unit^2 + w_corr · (1 - mean Pearson correlation of the curves).

    Args:
        prediction: (B, ..., L), L points of the axis; half precision is computed in float32.
        target: Of the same shape.
        w_mse: Weight of the squared error, averaged over all values, >= 0.
        w_corr: Weight of the correlation, averaged over all curves, >= 0; see `pearson_along_axis` for flat ones.
        unit: What counts as an error of 1, in the target's unit, > 0.

    Returns:
        Scalar, float32 or float64.

    Raises:
        ValueError: If the shapes differ, L < 2, or a weight is negative.

    Example:
        >>> rising = torch.tensor([[0.0, 1.0]])
        >>> round(mse_pearson(rising, 1 - rising).item(), 4)
        1.4
    """
    _check(prediction, target)
    _check_weights(w_mse=w_mse, w_corr=w_corr)
    return w_mse * _mse(prediction, target, unit) + w_corr * (1.0 - pearson_along_axis(prediction, target).mean())


def weighted_smooth(
    prediction: Tensor, target: Tensor, w_mse: float = 1.0, w_smooth: float = 0.1, unit: float = 1.0
) -> Tensor:
    """(w_mse · MSE + w_smooth · mean squared difference of neighbouring points of the prediction) / unit^2.

    The second term pulls every curve towards a flat one, true slopes as well: its weight belongs well below `w_mse`.

    Args:
        prediction: (B, ..., L), L points of the axis; half precision is computed in float32.
        target: Of the same shape.
        w_mse: Weight of the squared error, averaged over all values, >= 0.
        w_smooth: Weight of the roughness, averaged over all L - 1 differences of all curves, >= 0.
        unit: What counts as an error of 1, in the target's unit, > 0.

    Returns:
        Scalar, float32 or float64.

    Raises:
        ValueError: If the shapes differ, L < 2, or a weight is negative.

    Example:
        >>> rising = torch.tensor([[0.0, 1.0, 2.0]])
        >>> round(weighted_smooth(rising, rising).item(), 4)
        0.1
    """
    _check(prediction, target)
    _check_weights(w_mse=w_mse, w_smooth=w_smooth)
    rough = (_wide(prediction).diff(dim=-1) / unit).square().mean()
    return w_mse * _mse(prediction, target, unit) + w_smooth * rough


LOSSES: dict[str, Callable[..., Tensor]] = {"mse_pearson": mse_pearson, "weighted_smooth": weighted_smooth}

_FORMULAS = {
    "mse_pearson": (
        r"\mathcal{{L}} = {w_mse:g} \cdot \frac{{1}}{{{per}}} \sum_{{c,l}} (\hat{{y}}_{{cl}} - y_{{cl}})^2"
        r" + {w_corr:g} \cdot \left(1 - \frac{{1}}{{C}} \sum_{{c}} \rho_l(\hat{{y}}_{{c}}, y_{{c}})\right)"
    ),
    "weighted_smooth": (
        r"\mathcal{{L}} = {w_mse:g} \cdot \frac{{1}}{{{per}}} \sum_{{c,l}} (\hat{{y}}_{{cl}} - y_{{cl}})^2"
        r" + {w_smooth:g} \cdot \frac{{1}}{{{per_step}}} \sum_{{c,l}} (\hat{{y}}_{{c,l+1}} - \hat{{y}}_{{cl}})^2"
    ),
}


class CurveLoss(nn.Module):
    """One of `LOSSES` with its weights.

    Attributes:
        formula: LaTeX of one sample's loss, with C curves of L points and the weights as numbers; sigma is the unit.
    """

    def __init__(self, name: str, weights: Mapping[str, float], unit: float = 1.0) -> None:
        """Store the weights and the unit of errors; weights not given are the function's defaults.

        Raises:
            ValueError: On an unknown name or weight (naming the nearest), a weight below 0, or a unit not above 0.
        """
        super().__init__()
        if name not in LOSSES:
            raise ValueError(f"loss is {name!r}, allowed: {', '.join(LOSSES)}{_nearest(name, list(LOSSES))}")
        parameters = inspect.signature(LOSSES[name]).parameters
        defaults = {key: item.default for key, item in parameters.items() if item.default is not item.empty}
        del defaults["unit"]
        for key in weights:
            if key not in defaults:
                hint = _nearest(key, list(defaults))
                raise ValueError(f"loss {name!r} has no weight {key!r}, allowed: {', '.join(defaults)}{hint}")
        self.name = name
        self.weights: dict[str, float] = {**defaults, **weights}
        _check_weights(**self.weights)
        if not 0 < unit < float("inf"):
            raise ValueError(f"unit is {unit}, allowed: above 0")
        self.unit = unit
        square = "" if unit == 1.0 else r"\, \sigma^2"
        self.formula = _FORMULAS[name].format(per=f"CL{square}", per_step=f"C(L-1){square}", **self.weights)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(B, ..., L) twice -> scalar."""
        return LOSSES[self.name](prediction, target, unit=self.unit, **self.weights)


def build_loss(name: str, unit: float = 1.0, **weights: Any) -> CurveLoss:
    """A loss by name; arguments and errors as in `CurveLoss`.

    Example:
        >>> build_loss("mse_pearson", w_corr=0.5).weights
        {'w_mse': 1.0, 'w_corr': 0.5}
    """
    return CurveLoss(name, weights, unit)


def _standardised(curve: Tensor) -> tuple[Tensor, Tensor]:
    """Each curve with mean 0 and length 1, (..., L), and whether it is flat, (...); flat ones become zeros."""
    with torch.no_grad():
        size = curve.abs().amax(dim=-1)
        spread = curve.amax(dim=-1) - curve.amin(dim=-1)
        flat = (spread <= FLAT_TOLERANCE * torch.finfo(curve.dtype).eps * size) | (spread <= SMALLEST_SPREAD)
        # The correlation does not depend on the scale, so this divisor needs no gradient; it keeps squares in range.
        scale = torch.where(flat, 1.0, spread)[..., None]
    # Flat curves are replaced before anything is divided: a mask behind the division would still pass on its NaN.
    safe = torch.where(flat[..., None], 0.0, (curve - curve[..., :1]) / scale)
    centred = safe - safe.mean(dim=-1, keepdim=True)
    squares = torch.where(flat, 1.0, centred.square().sum(dim=-1))[..., None]
    return centred / squares.sqrt(), flat


def _mse(prediction: Tensor, target: Tensor, unit: float) -> Tensor:
    # Divided before it is squared: the square of a small error would leave the range of float32 first.
    return ((_wide(prediction) - _wide(target)) / unit).square().mean()


def _wide(curve: Tensor) -> Tensor:
    """Float32 for half precision."""
    return curve.float() if curve.dtype in (torch.float16, torch.bfloat16) else curve


def _check(prediction: Tensor, target: Tensor) -> None:
    """Raise ValueError on what would otherwise be broadcast to a plausible wrong number."""
    if prediction.shape != target.shape or prediction.ndim < 1:
        raise ValueError(
            f"prediction has shape {tuple(prediction.shape)} and target {tuple(target.shape)}, allowed: equal shapes"
        )
    if prediction.shape[-1] < 2:
        raise ValueError(f"the curves have {prediction.shape[-1]} point, allowed: 2 or more")


def _check_weights(**weights: float) -> None:
    for name, value in weights.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} is {value}, allowed: 0 or more")


def _nearest(name: str, allowed: list[str]) -> str:
    """What the user may have meant."""
    near = get_close_matches(name, allowed, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
