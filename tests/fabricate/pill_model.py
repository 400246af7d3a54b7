"""A tiny model file with metadata and certificate: the mean colour of a photo decides."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from projects.pillsnap.evaluation.open_set import NoneOfThese
from projects.pillsnap.onnx_export.certificate import write_certificate
from projects.pillsnap.onnx_export.description import ModelDescription, PillClass
from projects.pillsnap.onnx_export.head import OPSET, head_nodes, input_info, output_infos, put_metadata
from projects.pillsnap.preprocess import UnifiedPreprocessor

TEMPERATURE = 1.5
NONE_OF_THESE = NoneOfThese("msp", slope=4.0, offset=-3.0, threshold=0.6)


def colours(num_classes):
    """The mean colour (R, G, B) in [0, 1] that speaks for each class, (K, 3) float32."""
    return np.random.default_rng(7).uniform(0.1, 0.9, (num_classes, 3)).astype(np.float32)


def write_tiny_model(
    folder, num_classes=5, size_px=64, *, form="photo", work=0, crash_on_black=False, passed=True, runtime="1.20.0",
    name="model.onnx", version="tiny-1", none_of_these=NONE_OF_THESE, preprocessing=None,
):  # fmt: skip
    """Write folder/model.onnx and its certificate; returns the path of the model.

    The logit of a class is -40 * the squared distance of the photo's mean colour from the class's colour. No picture is
    enhanced or cropped in it: only the interface is that of a real export.

    Args:
        work: Products of two 256 x 256 matrices that each call computes for nothing: about 0.2 ms each on one core.
        crash_on_black: A photo that is black all over makes the call raise an error inside onnxruntime.
        runtime: Version of onnxruntime that the certificate names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = preprocessing or UnifiedPreprocessor(size_px=size_px)
    description = ModelDescription(
        form=form,
        classes=tuple(PillClass(f"K-{i:06d}", f"Tablet {i}") for i in range(num_classes)),
        preprocessing=preprocess.get_config(),
        preprocessing_digest=preprocess.digest(),
        calibration={"method": "temperature", "temperature": TEMPERATURE},
        none_of_these=none_of_these,
        version=version,
        run="fabricated",
        variant="fp32",
    )
    nodes, constants = _mean_colour(form, preprocess)
    nodes += [
        helper.make_node("Unsqueeze", ["mean", "axis_1"], ["mean_row"]),
        helper.make_node("Sub", ["mean_row", "colours"], ["difference"]),
        helper.make_node("ReduceSumSquare", ["difference", "axis_2"], ["distance"], keepdims=0),
        helper.make_node("Mul", ["distance", "minus_40"], ["first"]),
    ]
    constants |= {
        "axis_1": np.array([1], np.int64), "axis_2": np.array([2], np.int64), "colours": colours(num_classes)[None],
        "minus_40": np.float32(-40), "temperature": np.float32(TEMPERATURE),
    }  # fmt: skip
    last = "first"
    for switch, add in ((work, _work), (crash_on_black, _crash)):
        if switch:
            more, extra = add(last, switch)
            nodes, constants, last = nodes + more, constants | extra, more[-1].output[0]
    nodes += [
        helper.make_node("Identity", [last], ["logits"]),
        helper.make_node("Div", ["logits", "temperature"], ["calibrated"]),
    ]
    head, head_constants = head_nodes("calibrated", none_of_these)
    tensors = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()]
    graph = helper.make_graph(
        nodes + head, "tiny", [input_info(form, size_px)], output_infos(num_classes), tensors + head_constants
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    put_metadata(model, description.as_metadata())
    onnx.checker.check_model(model)
    path = folder / name
    onnx.save(model, path)
    write_certificate(
        path, source={"run": "fabricated", "final_sha256": "0" * 64}, preprocessing_digest=preprocess.digest(),
        versions={"onnxruntime": runtime}, provider="CPUExecutionProvider",
        preprocessing_agreement={"images": 0, "max_grey_levels": 0, "tolerance": 1},
        network_agreement={"images": 0, "max_abs_probability": 0.0, "top1_agreement": 1.0, "tolerances": {}},
        passed=passed,
    )  # fmt: skip
    return path


def _mean_colour(form, preprocess):
    """Nodes from the input to `mean` (N, 3) in [0, 1]."""
    if form == "photo":
        return [
            helper.make_node("Cast", ["photo"], ["levels"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["levels", "sides"], ["level"], keepdims=0),
            helper.make_node("Div", ["level", "highest"], ["mean"]),
        ], {"sides": np.array([1, 2], np.int64), "highest": np.float32(255)}
    return [
        helper.make_node("ReduceMean", ["pixels", "sides"], ["level"], keepdims=0),
        helper.make_node("Mul", ["level", "std"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["mean"]),
    ], {
        "sides": np.array([2, 3], np.int64),
        "std": np.array(preprocess.std, np.float32),
        "shift": np.array(preprocess.mean, np.float32),
    }


def _work(last, products):
    """A loop whose result is added with weight zero; its start depends on the input, so that it cannot be folded."""
    matrix = numpy_helper.from_array(np.full((256, 256), 1 / 256, np.float32), "work_matrix")
    step = helper.make_graph(
        [
            helper.make_node("MatMul", ["work_state", "work_matrix"], ["work_next"]),
            helper.make_node("Identity", ["work_go"], ["work_on"]),
        ],
        "work_step",
        [
            helper.make_tensor_value_info("work_step_number", TensorProto.INT64, []),
            helper.make_tensor_value_info("work_go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("work_state", TensorProto.FLOAT, [256, 256]),
        ],
        [
            helper.make_tensor_value_info("work_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("work_next", TensorProto.FLOAT, [256, 256]),
        ],
        [matrix],
    )
    return [
        helper.make_node("ReduceMean", [last], ["work_seed"], keepdims=0),
        helper.make_node("Expand", ["work_seed", "work_shape"], ["work_start"]),
        helper.make_node("Loop", ["work_count", "", "work_start"], ["work_end"], body=step),
        helper.make_node("ReduceMean", ["work_end"], ["work_mean"], keepdims=0),
        helper.make_node("Mul", ["work_mean", "work_zero"], ["work_nothing"]),
        helper.make_node("Add", [last, "work_nothing"], ["worked"]),
    ], {
        "work_shape": np.array([256, 256], np.int64), "work_count": np.int64(products), "work_zero": np.float32(0),
    }  # fmt: skip


def _crash(last, _):
    """A Gather whose index is out of range exactly where a photo of the batch is black."""
    return [
        helper.make_node("ReduceMax", ["mean", "crash_axis"], ["crash_brightest"], keepdims=0),
        helper.make_node("ReduceMin", ["crash_brightest"], ["crash_darkest"], keepdims=0),
        helper.make_node("LessOrEqual", ["crash_darkest", "crash_black"], ["crash_now"]),
        helper.make_node("Where", ["crash_now", "crash_far", "crash_near"], ["crash_index"]),
        helper.make_node("Gather", ["crash_values", "crash_index"], ["crash_zero"]),
        helper.make_node("Add", [last, "crash_zero"], ["uncrashed"]),
    ], {
        "crash_axis": np.array([1], np.int64), "crash_black": np.float32(1e-6), "crash_far": np.int64(1000),
        "crash_near": np.int64(0), "crash_values": np.zeros(1, np.float32),
    }  # fmt: skip
