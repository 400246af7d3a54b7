import cv2
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from projects.pillsnap.onnx_graph.builder import GraphBuilder
from projects.pillsnap.onnx_graph.clahe import clahe

SIZE = 64


def session(clip_limit, grid):
    """CLAHE alone: int32 (N, 1, SIZE * SIZE) -> the same."""
    build = GraphBuilder("x/")
    result = clahe(build, "lightness", SIZE, clip_limit, grid)
    shape = ["N", 1, SIZE * SIZE]
    lightness = helper.make_tensor_value_info("lightness", TensorProto.INT32, shape)
    out = helper.make_tensor_value_info(result, TensorProto.INT32, shape)
    graph = helper.make_graph(build.part.nodes, "clahe", [lightness], [out], build.part.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def planes():
    rng = np.random.default_rng(0)
    yield rng.integers(0, 256, (SIZE, SIZE))
    yield np.full((SIZE, SIZE), 77)
    yield np.add.outer(np.arange(SIZE), np.arange(SIZE))
    yield np.clip(rng.normal(200, 60, (SIZE, SIZE)), 0, 255)
    yield rng.integers(0, 2, (SIZE, SIZE)) * 255
    yield np.where(np.arange(SIZE) < SIZE // 3, 3, rng.integers(90, 99, (SIZE, SIZE)))


@pytest.mark.parametrize("grid", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("clip_limit", [0.01, 1.0, 2.0, 3.7, 40.0, 1000.0])
def test_it_equals_opencv_to_the_bit(grid, clip_limit):
    images = np.stack(list(planes())).astype(np.uint8)
    found = session(clip_limit, grid).run(None, {"lightness": images.reshape(-1, 1, SIZE * SIZE).astype(np.int32)})[0]
    for image, result in zip(images, found.reshape(images.shape), strict=True):
        assert np.array_equal(result, cv2.createCLAHE(clip_limit, (grid, grid)).apply(image))


def test_a_single_level_by_hand():
    """All pixels at one level, nothing clipped: the curve jumps to 255 there."""
    image = np.full((1, 1, SIZE * SIZE), 9, np.int32)
    assert (session(1000.0, 2).run(None, {"lightness": image})[0] == 255).all()
