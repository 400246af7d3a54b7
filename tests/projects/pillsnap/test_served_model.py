import json
import subprocess
import sys
import threading

import numpy as np
import onnx
import pytest

from projects.pillsnap import served_model
from projects.pillsnap.onnx_export.certificate import certificate_path, sha256_hex
from projects.pillsnap.preprocess import UnifiedPreprocessor
from projects.pillsnap.served_model import ModelRefused, ServedModel
from tests.fabricate.pill_model import NONE_OF_THESE, TEMPERATURE, colours, write_tiny_model

SIZE = 64


@pytest.fixture
def photos():
    return np.random.default_rng(3).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)


def expected(photos, num_classes=5):
    """The tiny model by hand, in double precision."""
    mean = photos.astype(np.float64).mean((1, 2)) / 255
    logits = -40 * ((mean[:, None] - colours(num_classes)[None]) ** 2).sum(2) / TEMPERATURE
    odds = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = odds / odds.sum(1, keepdims=True)
    return probabilities, NONE_OF_THESE.probability(logits)


def edit(path, change, recertify=True):
    """Change a model file, and with `recertify` the hash in its certificate too."""
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    if recertify:
        edit_certificate(path, lambda content: content["model"].update(sha256=sha256_hex(path.read_bytes())))


def edit_certificate(path, change):
    content = json.loads(certificate_path(path).read_text())
    change(content)
    certificate_path(path).write_text(json.dumps(content))


def set_metadata(key, value):
    def change(model):
        entries = {entry.key: entry for entry in model.metadata_props}
        if value is None:
            model.metadata_props.remove(entries[key])
        else:
            entries[key].value = value

    return change


@pytest.mark.parametrize("shape", [(3, SIZE, SIZE, 3), (1, SIZE, SIZE, 3), (2, 40, 90, 3)])
def test_photos_are_answered_as_by_hand(tmp_path, shape):
    photos = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    answer = ServedModel.load(write_tiny_model(tmp_path, size_px=SIZE)).run(photos)
    probabilities, none_of_these = expected(photos)
    assert answer.probabilities.dtype == answer.none_of_these.dtype == np.float32
    np.testing.assert_allclose(answer.probabilities, probabilities, atol=1e-5)
    np.testing.assert_allclose(answer.none_of_these, none_of_these, atol=1e-5)


def test_the_pixels_form_is_preprocessed_here(tmp_path, photos):
    plain = UnifiedPreprocessor(size_px=SIZE, clahe=False)  # without CLAHE the mean colour survives the preprocessing
    model = ServedModel.load(write_tiny_model(tmp_path, form="pixels", preprocessing=plain))
    probabilities, _ = expected(photos)
    np.testing.assert_allclose(model.run(photos).probabilities, probabilities, atol=1e-5)


def test_what_is_known_about_a_model(tmp_path):
    model = ServedModel.load(str(write_tiny_model(tmp_path, num_classes=3, size_px=SIZE, version="v7")), threads=2)
    assert [pill.kcode for pill in model.classes] == ["K-000000", "K-000001", "K-000002"]
    assert model.classes[1].name == "Tablet 1"
    assert (model.version, model.variant, model.threshold, model.threads) == ("v7", "fp32", NONE_OF_THESE.threshold, 2)
    assert model.preprocess == UnifiedPreprocessor(size_px=SIZE)
    assert model.certificate["model"]["file"] == "model.onnx"


def test_many_threads_share_one_model(tmp_path):
    model = ServedModel.load(write_tiny_model(tmp_path, size_px=SIZE, work=5))
    photos = np.random.default_rng(5).integers(0, 256, (24, 1, SIZE, SIZE, 3), dtype=np.uint8)
    photos[::2] //= 3
    answers = [None] * len(photos)

    def work(start):
        for i in range(start, len(photos), 4):
            answers[i] = model.run(photos[i]).probabilities[0]

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(np.stack(answers), expected(photos[:, 0])[0], atol=1e-5)


