import copy

import numpy as np
import onnxruntime as ort
import pytest
import torch

from projects.pillsnap.onnx_export.network import calibration_model, describe_calibration, network_model
from shared.calibrators import DomainTemperatureCalibrator, IdentityCalibrator, PlattCalibrator, TemperatureCalibrator
from tests.fabricate.pill_network import SmallPillNetwork

LOGITS = np.random.default_rng(0).normal(0, 3, (4, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def network():
    return SmallPillNetwork()


@pytest.fixture(scope="module")
def model(network):
    return network_model(network, 64)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_any_number_of_photos_gives_the_logits_of_torch(network, model, count):
    pixels = torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(count))
    with torch.inference_mode():
        expected = network(pixels)
    (found,) = ort.InferenceSession(model.SerializeToString()).run(["logits"], {"pixels": pixels.numpy()})
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_batch_norm_is_folded_and_means_are_pooled(model):
    kinds = [node.op_type for node in model.graph.node]
    assert "BatchNormalization" not in kinds
    assert kinds.count("GlobalAveragePool") == 1  # squeeze-and-excite; the last mean drops height and width
    used = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= used


def test_nothing_of_the_machine_is_in_the_file(model):
    assert b"/projects/" not in model.SerializeToString()
    assert b"site-packages" not in model.SerializeToString()
    assert not model.metadata_props


def test_the_network_is_left_as_it_was(network):
    network = copy.deepcopy(network).to(memory_format=torch.channels_last)
    before = {name: (tensor.stride(), tensor.clone()) for name, tensor in network.state_dict().items()}
    network_model(network, 64)
    after = network.state_dict()
    assert all(after[name].stride() == stride for name, (stride, _) in before.items())
    assert all(torch.equal(after[name], tensor) for name, (_, tensor) in before.items())


def test_other_calibrators_are_traced():
    calibrator = PlattCalibrator(torch.linspace(0.6, 1.4, 5), torch.linspace(-0.5, 0.5, 5))
    session = ort.InferenceSession(calibration_model(calibrator, 5).SerializeToString())
    for count in (1, 3, 4):
        (found,) = session.run(["calibrated"], {"logits": LOGITS[:count]})
        expected = calibrator(torch.from_numpy(LOGITS[:count]), None).softmax(dim=1)
        np.testing.assert_allclose(torch.from_numpy(found).softmax(dim=1), expected, atol=1e-6)
    assert describe_calibration(calibrator) == {"method": "platt", "temperature": None}


@pytest.mark.parametrize(
    ("calibrator", "said"),
    [
        (None, {"method": "identity", "temperature": None}),
        (IdentityCalibrator(), {"method": "identity", "temperature": None}),
        (TemperatureCalibrator(1.37), {"method": "temperature", "temperature": 1.37}),
        (DomainTemperatureCalibrator(1.7, [0.9, 2.0]), {"method": "domain_temperature", "temperature": 1.7}),
    ],
)
def test_temperatures_are_exact(calibrator, said):
    session = ort.InferenceSession(calibration_model(calibrator, 5).SerializeToString())
    (found,) = session.run(["calibrated"], {"logits": LOGITS})
    expected = torch.from_numpy(LOGITS) if calibrator is None else calibrator(torch.from_numpy(LOGITS), None)
    np.testing.assert_array_equal(found, expected.numpy())
    assert describe_calibration(calibrator) == said
