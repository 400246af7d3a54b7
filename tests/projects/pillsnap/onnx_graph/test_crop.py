import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from projects.pillsnap.onnx_graph.builder import GraphBuilder
from projects.pillsnap.onnx_graph.crop import centre_square
from projects.pillsnap.preprocess import UnifiedPreprocessor
from tests.fabricate.pill_photos import natural

PREPROCESSOR = UnifiedPreprocessor(size_px=48)


@pytest.fixture(scope="module")
def session():
    build = GraphBuilder("x/")
    result = centre_square(build, "photo", 48)
    photo = helper.make_tensor_value_info("photo", TensorProto.UINT8, ["N", "H", "W", 3])
    out = helper.make_tensor_value_info(result, TensorProto.UINT8, ["N", 3, 48, 48])
    graph = helper.make_graph(build.part.nodes, "crop", [photo], [out], build.part.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("size", [(48, 48), (48, 49), (51, 48), (48, 200), (49, 48)])
def test_the_crop_is_exact(session, size):
    image = natural(*size)
    found = session.run(None, {"photo": image[None]})[0][0]
    assert np.array_equal(found.transpose(1, 2, 0), PREPROCESSOR.square(image))


@pytest.mark.parametrize("size", [(49, 49), (96, 96), (97, 130), (500, 333), (7, 20), (1, 1), (1, 300)])
def test_the_resize_is_within_one_level(session, size):
    images = np.stack([natural(*size, seed) for seed in range(3)])
    found = session.run(None, {"photo": images})[0].transpose(0, 2, 3, 1).astype(int)
    expected = np.stack([PREPROCESSOR.square(image) for image in images])
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.02
