"""The network in 8 bits: static, weights per channel, activations unsigned, through onnxruntime's QDQ form.

What was tried on tf_efficientnetv2_s at 512 px, 100 classes, one thread of a CPU with VNNI, 2026-11-21 (time as a share
of float32 in the same run): convolutions alone 0.69 (SiLU in between goes back to float32 and cannot be fused); with
Sigmoid, Mul and Add 0.60; with GlobalAveragePool in place of ReduceMean 0.47, the form used here; weights unsigned too
0.93; activations signed 1.45, since only U8 x S8 has a fast kernel. onnxruntime has no bfloat16 kernels for this CPU.
"""

import logging
from collections.abc import Callable, Collection, Mapping

import numpy as np
import onnx
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from projects.pillsnap.onnx_export.ranges import QUANTISED, Interval

MAX_UNITS = 24
"""Parts of the network whose harm is measured one by one."""


def quantise(
    model: onnx.ModelProto,
    ranges: Mapping[str, Interval],
    *,
    exclude: Collection[str] = (),
    only: Collection[str] = (),
) -> onnx.ModelProto:
    """The model with its convolutions, activations, sums and pools in 8 bits.

    Args:
        model: From `pixels` to `logits`, float32; it is left alone.
        ranges: Of every tensor, see `choose_ranges`.
        exclude: Names of nodes that stay in float32.
        only: Names of the nodes to quantise; empty: all.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    data = {name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in ranges.items()}
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # the quantiser logs to the root what it does with each node
    try:
        quantiser = QDQQuantizer(
            copy, True, False, QuantType.QInt8, QuantType.QUInt8, TensorsData(CalibrationMethod.MinMax, data),
            list(only), list(exclude), list(QUANTISED), {},
        )  # fmt: skip
        quantiser.quantize_model()
    finally:
        root.setLevel(level)
    quantiser.model.topological_sort()
    quantised: onnx.ModelProto = quantiser.model.model
    return quantised


def units(graph: onnx.GraphProto, most: int = MAX_UNITS) -> list[list[str]]:
    """Names of the nodes of the network in at most `most` parts, in order; the first convolution is a part of its own.

    Each part begins with a convolution and ends before another one.
    """
    parts: list[list[str]] = []
    for node in graph.node:
        if node.op_type == "Conv" or not parts:
            parts.append([])
        parts[-1].append(node.name)
    if len(parts) <= most:
        return parts
    chunks = np.array_split(np.arange(1, len(parts)), most - 1)
    return [parts[0], *([name for place in places for name in parts[place]] for places in chunks)]


def find_harm(
    model: onnx.ModelProto, ranges: Mapping[str, Interval], error: Callable[[onnx.ModelProto], float]
) -> list[tuple[float, list[str]]]:
    """What each part of the network costs when it alone is in 8 bits, the most harmful first.

    Args:
        model: As in `quantise`.
        ranges: As in `quantise`.
        error: How far a quantised model is from the original, >= 0.

    Returns:
        (error, names of the nodes) of each part.
    """
    found = [(error(quantise(model, ranges, only=names)), names) for names in units(model.graph)]
    return sorted(found, key=lambda entry: -entry[0])
