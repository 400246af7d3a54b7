"""One loss for each sample from what a step returns, so that networks can be compared sample by sample and by group."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor, nn

from shared.errors import TrainingError

Step = Literal["predict_step", "validation_step"]

_SUM_TOLERANCE = 1e-2  # half precision keeps two digits

_FORM = '{"logits" or "prediction", "target"}'


def choose_step(module: nn.Module, batch: Any) -> Step:
    """Which step gives what is needed: `predict_step` if the module has its own and it returns logits and target.

    `predict_step` neither logs nor updates metrics; many modules' one returns bare predictions, though, and then
    `validation_step` is used.

    Args:
        module: On its device, in evaluation mode.
        batch: One batch, on the device; the step is tried on it.

    Raises:
        TrainingError: If neither step returns what is needed.
    """
    for step in ("predict_step", "validation_step"):
        if _overrides(module, step) and _usable(module, step_outputs(module, batch, 0, step)):
            return step
    raise TrainingError(
        f"{type(module).__name__} has no predict_step or validation_step that returns {_FORM}: one of them must, or "
        "the module must have a method sample_losses(outputs) that gives one loss for each sample"
    )


def step_outputs(module: nn.Module, batch: Any, batch_idx: int, step: Step) -> Any:
    """What the step returns, with `log` and `log_dict` silent, since no loop of Lightning's runs.

    Args:
        module: On its device, in the mode it should run in.
        batch: One batch on the device.
        batch_idx: Number of the batch.
        step: See `choose_step`.
    """
    with _muted(module):
        return getattr(module, step)(batch, batch_idx)


def sample_losses(module: nn.Module, outputs: Mapping[str, Any]) -> Tensor:
    """Loss of each sample, (B,) float64; inf and NaN are returned as they are.

    The module's own `sample_losses(outputs)` where it has one. Otherwise, for `logits` (B, C, ...) with an integer
    target (B, ...) the cross-entropy; for one logit (B,) or (B, 1, ...) with a 0/1 target the binary cross-entropy; for
    `logits` of the target's own shape see below; for `prediction` the squared error. Each is averaged over the
    dimensions after the first, where `target_mask` allows.

    A floating target of the logits' shape (B, C, ...), C > 1, without negative values, is taken for class probabilities
    if they sum to 1 over C for every sample of the batch: cross-entropy with soft targets. Any other one, and any whose
    `target_mask` tells its classes apart, is taken for labels that do not exclude one another: binary cross-entropy.
    So float 0/1 rows with one label each count as targets of a softmax; labels that only happen to be single in a batch
    must come as integers or bool, which are always binary, or the module must have a `sample_losses` of its own.

    Args:
        module: The module that made the outputs.
        outputs: What its step returned.

    Raises:
        TrainingError: If the outputs do not fit, or the module's own method returns another shape.

    Example:
        >>> outputs = {"logits": torch.tensor([[0.0, 0.0]]), "target": torch.tensor([1])}
        >>> round(sample_losses(nn.Identity(), outputs).item(), 4)
        0.6931
    """
    own = getattr(module, "sample_losses", None)
    if own is not None:
        losses = own(outputs).detach().double()
        if losses.ndim != 1:
            raise TrainingError(
                f"{type(module).__name__}.sample_losses returned shape {tuple(losses.shape)}; one loss for each "
                "sample, (B,), is needed"
            )
        return losses
    target, mask = outputs["target"], outputs.get("target_mask")
    if not isinstance(target, Tensor):
        raise TrainingError(
            f"the target is a {type(target).__name__} and {type(module).__name__} has no method "
            "sample_losses(outputs), which says how its parts add up to one loss for each sample"
        )
    losses = _logit_losses(outputs["logits"], target, mask) if "logits" in outputs else _squared(outputs, target)
    return _masked_mean(losses, mask)


def widen(logits: Tensor) -> Tensor:
    """The one logit z of a binary head as the two logits (0, z), whose softmax gives sigmoid(z) to class 1.

    Args:
        logits: (B,) or (B, 1, ...).

    Returns:
        (B, 2, ...).

    Example:
        >>> widen(torch.tensor([[3.0], [-1.0]])).tolist()
        [[0.0, 3.0], [0.0, -1.0]]
    """
    single = logits[:, None] if logits.ndim == 1 else logits
    return torch.cat([torch.zeros_like(single), single], dim=1)


def widen_binary(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Two logits and int64 classes where the head has one logit and the target is 0 or 1; anything else as it is.

    Args:
        logits: (B,) or (B, 1, ...) where there is something to widen.
        target: Of the logits' shape, or without the dimension of size 1; any dtype.

    Returns:
        logits (B, 2, ...) and target (B, ...).
    """
    single = logits[:, None] if logits.ndim == 1 else logits
    without = single.shape[:1] + single.shape[2:]
    if single.ndim < 2 or single.shape[1] != 1 or target.shape not in (single.shape, without):
        return logits, target
    if not bool(((target == 0) | (target == 1)).all()):
        return logits, target
    return widen(logits), target.reshape(without).long()


