"""`UnifiedPreprocessor` as a piece of an ONNX graph, and as a model of its own."""

import json

import numpy as np
from onnx import ModelProto, TensorProto, checker, helper

from projects.pillsnap.onnx_graph.builder import GraphBuilder, GraphPart
from projects.pillsnap.onnx_graph.clahe import clahe
from projects.pillsnap.onnx_graph.crop import centre_square
from projects.pillsnap.onnx_graph.lab import lab_to_rgb, rgb_to_lab
from projects.pillsnap.preprocess import UnifiedPreprocessor, normalisation_tables

OPSET = 18
"""Lowest operator set that has all that is used: Resize with antialiasing, ScatterElements that adds."""

IR_VERSION = 9


def preprocessing_nodes(
    preprocessor: UnifiedPreprocessor, photo: str = "photo", out: str = "pixels", prefix: str = "preprocess/"
) -> GraphPart:
    """Write the preprocessor in operators of opset OPSET or later.

    On photos of (S, S, 3) the result equals the preprocessor's to the bit. Others are resized on the way, which may
    differ by one grey level (see `crop.py`) before CLAHE, which can make more of it.

    Args:
        preprocessor: What to write.
        photo: Name of the input, uint8 (N, H, W, 3), any N, H, W >= 1.
        out: Name of the output, float32 (N, 3, S, S).
        prefix: Beginning of every other name; must not be that of any other node.
    """
    build = GraphBuilder(prefix)
    size = preprocessor.size_px
    image = centre_square(build, photo, size)
    levels = normalisation_tables(preprocessor.mean, preprocessor.std)
    if preprocessor.clahe:
        lightness, colour = rgb_to_lab(build, image, size * size)
        lightness = clahe(build, lightness, size, preprocessor.clip_limit, preprocessor.grid)
        table, place = lab_to_rgb(build, lightness, colour, size * size, levels)
    else:
        start = build.constant(np.array([0, 256, 512], np.int32)[:, None, None])
        table, place = levels.reshape(-1), build.op("Add", build.cast(image, TensorProto.INT32), start)
    build.lookup(table, place, build.integers(-1, 3, size, size), out)
    return build.part


def preprocessing_model(preprocessor: UnifiedPreprocessor) -> ModelProto:
    """The preprocessor as a model: input `photo` uint8 (N, H, W, 3), output `pixels` float32 (N, 3, S, S)."""
    part = preprocessing_nodes(preprocessor)
    size = preprocessor.size_px
    photo = helper.make_tensor_value_info("photo", TensorProto.UINT8, ["N", "H", "W", 3])
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, size, size])
    graph = helper.make_graph(part.nodes, "preprocessing", [photo], [pixels], part.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="pillsnap")
    model.ir_version = IR_VERSION
    helper.set_model_props(
        model,
        {"preprocessing": json.dumps(preprocessor.get_config()), "preprocessing_digest": preprocessor.digest()},
    )
    checker.check_model(model, full_check=True)
    return model
