"""One file out of its parts: preprocessing, network, calibration, head, metadata."""

from pathlib import Path

import onnx
from onnx import helper

from projects.pillsnap.onnx_export.description import ModelDescription
from projects.pillsnap.onnx_export.head import IR_VERSION, OPSET, head_nodes, input_info, output_infos, put_metadata
from projects.pillsnap.onnx_graph import preprocessing_nodes
from projects.pillsnap.preprocess import UnifiedPreprocessor
from shared.atomic import replacing

_JOINTS = {"pixels", "logits", "calibrated"}


def assemble(network: onnx.ModelProto, calibration: onnx.ModelProto, description: ModelDescription) -> onnx.ModelProto:
    """Join the parts.

    Args:
        network: From `pixels` to `logits`, in any precision inside.
        calibration: From `logits` to `calibrated`.
        description: Says the rest; its form decides whether the preprocessing is inside.

    Raises:
        onnx.checker.ValidationError: If the parts do not fit.
    """
    preprocess = UnifiedPreprocessor.from_config(dict(description.preprocessing))
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    if description.form == "photo":
        part = preprocessing_nodes(preprocess, photo="photo", out="pixels")
        nodes += part.nodes
        constants += part.initializers
    for prefix, model in (("network", network), ("calibration", calibration)):
        more, extra = _renamed(model.graph, prefix)
        nodes += more
        constants += extra
    more, extra = head_nodes("calibrated", description.none_of_these)
    graph = helper.make_graph(
        nodes + more, "pillsnap", [input_info(description.form, preprocess.size_px)],
        output_infos(len(description.classes)), constants + extra,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=_opsets(network), ir_version=IR_VERSION, producer_name="pillsnap")
    put_metadata(model, description.as_metadata())
    onnx.checker.check_model(model)
    return model


def save_model(model: onnx.ModelProto, path: Path) -> Path:
    """Write a model in one file, whole or not at all."""
    with replacing(path) as temporary:
        onnx.save(model, temporary)
    return path


def _renamed(graph: onnx.GraphProto, prefix: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Copies of nodes and constants, all names prefixed but those of the joints, so that parts cannot collide."""

    def name(old: str) -> str:
        return old if old in _JOINTS or not old else f"{prefix}/{old}"

    nodes, constants = [], []
    for node in graph.node:
        assert not any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute)
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name = name(node.name)
        copy.input[:] = [name(old) for old in node.input]
        copy.output[:] = [name(old) for old in node.output]
        nodes.append(copy)
    for tensor in graph.initializer:
        constant = onnx.TensorProto()
        constant.CopyFrom(tensor)
        constant.name = name(tensor.name)
        constants.append(constant)
    return nodes, constants


def _opsets(network: onnx.ModelProto) -> list[onnx.OperatorSetIdProto]:
    """Ours, and the other domains that the network uses."""
    used = {node.domain for node in network.graph.node} - {"", "ai.onnx"}
    others = [
        helper.make_opsetid(entry.domain, entry.version) for entry in network.opset_import if entry.domain in used
    ]
    return [helper.make_opsetid("", OPSET), *others]
