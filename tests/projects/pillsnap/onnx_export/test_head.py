import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from projects.pillsnap.evaluation.open_set import NoneOfThese
from projects.pillsnap.onnx_export.description import UNFITTED
from projects.pillsnap.onnx_export.head import OPSET, head_nodes, output_infos, put_metadata

LOGITS = np.random.default_rng(0).normal(0, 4, (50, 7)).astype(np.float32)


def head(none_of_these):
    nodes, constants = head_nodes("calibrated", none_of_these)
    given = helper.make_tensor_value_info("calibrated", onnx.TensorProto.FLOAT, ["N", 7])
    graph = helper.make_graph(nodes, "head", [given], output_infos(7)[:2], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return ort.InferenceSession(model.SerializeToString())


@pytest.mark.parametrize("score", ["msp", "max_logit", "energy"])
def test_each_score_is_that_of_the_open_set(score):
    none_of_these = NoneOfThese(score, slope=1.3, offset=-0.7, threshold=0.4)
    _, found = head(none_of_these).run(None, {"calibrated": LOGITS})
    np.testing.assert_allclose(found, none_of_these.probability(LOGITS), atol=2e-6)


def test_probabilities_are_a_softmax():
    found, _ = head(UNFITTED).run(None, {"calibrated": LOGITS[:1]})
    odds = np.exp(LOGITS[:1].astype(np.float64))
    np.testing.assert_allclose(found, odds / odds.sum(), atol=1e-6)


@pytest.mark.parametrize("score", ["msp", "max_logit", "energy"])
def test_huge_logits_do_not_overflow(score):
    session = head(NoneOfThese(score, slope=1.0, offset=0.0, threshold=0.5))
    huge = np.array([[2e4, -2e4, 0, 0, 0, 0, 0], [-2e4] * 7], np.float32)
    probabilities, none = session.run(None, {"calibrated": huge})
    assert np.isfinite(probabilities).all()
    assert ((none >= 0) & (none <= 1)).all()


def test_an_unfitted_head_never_decides():
    assert not UNFITTED.decide(np.zeros((3, 1000))).any()
    np.testing.assert_allclose(UNFITTED.probability(np.log([[0.5, 0.25, 0.25]])), 0.5, atol=1e-6)


def test_metadata_are_replaced_and_sorted():
    model = helper.make_model(helper.make_graph([], "empty", [], []))
    put_metadata(model, {"z": "1"})
    put_metadata(model, {"b": "2", "a": "3"})
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [("a", "3"), ("b", "2")]
