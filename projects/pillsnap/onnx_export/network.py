"""The trained network as an ONNX model from `pixels` to `logits`, written for the runtime."""

import copy
import tempfile
import warnings
from pathlib import Path

import onnx
import torch
from onnx import helper, numpy_helper
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from projects.pillsnap.onnx_export.head import IR_VERSION, OPSET
from shared.calibrators import Calibrator

_SCALED = ("temperature", "domain_temperature")  # a photo of unknown origin is divided by the common temperature


class _Calibration(nn.Module):
    """A calibrator whose photos come from an unknown domain."""

    def __init__(self, calibrator: Calibrator) -> None:
        super().__init__()
        self.calibrator = calibrator

    def forward(self, logits: Tensor) -> Tensor:
        """Calibrated logits (N, K)."""
        calibrated: Tensor = self.calibrator(logits, None)
        return calibrated


def network_model(network: nn.Module, size_px: int) -> onnx.ModelProto:
    """Write a network down, batch normalisation folded into the convolutions.

    Args:
        network: From (N, 3, S, S) float32 to logits (N, K); in evaluation mode.
        size_px: S.

    Returns:
        Input `pixels` (N, 3, S, S), output `logits` (N, K), any N.
    """
    plain = copy.deepcopy(network).cpu().to(memory_format=torch.contiguous_format).eval()
    model = _exported(plain, torch.zeros(2, 3, size_px, size_px), "pixels", "logits")
    with tempfile.TemporaryDirectory() as folder:
        raw, prepared = Path(folder, "raw.onnx"), Path(folder, "prepared.onnx")
        onnx.save(model, raw)
        # The dimensions are known but for N, so the symbolic pass has nothing to add.
        quant_pre_process(str(raw), str(prepared), skip_symbolic_shape=True)
        model = onnx.load(prepared)
    del model.metadata_props[:]
    _use_global_pooling(model.graph)
    return model


def calibration_model(calibrator: Calibrator | None, num_classes: int) -> onnx.ModelProto:
    """A calibrator as an ONNX model from `logits` to `calibrated`, both (N, K) float32.

    A temperature becomes one division, exactly what the calibrator computes; None and "identity" become nothing; any
    other method is traced.
    """
    method = "identity" if calibrator is None else calibrator.method
    if calibrator is not None and method not in (*_SCALED, "identity"):
        return _exported(_Calibration(calibrator).eval(), torch.randn(2, num_classes), "logits", "calibrated")
    constants = []
    node = helper.make_node("Identity", ["logits"], ["calibrated"], name="calibrate")
    if calibrator is not None and method in _SCALED:
        temperature = torch.as_tensor(calibrator.temperature).to(torch.float32).numpy()
        constants = [numpy_helper.from_array(temperature, "temperature")]
        node = helper.make_node("Div", ["logits", "temperature"], ["calibrated"], name="calibrate")
    infos = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", num_classes])
        for name in ("logits", "calibrated")
    ]
    graph = helper.make_graph([node], "calibration", infos[:1], infos[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def describe_calibration(calibrator: Calibrator | None) -> dict[str, str | float | None]:
    """Method and, where it has one, the temperature that a photo of unknown origin is divided by."""
    if calibrator is None:
        return {"method": "identity", "temperature": None}
    temperature = float(torch.as_tensor(calibrator.temperature)) if calibrator.method in _SCALED else None
    return {"method": calibrator.method, "temperature": temperature}


def _exported(module: nn.Module, example: Tensor, given: str, out: str) -> onnx.ModelProto:
    """Trace a module of one tensor, the first dimension free."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of the exporter about itself
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("N")},),
            input_names=[given],
            output_names=[out],
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for entry in [*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info]:
        del entry.metadata_props[:]  # source lines and paths of the machine that exported
    return model


def _use_global_pooling(graph: onnx.GraphProto) -> None:
    """Write a mean over height and width that keeps them as GlobalAveragePool.

    The same sum; but the 8-bit kernels know that operator only. Squeeze-and-excite of tf_efficientnetv2_s at 512 px
    took 20 of 98 ms as ReduceMean between 8-bit layers, 0.8 ms as GlobalAveragePool (one thread, 2026-11-21).
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "ReduceMean" or len(node.input) < 2 or node.input[1] not in constants:
            continue
        axes = sorted(axis % 4 for axis in numpy_helper.to_array(constants[node.input[1]]).tolist())
        keeps = next((attribute.i for attribute in node.attribute if attribute.name == "keepdims"), 1)
        if axes == [2, 3] and keeps == 1:
            node.op_type = "GlobalAveragePool"
            del node.input[1:]
            del node.attribute[:]
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
