import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from shared.calibrators import (
    DomainTemperatureCalibrator,
    IdentityCalibrator,
    PlattCalibrator,
    TemperatureCalibrator,
)
from shared.calibrators.base import class_margins
from shared.calibrators.isotonic import fit_isotonic
from tests.shared.calibrators.samples import planted


def isotonic():
    logits, target = planted(400, 3, 2.0, seed=0)
    return fit_isotonic(class_margins(logits), target, [torch.ones(400, dtype=torch.bool)])[0]


CALIBRATORS = {
    "identity": IdentityCalibrator,
    "temperature": lambda: TemperatureCalibrator(1.7),
    "domain_temperature": lambda: DomainTemperatureCalibrator(1.7, [3.0, 0.4]),
    "platt": lambda: PlattCalibrator(torch.tensor([0.5, 1.2, 0.8]), torch.tensor([0.1, -0.3, 0.0])),
    "isotonic": isotonic,
}


class Calibrated(nn.Module):
    """What is exported: a network with its calibrator behind it, giving probabilities."""

    def __init__(self, calibrator):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        self.calibrator = calibrator

    def forward(self, inputs, domain):
        return self.calibrator(self.network(inputs), domain).softmax(dim=1)


def batch(size):
    return torch.randn(size, 4) * 3, torch.arange(size) % 4 - 1  # domains -1, 0, 1 and one never seen


@pytest.fixture(params=CALIBRATORS)
def model(request):
    return Calibrated(CALIBRATORS[request.param]()).eval()


def test_exported_program_gives_equal_probabilities(model):
    size = torch.export.Dim("batch", min=1)
    program = torch.export.export(model, batch(7), dynamic_shapes=({0: size}, {0: size})).module()
    for number in (1, 3, 50):
        inputs = batch(number)
        torch.testing.assert_close(program(*inputs), model(*inputs), rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    "dynamo", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["legacy exporter", "dynamo exporter"]
)
def test_onnx_gives_equal_probabilities(model, tmp_path, dynamo):
    if dynamo:
        pytest.importorskip("onnxscript", reason="torch.onnx.export(dynamo=True) needs onnxscript")
        size = torch.export.Dim("batch", min=1)
        how = {"dynamic_shapes": ({0: size}, {0: size})}
    else:
        how = {"dynamic_axes": {"inputs": {0: "batch"}, "domain": {0: "batch"}}}
    path = tmp_path / "model.onnx"
    torch.onnx.export(model, batch(7), path, dynamo=dynamo, input_names=["inputs", "domain"], **how)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    used = {value.name for value in session.get_inputs()}
    for number in (1, 3, 50):
        inputs, domain = batch(number)
        feed = {"inputs": inputs.numpy(), "domain": domain.numpy()}
        theirs = session.run(None, {name: value for name, value in feed.items() if name in used})[0]
        np.testing.assert_allclose(theirs, model(inputs, domain).detach().numpy(), atol=1e-6)
