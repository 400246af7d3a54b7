"""The same network in several forms: float32, half the bytes, 8 bits."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from projects.pillsnap.onnx_export.quantise import find_harm, quantise
from projects.pillsnap.onnx_export.ranges import METHODS, choose_ranges, collect_values
from projects.pillsnap.served_model import session_options

VARIANTS = ("fp32", "fp16", "int8")
_EXCLUDED_PARTS = (1, 2, 4, 8)
_SMALLEST_HALVED = 1024  # smaller constants are not worth a node that widens them

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Variant:
    """A network in one form, and how it came about.

    Attributes:
        model: From `pixels` to `logits`.
        notes: What was tried and chosen, for the report.
    """

    model: onnx.ModelProto
    notes: dict[str, Any] = field(default_factory=dict)


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store the weights as float16 and widen them when the file is loaded: half the bytes, float32 arithmetic."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    casts = []
    for tensor in copy.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < _SMALLEST_HALVED:
            continue
        name, stored = tensor.name, f"{tensor.name}/float16"
        limit = float(np.finfo(np.float16).max)
        tensor.CopyFrom(numpy_helper.from_array(np.clip(values, -limit, limit).astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [name], name=f"{name}/widen", to=TensorProto.FLOAT))
    nodes = [*casts, *copy.graph.node]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def quantised_variant(
    model: onnx.ModelProto, calibration: Sequence[Pixels], choice: Sequence[Pixels], *, least_agreement: float = 0.99
) -> Variant:
    """The network in 8 bits, its ranges found by the method that changes the answers least.

    If the best method's top-1 agreement is too low, the parts of the network that do most harm stay in float32, as few
    as are needed.

    Args:
        model: From `pixels` to `logits`, float32.
        calibration: Batches of photos of the train fold, from which the ranges are taken.
        choice: Batches of photos of the val fold, on which the method is chosen.
        least_agreement: Share of the photos of `choice` on which the top class must stay the same.
    """
    values = collect_values(model, calibration, len(calibration))
    judge = _Judge(model, choice)
    tried: list[dict[str, Any]] = []

    def attempt(method: str, exclude: Sequence[str], parts: int) -> onnx.ModelProto:
        made = quantise(model, ranges[method], exclude=exclude)
        tried.append({"ranges": method, "parts_in_float32": parts, **judge(made)})
        return made

    ranges = {method: choose_ranges(model, values, method) for method in METHODS}
    made = {method: attempt(method, (), 0) for method in METHODS}
    best = min(tried, key=lambda entry: (entry["top1_agreement"] < least_agreement, entry["mean_abs_probability"]))
    method, chosen, entry = best["ranges"], made[best["ranges"]], best
    if entry["top1_agreement"] < least_agreement:
        harm = find_harm(model, ranges[method], lambda quantised: judge(quantised)["mean_abs_probability"])
        for parts in _EXCLUDED_PARTS:
            chosen = attempt(method, [name for _, names in harm[:parts] for name in names], parts)
            entry = tried[-1]
            if entry["top1_agreement"] >= least_agreement:
                break
    return Variant(chosen, {"tried": tried, "chosen": entry, "calibration_images": sum(map(len, calibration))})


class _Judge:
    """Compares quantised networks with the original on the same pixels."""

    def __init__(self, model: onnx.ModelProto, pixels: Sequence[Pixels]) -> None:
        self.pixels = pixels
        self.original = self._probabilities(model)

    def __call__(self, model: onnx.ModelProto) -> dict[str, float]:
        """Top-1 agreement, and the mean over photos of the summed differences of the probabilities."""
        found = self._probabilities(model)
        return {
            "top1_agreement": float((found.argmax(axis=1) == self.original.argmax(axis=1)).mean()),
            "mean_abs_probability": float(np.abs(found - self.original).sum(axis=1).mean()),
        }

    def _probabilities(self, model: onnx.ModelProto) -> NDArray[np.float64]:
        session = ort.InferenceSession(
            model.SerializeToString(), session_options(1), providers=["CPUExecutionProvider"]
        )
        logits = np.concatenate([session.run(["logits"], {"pixels": batch})[0] for batch in self.pixels])
        odds = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))
