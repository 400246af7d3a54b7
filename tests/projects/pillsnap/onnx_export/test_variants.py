import numpy as np
import onnx
import onnxruntime as ort
import pytest

from projects.pillsnap.onnx_export import variants
from projects.pillsnap.onnx_export.network import network_model
from projects.pillsnap.onnx_export.variants import halve, quantised_variant
from projects.pillsnap.preprocess import UnifiedPreprocessor
from tests.fabricate.pill_network import SmallPillNetwork, plain_photos

PIXELS = UnifiedPreprocessor(size_px=64)(plain_photos(24))
BATCHES = [PIXELS[:12], PIXELS[12:]]


@pytest.fixture(scope="module")
def model():
    return network_model(SmallPillNetwork(), 64)


def logits(model):
    return ort.InferenceSession(model.SerializeToString()).run(["logits"], {"pixels": PIXELS})[0]


def test_halved_weights_are_rounded_once(model):
    halved = halve(model)
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in halved.graph.initializer}
    exact = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    large = {name for name, values in exact.items() if values.size >= 1024}
    assert large
    for name in large:
        assert stored[f"{name}/float16"].dtype == np.float16
        np.testing.assert_array_equal(stored[f"{name}/float16"], exact[name].astype(np.float16))
    onnx.checker.check_model(halved)
    np.testing.assert_allclose(logits(halved), logits(model), atol=0.02)
    assert not np.array_equal(logits(halved), logits(model))


def test_the_method_that_changes_least_is_chosen(model):
    found = quantised_variant(model, BATCHES, BATCHES, least_agreement=0.0)
    tried = found.notes["tried"]
    assert [entry["ranges"] for entry in tried] == list(variants.METHODS)
    assert found.notes["chosen"]["mean_abs_probability"] == min(entry["mean_abs_probability"] for entry in tried)
    assert found.notes["calibration_images"] == 24


def test_parts_stay_in_float32_until_it_agrees(model, monkeypatch):
    """Ranges that are far too narrow for the stem, whatever the method."""
    stem = next(node for node in model.graph.node if node.op_type == "Conv").output[0]
    choose = variants.choose_ranges
    monkeypatch.setattr(variants, "choose_ranges", lambda *given: choose(*given) | {stem: (-0.01, 0.01)})
    found = quantised_variant(model, BATCHES, BATCHES, least_agreement=0.9)
    tried, chosen = found.notes["tried"], found.notes["chosen"]
    assert max(entry["top1_agreement"] for entry in tried if not entry["parts_in_float32"]) < 0.9
    assert chosen["parts_in_float32"] >= 1
    assert chosen["top1_agreement"] >= 0.9
    assert chosen is tried[-1]
