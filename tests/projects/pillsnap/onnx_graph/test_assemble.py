import json
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from projects.pillsnap.onnx_graph import OPSET, preprocessing_model, preprocessing_nodes
from projects.pillsnap.preprocess import UnifiedPreprocessor
from tests.fabricate.pill_photos import kinds_of_images, natural


def session(model, threads=1):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(preprocessor, images, threads=1):
    return session(preprocessing_model(preprocessor), threads).run(None, {"photo": images})[0]


@pytest.mark.parametrize("size", [128, 512])
def test_every_kind_of_image_is_equal_to_the_bit(size):
    preprocessor = UnifiedPreprocessor(size_px=size)
    network = session(preprocessing_model(preprocessor))
    for name, image in kinds_of_images(size):
        found = network.run(None, {"photo": image[None]})[0]
        assert found.dtype == np.float32
        assert np.array_equal(found, preprocessor(image[None])), name


@pytest.mark.parametrize(
    "values",
    [
        {"size_px": 96}, {"size_px": 96, "clahe": False}, {"size_px": 120, "grid": 6, "clip_limit": 3.0},
        {"size_px": 63, "grid": 7}, {"size_px": 64, "grid": 1, "clip_limit": 40.0}, {"size_px": 64, "clip_limit": 0.01},
        {"size_px": 64, "grid": 64}, {"size_px": 64, "mean": (0, 0, 0), "std": (1, 2, 3)},
    ],
)  # fmt: skip
def test_every_setting_is_equal_to_the_bit(values):
    preprocessor = UnifiedPreprocessor(**values)
    images = np.stack([image for _, image in kinds_of_images(preprocessor.size_px)])
    assert np.array_equal(run(preprocessor, images), preprocessor(images))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_batch_is_its_images(threads):
    preprocessor = UnifiedPreprocessor(size_px=64)
    network = session(preprocessing_model(preprocessor), threads)
    images = np.stack([image for _, image in kinds_of_images(64)])
    for count in (1, 2, 3, len(images)):
        assert np.array_equal(network.run(None, {"photo": images[:count]})[0], preprocessor(images[:count]))


@pytest.mark.parametrize("size", [(97, 64), (64, 91), (65, 64), (64, 65)])
def test_the_crop_alone_is_exact(size):
    """The shorter side is S, so nothing is resized."""
    preprocessor = UnifiedPreprocessor(size_px=64)
    image = natural(*size)[None]
    assert np.array_equal(run(preprocessor, image), preprocessor(image))


@pytest.mark.parametrize("size", [(600, 800), (801, 600), (300, 300), (100, 77), (1, 1), (2, 90), (1300, 1700)])
def test_resizing_differs_by_one_grey_level_at_most(size):
    preprocessor = UnifiedPreprocessor(size_px=128, clahe=False, mean=(0, 0, 0), std=(1, 1, 1))
    image = natural(*size, seed=3)[None]
    levels = np.abs(run(preprocessor, image) - preprocessor(image)) * 255
    assert levels.max() < 1.01
    assert (levels > 0.5).mean() < 0.005


def test_behind_a_resize_clahe_stays_close():
    """One level before CLAHE can be several after it, in few pixels."""
    preprocessor = UnifiedPreprocessor(size_px=128, mean=(0, 0, 0), std=(1, 1, 1))
    image = natural(600, 800, seed=3)[None]
    levels = np.abs(run(preprocessor, image) - preprocessor(image)) * 255
    assert levels.mean() < 0.02
    assert (levels > 1.5).mean() < 0.005


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), low=st.integers(0, 255), span=st.integers(0, 255))
def test_random_images_are_equal_to_the_bit(seed, low, span):
    rng = np.random.default_rng(seed)
    image = np.clip(low + rng.integers(0, span + 1, (1, 32, 32, 3)), 0, 255).astype(np.uint8)
    assert np.array_equal(RANDOM_SESSION.run(None, {"photo": image})[0], RANDOM_PREPROCESSOR(image))


RANDOM_PREPROCESSOR = UnifiedPreprocessor(size_px=32)
RANDOM_SESSION = session(preprocessing_model(RANDOM_PREPROCESSOR))


