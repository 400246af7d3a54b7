"""Which interval of each tensor the 256 levels of 8 bits are spread over, from what the network computes on photos."""

from collections.abc import Iterable

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper

from projects.pillsnap.served_model import session_options

QUANTISED = ("Conv", "Mul", "Sigmoid", "Add", "GlobalAveragePool", "Relu", "MaxPool")
"""Operators that run in 8 bits; the last layer stays in float32."""

METHODS = ("minmax", "percentile", "silu", "least_squares")
_VALUES = 65_536  # kept of each tensor over all photos: of 470 tensors 120 MB
_SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
_PERCENTILES = (0.01, 99.99)

Interval = tuple[float, float]
Values = NDArray[np.float32]


def collect_values(
    model: onnx.ModelProto, pixels: Iterable[NDArray[np.float32]], num_batches: int
) -> dict[str, Values]:
    """Values of every tensor that is read or written in 8 bits.

    Args:
        model: From `pixels` to `logits`, float32.
        pixels: Batches (N, 3, S, S).
        num_batches: How many there are.

    Returns:
        Name -> (V,) float32, a sample of the values with the smallest and the largest of each batch.

    Raises:
        ValueError: If there is no batch.
    """
    names = _tensors(model.graph)
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    outputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names if name != "pixels"]
    watched.graph.output.extend(output for output in outputs if output.name != "logits")
    session = ort.InferenceSession(watched.SerializeToString(), session_options(1), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    found: dict[str, list[Values]] = {name: [] for name in names}
    wanted = [name for name in names if name != "pixels"]
    for batch in pixels:
        arrays = dict(zip(wanted, session.run(wanted, {"pixels": batch}), strict=True)) | {"pixels": batch}
        for name in names:
            values = arrays[name].ravel()
            kept = rng.integers(0, len(values), max(_VALUES // num_batches, 256))
            extremes = np.array([values.min(), values.max()], np.float32)
            found[name].append(np.concatenate([extremes, values[kept]]))
    if not found["pixels"]:
        raise ValueError("there is no batch of pixels; one or more photos are needed to find the ranges")
    return {name: np.concatenate(parts) for name, parts in found.items()}


def choose_ranges(model: onnx.ModelProto, values: dict[str, Values], method: str) -> dict[str, Interval]:
    """The interval of each tensor.

    Args:
        model: As in `collect_values`.
        values: What that returned.
        method: "minmax": all values fit; "percentile": all but one in 10,000 on each side; "silu": as minmax, but the
            lower end of a tensor in front of SiLU is where the squared error behind SiLU is smallest, since a long tail
            of negative values costs levels and becomes nearly zero; "least_squares": the interval with the smallest
            squared error at both ends, in front of SiLU the error behind it.

    Raises:
        ValueError: If the method is unknown.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, allowed: {', '.join(METHODS)}")
    if method == "minmax":
        return {name: (float(kept.min()), float(kept.max())) for name, kept in values.items()}
    if method == "percentile":
        ends = {name: np.percentile(kept, _PERCENTILES) for name, kept in values.items()}
        return {name: (float(low), float(high)) for name, (low, high) in ends.items()}
    before_silu = silu_inputs(model.graph)
    if method == "silu":
        return {
            name: _least_squares(kept, True, ends="lower")
            if name in before_silu
            else (float(kept.min()), float(kept.max()))
            for name, kept in values.items()
        }
    return {name: _least_squares(kept, name in before_silu, ends="both") for name, kept in values.items()}


def silu_inputs(graph: onnx.GraphProto) -> set[str]:
    """Tensors x of x * sigmoid(x) that nothing else reads."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = set()
    for node in graph.node:
        if node.op_type == "Sigmoid":
            name, gate = node.input[0], node.output[0]
            others = [reader for reader in readers[name] if reader is not node]
            if len(others) == 1 and others[0].op_type == "Mul" and set(others[0].input) == {name, gate}:
                found.add(name)
    return found


def _tensors(graph: onnx.GraphProto) -> list[str]:
    """Float tensors that the quantised operators read or write, constants left out."""
    constants = {tensor.name for tensor in graph.initializer}
    names: dict[str, None] = {}
    for node in graph.node:
        if node.op_type in QUANTISED:
            names |= dict.fromkeys(name for name in [*node.input, *node.output] if name and name not in constants)
    return list(names)


def _least_squares(kept: Values, before_silu: bool, ends: str) -> Interval:
    """Where the squared error is smallest: first the upper end (unless only the lower may move), then the lower."""
    after = _silu if before_silu else _same
    truth = after(kept)
    low, high = float(min(kept.min(), 0.0)), float(max(kept.max(), 0.0))

    def error(bottom: float, top: float) -> float:
        scale = (top - bottom) / 255 or 1.0
        zero = np.rint(-bottom / scale)
        levels = np.clip(np.rint(kept / scale) + zero, 0, 255)
        return float(np.square(after((levels - zero) * scale) - truth).mean())

    if ends == "both":
        high = min((share * high for share in _SHARES), key=lambda top: error(low, top))
    low = min((share * low for share in (*_SHARES, 0.15, 0.1, 0.05)), key=lambda bottom: error(bottom, high))
    return low, high


def _silu(x: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.asarray(x / (1 + np.exp(-x)))


def _same(x: NDArray[np.floating]) -> NDArray[np.floating]:
    return x
