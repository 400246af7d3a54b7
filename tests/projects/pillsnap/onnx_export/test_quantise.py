import numpy as np
import onnx
import onnxruntime as ort
import pytest

from projects.pillsnap.onnx_export.network import network_model
from projects.pillsnap.onnx_export.quantise import find_harm, quantise, units
from projects.pillsnap.onnx_export.ranges import choose_ranges, collect_values
from projects.pillsnap.preprocess import UnifiedPreprocessor
from projects.pillsnap.served_model import session_options
from tests.fabricate.pill_network import SmallPillNetwork, plain_photos

PIXELS = UnifiedPreprocessor(size_px=64)(plain_photos(24))


@pytest.fixture(scope="module")
def model():
    return network_model(SmallPillNetwork(), 64)


@pytest.fixture(scope="module")
def ranges(model):
    return choose_ranges(model, collect_values(model, [PIXELS[:12], PIXELS[12:]], 2), "minmax")


def logits(model, pixels=PIXELS):
    session = ort.InferenceSession(model.SerializeToString(), session_options(1))
    return session.run(["logits"], {"pixels": pixels})[0]


def runs_as(model, tmp_path):
    """Operators that the runtime carries out after its own rewriting."""
    options = session_options(1)
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(model.SerializeToString(), options)
    return [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]


def test_eight_bits_stay_near_the_original(model, ranges):
    before = model.SerializeToString()
    exact, found = logits(model), logits(quantise(model, ranges))
    assert model.SerializeToString() == before
    assert 0 < np.abs(found - exact).max() < 0.1 * np.ptp(exact)
    assert (found.argmax(1) == exact.argmax(1)).mean() >= 0.9


def test_the_runtime_fuses_all_of_it(model, ranges, tmp_path):
    kinds = runs_as(quantise(model, ranges), tmp_path)
    assert {"QLinearConv", "QLinearSigmoid", "QLinearMul", "QLinearAdd", "QLinearGlobalAveragePool"} <= set(kinds)
    assert not {"Conv", "Sigmoid", "Mul", "QuickGelu"} & set(kinds)
    assert kinds.count("QuantizeLinear") == 1


def test_weights_are_signed_and_per_channel(model, ranges):
    tensors = {tensor.name: tensor for tensor in quantise(model, ranges).graph.initializer}
    weights = [
        tensor for tensor in tensors.values() if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 4
    ]
    assert len(weights) == 4
    scales = [tensors[tensor.name.replace("_quantized", "_scale")] for tensor in weights]
    assert [list(scale.dims) for scale in scales] == [[tensor.dims[0]] for tensor in weights]


def test_excluded_nodes_stay(model, ranges, tmp_path):
    first = next(node.name for node in model.graph.node if node.op_type == "Conv")
    assert runs_as(quantise(model, ranges, exclude=[first]), tmp_path).count("QLinearConv") == 3


def test_units_cover_every_node_once(model):
    names = [node.name for node in model.graph.node]
    for most in (2, 3, 24):
        parts = units(model.graph, most)
        assert [name for part in parts for name in part] == names
        assert len(parts) == min(most, 4)


def test_harm_is_found_where_it_was_done(model, ranges):
    """A range that is far too narrow hurts the part that reads it."""
    convolution = [node for node in model.graph.node if node.op_type == "Conv"][1]
    broken = dict(ranges) | {convolution.output[0]: (-0.01, 0.01)}
    exact = logits(model)
    harm = find_harm(model, broken, lambda found: float(np.square(logits(found) - exact).mean()))
    assert convolution.name in harm[0][1]
    assert harm[0][0] > 5 * harm[1][0]
    assert [entry[0] for entry in harm] == sorted((entry[0] for entry in harm), reverse=True)