def group_of(batch: Any, outputs: Any) -> Tensor | None:
    """Group of each sample, (B,) int64 on the CPU, from the batch or the outputs; None where neither says."""
    for source in (batch, outputs):
        if isinstance(source, Mapping) and isinstance(source.get("group_index"), Tensor):
            return source["group_index"].detach().cpu().long()
    return None


def _overrides(module: nn.Module, step: str) -> bool:
    """Lightning's own steps only say that there is none."""
    return callable(getattr(module, step, None)) and getattr(type(module), step, None) is not getattr(
        LightningModule, step
    )


def _usable(module: nn.Module, outputs: Any) -> bool:
    if not isinstance(outputs, Mapping):
        return False
    return hasattr(module, "sample_losses") or (
        "target" in outputs and ("logits" in outputs or "prediction" in outputs)
    )


@contextmanager
def _muted(module: nn.Module) -> Iterator[None]:
    """Shadow the two logging methods on the instance."""
    names = [name for name in ("log", "log_dict") if hasattr(module, name) and name not in vars(module)]
    for name in names:
        vars(module)[name] = _say_nothing
    try:
        yield
    finally:
        for name in names:
            del vars(module)[name]


def _say_nothing(*args: Any, **kwargs: Any) -> None:
    """Takes what `log` takes."""


def _logit_losses(logits: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
    """Losses in the target's shape, without the classes where they exclude one another."""
    logits, target = widen_binary(logits.double(), target)
    if logits.shape == target.shape:
        if _sums_to_one(target, mask):
            return F.cross_entropy(logits, target.double(), reduction="none")
        return F.binary_cross_entropy_with_logits(logits, target.double(), reduction="none")
    if logits.ndim == target.ndim + 1 and logits.shape[1] > 1 and not target.is_floating_point():
        return F.cross_entropy(logits, target.long(), reduction="none")
    raise TrainingError(
        f"logits {tuple(logits.shape)} and a {target.dtype} target {tuple(target.shape)} give no loss by sample; "
        "integer classes, 0/1 for one logit, a target of the logits' shape, or a method sample_losses(outputs) are "
        "allowed"
    )


def _sums_to_one(target: Tensor, mask: Tensor | None) -> bool:
    """Whether the rows are class probabilities, leaving out masked ones."""
    if target.ndim < 2 or target.shape[1] < 2 or not target.is_floating_point():
        return False
    sums, lowest = target.double().sum(dim=1), target.amin(dim=1)
    good = ((sums - 1.0).abs() <= _SUM_TOLERANCE) & (lowest >= 0)
    if mask is None:
        return bool(good.all())
    if mask.numel() > sums.numel():
        return False
    good = good.reshape(len(good), -1)
    return bool(good[mask.to(good.device).reshape(len(good), -1).expand_as(good).bool()].all())


def _squared(outputs: Mapping[str, Any], target: Tensor) -> Tensor:
    prediction = outputs["prediction"]
    if prediction.shape != target.shape:
        raise TrainingError(
            f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} must have one shape, or the module "
            "a method sample_losses(outputs)"
        )
    return (prediction.double() - target.double()).square()


def _masked_mean(losses: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over all dimensions but the first; a sample without any valid target has loss 0."""
    losses = losses.reshape(len(losses), -1).detach()
    if mask is None:
        return losses.mean(dim=1)
    valid = mask.to(losses.device).reshape(len(losses), -1).expand_as(losses).bool()
    return torch.where(valid, losses, 0.0).sum(dim=1) / valid.sum(dim=1).clamp(min=1)