@pytest.mark.parametrize(
    "photos",
    [
        np.zeros((1, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8), np.zeros((1, 8, 8, 4), np.uint8),
        np.zeros((0, 8, 8, 3), np.uint8), np.zeros((1, 0, 8, 3), np.uint8),
    ],
)  # fmt: skip
def test_other_arrays_are_refused(tmp_path, photos):
    model = ServedModel.load(write_tiny_model(tmp_path))
    with pytest.raises(ValueError, match=r"allowed: uint8 \(N, H, W, 3\)"):
        model.run(photos)


def test_a_fault_of_one_call_leaves_the_model_usable(tmp_path, photos):
    model = ServedModel.load(write_tiny_model(tmp_path, crash_on_black=True))
    with pytest.raises(Exception, match="out of data bounds"):
        model.run(photos * 0)
    np.testing.assert_allclose(model.run(photos).probabilities, expected(photos)[0], atol=1e-5)


def test_without_a_file_or_certificate(tmp_path):
    with pytest.raises(ModelRefused, match=r"model file .*none\.onnx cannot be read: No such file"):
        ServedModel.load(tmp_path / "none.onnx")
    path = write_tiny_model(tmp_path)
    certificate_path(path).unlink()
    with pytest.raises(ModelRefused, match=r"has no certificate \(model\.certificate\.json is missing\)"):
        ServedModel.load(path)


def test_a_changed_file_is_refused(tmp_path):
    path = write_tiny_model(tmp_path)
    edit(path, set_metadata("version", "tampered"), recertify=False)
    with pytest.raises(ModelRefused, match=r"is not the file that was certified: its SHA-256 begins with"):
        ServedModel.load(path)


def test_a_failed_or_younger_certificate_is_refused(tmp_path):
    with pytest.raises(ModelRefused, match="did not pass its test against the trained network"):
        ServedModel.load(write_tiny_model(tmp_path, passed=False))
    with pytest.raises(ModelRefused, match=r"certified with onnxruntime 99\.0\.0, this is the older"):
        ServedModel.load(write_tiny_model(tmp_path, runtime="99.0.0"))


def test_another_preprocessing_is_refused(tmp_path):
    path = write_tiny_model(tmp_path, size_px=SIZE)
    with pytest.raises(ModelRefused, match=r"needs another preprocessing: .* that of what this server does with"):
        ServedModel.load(path, preprocessing=UnifiedPreprocessor(size_px=SIZE, clip_limit=3.0))
    edit_certificate(path, lambda content: content.update(preprocessing_digest="0" * 64))
    with pytest.raises(ModelRefused, match="that of its certificate with 000000000000"):
        ServedModel.load(path)
    config = json.dumps({**UnifiedPreprocessor(size_px=SIZE).get_config(), "version": 99})
    edit(path, set_metadata("preprocessing", config))
    with pytest.raises(ModelRefused, match="states a preprocessing that this code does not know"):
        ServedModel.load(path)


def test_a_config_that_is_not_the_digests_is_refused(tmp_path):
    path = write_tiny_model(tmp_path, size_px=SIZE)
    config = json.dumps(UnifiedPreprocessor(size_px=SIZE, clahe=False).get_config())
    edit(path, set_metadata("preprocessing", config))
    with pytest.raises(ModelRefused, match=r"needs another preprocessing: .* that of its metadata with"):
        ServedModel.load(path)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("format", "pillsnap-9", "has format 'pillsnap-9', allowed: 'pillsnap-1'"),
        ("classes", None, "lacks the metadata classes"),
        ("classes", "{}", r"has metadata that cannot be used \(\{\} is no JSON list\)"),
        ("form", "thought", "form is 'thought', allowed: photo, pixels"),
        ("form", "pixels", "has the inputs .*'photo'.*, allowed for form 'pixels'"),
        (
            "none_of_these",
            '{"score": "luck", "slope": 1, "offset": 0, "threshold": 0.5}',
            "score is 'luck'; allowed are msp",
        ),
        ("classes", '[{"kcode": "K-1", "name": "A"}]', "names 1 classes and gives 5 probabilities"),
        ("classes", '[{"kcode": "K-1", "name": "A"}, {"kcode": "K-1", "name": "B"}]', "different kcodes are needed"),
    ],
)
def test_strange_metadata_is_refused(tmp_path, key, value, sentence):
    path = write_tiny_model(tmp_path)
    edit(path, set_metadata(key, value))
    with pytest.raises(ModelRefused, match=sentence):
        ServedModel.load(path)


def test_missing_outputs_are_refused(tmp_path):
    path = write_tiny_model(tmp_path)
    edit(path, lambda model: model.graph.output.pop(1))
    with pytest.raises(ModelRefused, match="has no float32 output none_of_these; it has probabilities, logits"):
        ServedModel.load(path)


def test_bytes_that_are_no_model_are_refused(tmp_path):
    path = write_tiny_model(tmp_path)
    path.write_bytes(b"abc")
    edit_certificate(path, lambda content: content["model"].update(sha256=sha256_hex(b"abc")))
    with pytest.raises(ModelRefused, match=r"onnxruntime .* cannot load .*model\.onnx"):
        ServedModel.load(path)


def test_unknown_providers_and_no_threads(tmp_path):
    path = write_tiny_model(tmp_path)
    with pytest.raises(ModelRefused, match=r"no provider 'GpuOfTomorrow' here, allowed: .*CPUExecutionProvider"):
        ServedModel.load(path, provider="GpuOfTomorrow")
    with pytest.raises(ValueError, match="threads is 0, allowed: 1 or more"):
        ServedModel.load(path, threads=0)


def test_sessions_do_not_spin():
    options = served_model.session_options(3)
    assert options.intra_op_num_threads == 3
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_neither_torch_nor_onnx_is_imported():
    code = (
        "import sys, projects.pillsnap.served_model; "
        "print([name for name in ('torch', 'lightning', 'onnx', 'omegaconf') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
