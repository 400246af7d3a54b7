"""A certified model file with random weights and the cost of a small network: for load, not for answers."""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from projects.pillsnap.onnx_export.certificate import write_certificate
from projects.pillsnap.onnx_export.description import UNFITTED, ModelDescription, PillClass
from projects.pillsnap.onnx_export.head import OPSET, head_nodes, input_info, output_infos, put_metadata
from projects.pillsnap.preprocess import UnifiedPreprocessor

WIDTHS = (32, 64, 128)
NUM_CLASSES = 100


def write_convnet(folder: Path, *, size_px: int = 128, depth: int = 6) -> Path:
    """Write folder/convnet.onnx and a certificate that says it was compared with nothing.

    Args:
        folder: Where to write.
        size_px: Side of its input.
        depth: Convolutions of 128 channels at an eighth of the size: about 40 million products each at 128 px.

    Returns:
        Path of the model.
    """
    preprocess = UnifiedPreprocessor(size_px=size_px)
    none_of_these = UNFITTED
    nodes, constants = _layers(depth)
    head, head_constants = head_nodes("logits", none_of_these)
    tensors = [numpy_helper.from_array(value, key) for key, value in constants.items()] + head_constants
    infos = [input_info("pixels", size_px)], output_infos(NUM_CLASSES)
    graph = helper.make_graph(nodes + head, "convnet", *infos, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    description = ModelDescription(
        form="pixels",
        classes=tuple(PillClass(f"K-{i:06d}", f"Tablet {i}") for i in range(NUM_CLASSES)),
        preprocessing=preprocess.get_config(),
        preprocessing_digest=preprocess.digest(),
        calibration={"method": "none", "temperature": 1.0},
        none_of_these=none_of_these,
        version="random-weights",
        run="none",
        variant="fp32",
    )
    put_metadata(model, description.as_metadata())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "convnet.onnx"
    onnx.save(model, path)
    write_certificate(
        path, source={"run": "none", "final_sha256": "0" * 64}, preprocessing_digest=preprocess.digest(),
        versions={"onnxruntime": "1.20.0"}, provider="CPUExecutionProvider",
        preprocessing_agreement={"images": 0, "max_grey_levels": 0, "tolerance": 1},
        network_agreement={"images": 0, "max_abs_probability": 0.0, "top1_agreement": 1.0, "tolerances": {}},
        passed=True,
    )  # fmt: skip
    return path


def _layers(depth: int) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Nodes from `pixels` to `logits` and their weights."""
    rng = np.random.default_rng(0)
    nodes, constants, last, channels = [], {}, "pixels", 3
    for number, (width, stride) in enumerate([(width, 2) for width in WIDTHS] + [(WIDTHS[-1], 1)] * depth):
        weight, grown, active = f"weight_{number}", f"grown_{number}", f"active_{number}"
        scale = np.sqrt(2 / (9 * channels))
        constants[weight] = rng.normal(0, scale, (width, channels, 3, 3)).astype(np.float32)
        pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [stride, stride]}
        nodes.append(helper.make_node("Conv", [last, weight], [grown], **pads))
        nodes.append(helper.make_node("Relu", [grown], [active]))
        last, channels = active, width
    constants["last_weight"] = rng.normal(0, 0.3, (channels, NUM_CLASSES)).astype(np.float32)
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("MatMul", ["features", "last_weight"], ["logits"]),
    ]
    return nodes, constants
