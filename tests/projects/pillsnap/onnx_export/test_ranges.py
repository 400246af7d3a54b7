import numpy as np
import onnx
import pytest
from onnx import helper

from projects.pillsnap.onnx_export.network import network_model
from projects.pillsnap.onnx_export.ranges import METHODS, choose_ranges, collect_values, silu_inputs
from tests.fabricate.pill_network import SmallPillNetwork


def node(kind, inputs, output):
    return helper.make_node(kind, inputs, [output], name=output)


def graph(*nodes):
    infos = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("pixels", "logits")]
    return helper.make_model(
        helper.make_graph(list(nodes), "g", infos[:1], infos[1:]), opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )  # fmt: skip


SILU = graph(node("Sigmoid", ["pixels"], "gate"), node("Mul", ["pixels", "gate"], "logits"))


def test_values_hold_the_extremes_of_every_batch():
    batches = [np.linspace(-9, 5, 3 * 64, dtype=np.float32).reshape(1, 3, 8, 8), np.full((2, 3, 8, 8), 7, np.float32)]
    values = collect_values(SILU, batches, 2)
    assert set(values) == {"pixels", "gate", "logits"}
    assert (values["pixels"].min(), values["pixels"].max()) == (-9, 7)
    np.testing.assert_allclose(values["gate"].max(), 1 / (1 + np.exp(-7)), rtol=1e-6)


def test_no_photo_is_an_error():
    with pytest.raises(ValueError, match="there is no batch of pixels"):
        collect_values(SILU, [], 1)


def test_only_x_times_its_own_sigmoid_is_silu():
    assert silu_inputs(SILU.graph) == {"pixels"}
    gated = graph(node("Sigmoid", ["pixels"], "gate"), node("Mul", ["other", "gate"], "logits"))
    assert silu_inputs(gated.graph) == set()
    read_again = graph(
        node("Sigmoid", ["pixels"], "gate"),
        node("Mul", ["pixels", "gate"], "y"),
        node("Add", ["pixels", "y"], "logits"),
    )
    assert silu_inputs(read_again.graph) == set()


def test_the_network_of_the_tests_has_three():
    assert len(silu_inputs(network_model(SmallPillNetwork(), 64).graph)) == 3


def test_minmax_and_percentile():
    values = {"t": np.concatenate([np.linspace(0, 1, 99_998), [-50, 80]]).astype(np.float32)}
    assert choose_ranges(SILU, values, "minmax") == {"t": (-50.0, 80.0)}
    low, high = choose_ranges(SILU, values, "percentile")["t"]
    assert (low, high) == (pytest.approx(0, abs=1e-3), pytest.approx(1, abs=1e-3))


def squared_error(values, interval, after):
    scale = (interval[1] - interval[0]) / 255
    zero = round(-interval[0] / scale)
    levels = np.clip(np.round(values / scale) + zero, 0, 255)
    return float(np.square(after((levels - zero) * scale) - after(values)).mean())


def silu(x):
    return x / (1 + np.exp(-x))


def test_least_squares_cuts_a_tail_in_front_of_silu_and_errs_less():
    rng = np.random.default_rng(0)
    kept = np.concatenate([rng.normal(0, 2, 5000), rng.uniform(-60, -20, 300)]).astype(np.float32)
    values = {"pixels": kept, "logits": kept}
    found = choose_ranges(SILU, values, "least_squares")
    minmax = (float(kept.min()), float(kept.max()))
    assert found["pixels"][0] > 0.5 * minmax[0]
    assert found["logits"][0] < 0.8 * minmax[0]  # no SILU behind it: the tail is needed
    assert squared_error(kept, found["pixels"], silu) < 0.5 * squared_error(kept, minmax, silu)


def test_constant_tensors_have_a_range():
    values = {"pixels": np.zeros(100, np.float32)}
    for method in METHODS:
        assert choose_ranges(SILU, values, method) == {"pixels": (0.0, 0.0)}


def test_unknown_methods_are_refused():
    with pytest.raises(ValueError, match="method is 'guess', allowed: minmax, percentile"):
        choose_ranges(SILU, {}, "guess")
