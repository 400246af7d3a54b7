"""What stands behind the network in the file, in ONNX operators: softmax, and the probability of 'none of these'."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from projects.pillsnap.evaluation.open_set import NoneOfThese

OPSET = 20
"""Of every file we write; Resize with antialias needs 18."""

IR_VERSION = 10
"""Of every file we write; what onnx writes by itself may be newer than what the runtime reads."""


def head_nodes(
    calibrated: str, none_of_these: NoneOfThese, prefix: str = "head"
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes from calibrated logits (N, K) to `probabilities` (N, K) and `none_of_these` (N,).

    Args:
        calibrated: Name of the tensor of calibrated logits, float32.
        none_of_these: Which score of the calibrated logits, and the logistic curve over it.
        prefix: Of the names between.

    Returns:
        Nodes in order, and their constants.
    """
    name = f"{prefix}_{{}}".format
    constants = {"axis": np.array([1], np.int64)} | {
        key: np.array(getattr(none_of_these, key), np.float32) for key in ("slope", "offset")
    }
    score, operator, inputs = {
        "msp": ("surprise", "Sub", ["log_sum", "highest"]),
        "max_logit": ("lowered", "Neg", ["highest"]),
        "energy": ("free", "Neg", ["log_sum"]),
    }[none_of_these.score]
    nodes = [
        helper.make_node("Softmax", [calibrated], ["probabilities"], name=name("softmax"), axis=1),
        helper.make_node("ReduceMax", [calibrated, name("axis")], [name("highest")], name=name("max"), keepdims=0),
        helper.make_node(
            "ReduceLogSumExp", [calibrated, name("axis")], [name("log_sum")], name=name("energy"), keepdims=0
        ),
        helper.make_node(operator, [name(key) for key in inputs], [name(score)], name=name("score")),
        helper.make_node("Mul", [name(score), name("slope")], [name("sloped")], name=name("mul")),
        helper.make_node("Add", [name("sloped"), name("offset")], [name("logit")], name=name("add")),
        helper.make_node("Sigmoid", [name("logit")], ["none_of_these"], name=name("sigmoid")),
    ]
    return nodes, [numpy_helper.from_array(value, name(key)) for key, value in constants.items()]


def output_infos(num_classes: int) -> list[onnx.ValueInfoProto]:
    """The three outputs of every file: probabilities, none_of_these, logits."""
    shapes: dict[str, list[str | int | None]] = {
        "probabilities": ["N", num_classes],
        "none_of_these": ["N"],
        "logits": ["N", num_classes],
    }
    return [helper.make_tensor_value_info(key, onnx.TensorProto.FLOAT, shape) for key, shape in shapes.items()]


def input_info(form: str, size_px: int) -> onnx.ValueInfoProto:
    """The one input: `photo` uint8 (N, H, W, 3) or `pixels` float32 (N, 3, S, S)."""
    if form == "photo":
        return helper.make_tensor_value_info("photo", onnx.TensorProto.UINT8, ["N", "H", "W", 3])
    return helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, ["N", 3, size_px, size_px])


def put_metadata(model: onnx.ModelProto, metadata: dict[str, str]) -> None:
    """Replace the metadata of a model, keys sorted so that equal models have equal bytes."""
    del model.metadata_props[:]
    helper.set_model_props(model, dict(sorted(metadata.items())))