@pytest.mark.slow
def test_all_colours_come_through():
    """2^24 colours as 64 images of 512 x 512, without and with CLAHE's change of L."""
    preprocessor = UnifiedPreprocessor()
    network = session(preprocessing_model(preprocessor), 2)
    red, green = np.meshgrid(np.arange(512) // 2, np.arange(512) // 2, indexing="ij")
    corner = (np.arange(512) % 2)[:, None] * 2 + np.arange(512) % 2
    for first in range(0, 256, 4):
        image = np.stack([red, green, first + corner], axis=-1).astype(np.uint8)[None]
        assert np.array_equal(network.run(None, {"photo": image})[0], preprocessor(image))


def test_the_model_says_what_it_is():
    preprocessor = UnifiedPreprocessor(size_px=64)
    model = preprocessing_model(preprocessor)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert UnifiedPreprocessor.from_config(json.loads(facts["preprocessing"])) == preprocessor
    assert facts["preprocessing_digest"] == preprocessor.digest()
    assert model.opset_import[0].version == OPSET
    inputs, outputs = session(model).get_inputs(), session(model).get_outputs()
    assert [(entry.name, entry.type, entry.shape) for entry in inputs] == [
        ("photo", "tensor(uint8)", ["N", "H", "W", 3])
    ]
    assert [(entry.name, entry.type, entry.shape) for entry in outputs] == [
        ("pixels", "tensor(float)", ["N", 3, 64, 64])
    ]


def test_names_are_unique_and_prefixed():
    part = preprocessing_nodes(UnifiedPreprocessor(size_px=64), "in", "out", prefix="front/")
    made = [name for node in part.nodes for name in node.output] + [tensor.name for tensor in part.initializers]
    assert not [name for name, count in Counter(made).items() if count > 1]
    assert [name for name in made if not name.startswith("front/")] == ["out"]
    nodes = [node.name for node in part.nodes]
    assert len(set(nodes)) == len(nodes)
    read = {name for node in part.nodes for name in node.input if name}
    assert read - set(made) == {"in"}
    assert {tensor.name for tensor in part.initializers} <= read


@pytest.mark.parametrize("opset", [OPSET, 20, 23])
def test_it_stands_in_front_of_a_network(opset):
    preprocessor = UnifiedPreprocessor(size_px=64)
    part = preprocessing_nodes(preprocessor, "photo", "ready")
    nodes = [*part.nodes, helper.make_node("GlobalAveragePool", ["ready"], ["mean"])]
    photo = helper.make_tensor_value_info("photo", TensorProto.UINT8, ["N", "H", "W", 3])
    mean = helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["N", 3, 1, 1])
    graph = helper.make_graph(nodes, "whole", [photo], [mean], part.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 9
    onnx.checker.check_model(model, full_check=True)
    images = np.stack([natural(64, 64, seed) for seed in range(3)])
    expected = preprocessor(images).mean(axis=(2, 3), keepdims=True)
    assert np.allclose(session(model).run(None, {"photo": images})[0], expected, atol=1e-5)


def test_it_means_the_same_without_onnxruntime():
    """ONNX's own reference evaluator agrees to the bit, so nothing leans on one runtime's liberties."""
    preprocessor = UnifiedPreprocessor(size_px=32, grid=2)
    part = preprocessing_nodes(preprocessor)
    image = natural(32, 32)[None]
    # The evaluator has no antialiased Resize, which is the identity here, and its GatherElements takes 64 entries at
    # most; over one axis of a list Gather is the same by definition
    for node in part.nodes:
        if node.op_type == "Resize":
            node.CopyFrom(helper.make_node("Identity", [node.input[0]], list(node.output)))
        elif node.op_type == "GatherElements":
            node.op_type = "Gather"
    photo = helper.make_tensor_value_info("photo", TensorProto.UINT8, ["N", "H", "W", 3])
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, 32, 32])
    graph = helper.make_graph(part.nodes, "reference", [photo], [pixels], part.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    assert np.array_equal(ReferenceEvaluator(model).run(None, {"photo": image})[0], preprocessor(image))


def test_the_graph_is_small():
    """It rides in a file that shall stay below 25 MB."""
    assert preprocessing_model(UnifiedPreprocessor()).ByteSize() < 1_200_000
