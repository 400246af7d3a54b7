import json

import numpy as np
import onnx
import pytest

from projects.pillsnap.evaluation.open_set import NoneOfThese
from projects.pillsnap.onnx_export import export_model as subject
from projects.pillsnap.onnx_export.certificate import certificate_path
from projects.pillsnap.onnx_export.description import pill_classes
from projects.pillsnap.onnx_export.export_model import Photos, Source, choose, export_model
from projects.pillsnap.onnx_export.pages import markdown
from projects.pillsnap.preprocess import UnifiedPreprocessor
from projects.pillsnap.served_model import ModelRefused, ServedModel
from shared.calibrators import TemperatureCalibrator
from tests.fabricate.pill_network import SmallPillNetwork, plain_photos

PREPROCESS = UnifiedPreprocessor(size_px=64)
SOURCE = Source(
    network=SmallPillNetwork(), calibrator=TemperatureCalibrator(3.0), preprocess=PREPROCESS,
    classes=pill_classes([f"K-{i}" for i in range(5)], list("ABCDE")),
    none_of_these=NoneOfThese("energy", slope=0.5, offset=0.3, threshold=0.8), run="small", final_sha256="ab" * 32,
)  # fmt: skip


def photos(count, seed):
    squares = plain_photos(count, seed=seed)
    return Photos(squares, SOURCE.outputs(squares).probabilities.argmax(axis=1), list(plain_photos(2, 90, seed)))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    content = export_model(SOURCE, folder, train=photos(16, 1), val=photos(30, 2), test=photos(20, 3), rounds=3)
    return folder, content


def test_every_variant_is_there_with_its_certificate(exported):
    folder, content = exported
    assert [row["variant"] for row in content["variants"]] == ["fp32", "fp16", "int8"]
    for row in content["variants"]:
        path = folder / row["file"]
        assert path.stat().st_size == row["bytes"]
        certificate = json.loads(certificate_path(path).read_text())
        assert certificate["passed"] == row["within"]
        assert certificate["network_agreement"]["images"] == 30
        assert certificate["source"] == {"run": "small", "final_sha256": "ab" * 32}
    served = ServedModel.load(folder / "model.onnx")
    assert served.variant == content["served"]


def test_float32_is_the_network(exported):
    folder, content = exported
    row = content["variants"][0]
    assert row["within"] is True
    for fold in ("val", "test"):
        assert row[fold]["max_abs_probability"] < 1e-4
        assert row[fold]["top1_agreement"] == 1.0
        assert row[fold]["accuracy"] == 1.0  # the targets are the network's own answers
    fresh = plain_photos(7, seed=9)
    expected, answer = SOURCE.outputs(fresh), ServedModel.load(folder / "model_fp32.onnx").run(fresh)
    np.testing.assert_allclose(answer.probabilities, expected.probabilities, atol=1e-4)
    np.testing.assert_allclose(answer.none_of_these, expected.none_of_these, atol=1e-4)


def test_the_preprocessing_inside_is_exact_on_squares(exported):
    found = exported[1]["preprocessing_agreement"]
    assert found["max_grey_levels"] == 0
    assert found["resized_in_file"]["images"] == 2


def test_eight_bits_are_near(exported):
    row = exported[1]["variants"][2]
    assert 0 < row["val"]["max_abs_probability"] < 0.3
    assert row["val"]["top1_agreement"] >= 0.9
    assert {entry["parts_in_float32"] for entry in row["quantisation"]["tried"]} >= {0}


def test_the_page_has_a_row_for_each(exported):
    page = markdown(exported[1] | {"none_of_these": "None of these: energy."})
    for row in exported[1]["variants"]:
        assert f"| {row['variant']} | {row['bytes'] / 1e6:.1f} |" in page
    assert "Photos: 30 of val, 20 of test" in page
    assert "at most 0 grey levels from the preprocessor on 30 squares" in page


def test_metadata_of_a_real_export(exported):
    metadata = {entry.key: entry.value for entry in onnx.load(exported[0] / "model_int8.onnx").metadata_props}
    assert metadata["variant"] == "int8"
    assert json.loads(metadata["calibration"]) == {"method": "temperature", "temperature": 3.0}
    assert json.loads(metadata["preprocessing"]) == PREPROCESS.get_config()


def test_a_wrong_network_in_the_file_is_not_certified(tmp_path, monkeypatch):
    write = subject.network_model
    monkeypatch.setattr(subject, "network_model", lambda network, size: write(SmallPillNetwork(seed=4), size))
    content = export_model(SOURCE, tmp_path, train=photos(4, 1), val=photos(12, 2), variants=["fp32"], rounds=1)
    assert content["variants"][0]["within"] is False
    with pytest.raises(ModelRefused, match="did not pass its test"):
        ServedModel.load(tmp_path / "model.onnx")


def test_the_pixels_form_leaves_the_preprocessing_outside(tmp_path):
    content = export_model(
        SOURCE, tmp_path, train=photos(4, 1), val=photos(6, 2), variants=["fp32"], form="pixels", rounds=1
    )
    assert content["preprocessing_agreement"]["inside"] is False
    fresh = plain_photos(3, seed=9)
    answer = ServedModel.load(tmp_path / "model.onnx").run(fresh)
    np.testing.assert_allclose(answer.probabilities, SOURCE.outputs(fresh).probabilities, atol=1e-4)


def row(name, within, ratio):
    return {"variant": name, "within": within, "chain": {"ratio": ratio}}


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        ([row("fp32", True, 1.0), row("fp16", True, 0.99), row("int8", True, 0.5)], "int8"),
        ([row("fp32", True, 1.0), row("int8", False, 0.5)], "fp32"),
        ([row("fp32", True, 1.0), row("fp16", True, 0.85), row("int8", True, 0.8)], "int8"),
        ([row("fp32", True, 1.0), row("int8", True, 0.95)], "fp32"),
    ],
)
def test_the_fastest_within_its_tolerances_is_served(rows, chosen):
    assert choose(rows)["variant"] == chosen


def test_unknown_variants_are_refused(tmp_path):
    with pytest.raises(ValueError, match="variants are fp32, int4, allowed: fp32, fp16, int8"):
        export_model(SOURCE, tmp_path, train=photos(1, 1), val=photos(1, 1), variants=["fp32", "int4"])
