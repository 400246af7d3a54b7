import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from scipy.stats import binomtest

from projects.pillsnap.evaluation.open_set import NoneOfThese
from projects.pillsnap.onnx_export import export_model as subject
from projects.pillsnap.onnx_export import variants
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
    content = export_model(
        SOURCE, folder, train=photos(16, 1), val=photos(30, 2), accept=photos(110, 4), test=photos(20, 3), rounds=3
    )
    return folder, content


def test_every_variant_is_there_with_its_certificate(exported):
    folder, content = exported
    assert [row["variant"] for row in content["variants"]] == ["fp32", "fp16", "int8"]
    for row in content["variants"]:
        path = folder / row["file"]
        assert path.stat().st_size == row["bytes"]
        certificate = json.loads(certificate_path(path).read_text())
        assert certificate["passed"] == row["within"]
        assert certificate["network_agreement"]["fold"] == "accept"
        assert certificate["network_agreement"]["images"] == 110
        assert certificate["network_agreement"]["none_of_these_agreement"] == row["accept"]["none_of_these_agreement"]
        assert certificate["network_agreement"]["reasons_against"] == row["reasons_against"]
        assert certificate["source"] == {"run": "small", "final_sha256": "ab" * 32}
    served = ServedModel.load(folder / "model.onnx")
    assert served.variant == content["served"]


def test_float32_is_the_network(exported):
    folder, content = exported
    row = content["variants"][0]
    assert row["within"] is True
    for fold in ("accept", "test"):
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
    assert 0 < row["accept"]["max_abs_probability"] < 0.3
    assert row["accept"]["top1_agreement"] >= 0.9
    agreeing = round(110 * row["accept"]["top1_agreement"])
    expected = binomtest(agreeing, 110).proportion_ci(0.95, method="exact").low
    assert row["accept"]["top1_agreement_lower_95"] == pytest.approx(expected)


def test_parts_that_do_harm_stay_in_float32(tmp_path, monkeypatch):
    """Ranges that are far too narrow for the stem lower the agreement on val, whatever the method."""
    choose_ranges = variants.choose_ranges

    def narrow(model, values, method):
        stem = next(node for node in model.graph.node if node.op_type == "Conv").output[0]
        return choose_ranges(model, values, method) | {stem: (-0.01, 0.01)}

    monkeypatch.setattr(variants, "choose_ranges", narrow)
    folds = {"train": photos(8, 1), "val": photos(30, 2), "accept": photos(100, 4)}
    content = export_model(SOURCE, tmp_path, **folds, variants=["int8"], rounds=1)
    notes = content["variants"][1]["quantisation"]
    assert all(entry["top1_agreement"] < 0.99 for entry in notes["tried"] if not entry["parts_in_float32"])
    assert notes["chosen"]["parts_in_float32"] >= 1
    assert f"| {notes['chosen']['parts_in_float32']} |" in markdown(content | {"none_of_these": ""})


def test_the_choice_is_made_on_val_and_judged_on_accept(tmp_path, monkeypatch):
    given = {}

    def remember(network, calibration, choice, *, least_agreement):
        given.update(calibration=sum(map(len, calibration)), choice=sum(map(len, choice)))
        return variants.Variant(network)

    monkeypatch.setattr(subject, "quantised_variant", remember)
    folds = {"train": photos(8, 1), "val": photos(13, 2), "accept": photos(100, 4)}
    content = export_model(SOURCE, tmp_path, **folds, variants=["int8"], rounds=1)
    assert given == {"calibration": 8, "choice": 13}
    assert content["variants"][1]["accept"]["images"] == 100
    assert "val" not in content["variants"][1]


def test_few_photos_certify_float32_only(tmp_path):
    folds = {"train": photos(8, 1), "val": photos(30, 2), "accept": photos(25, 4)}
    content = export_model(SOURCE, tmp_path, **folds, rounds=1)
    assert [row["within"] for row in content["variants"]] == [True, False, False]
    assert content["served"] == "fp32"
    with pytest.raises(ModelRefused, match="did not pass its test"):
        ServedModel.load(tmp_path / "model_int8.onnx")
    few = "too few photos to certify: 25, 100 are needed"
    assert json.loads(certificate_path(tmp_path / "model_fp16.onnx").read_text())["network_agreement"][
        "reasons_against"
    ] == [few]
    assert f"Not within its tolerance: fp16 ({few})." in markdown(content | {"none_of_these": ""})


def test_another_decision_about_none_of_these_is_not_certified(tmp_path, monkeypatch):
    describe = subject._describe
    other = replace(SOURCE.none_of_these, offset=SOURCE.none_of_these.offset + 3.0)
    monkeypatch.setattr(
        subject, "_describe", lambda source, *rest: describe(replace(source, none_of_these=other), *rest)
    )
    folds = {"train": photos(4, 1), "val": photos(4, 2), "accept": photos(40, 4)}
    content = export_model(SOURCE, tmp_path, **folds, variants=["fp32"], rounds=1)
    (found,) = content["variants"]
    assert found["accept"]["max_abs_probability"] < 1e-4
    assert found["accept"]["none_of_these_agreement"] < 0.99
    (reason,) = found["reasons_against"]
    assert reason.startswith("the decision 'none of these' agrees on")


def test_the_page_has_a_row_for_each(exported):
    page = markdown(exported[1] | {"none_of_these": "None of these: energy."})
    for row in exported[1]["variants"]:
        assert f"| {row['variant']} | {row['bytes'] / 1e6:.1f} |" in page
    columns = next(line for line in page.splitlines() if line.startswith("| variant |")).split(" | ")
    cells = next(line for line in page.splitlines() if line.startswith("| fp32 |")).split(" | ")
    assert len(cells) == len(columns)
    shown = dict(zip(columns, cells, strict=True))
    assert (shown["accept: n"], shown["test: n"]) == ("110", "20")
    assert shown["accept: top-1 agreement"] == f"100.00 % ({100 * 0.025 ** (1 / 110):.2f} %)"
    assert shown["accept: none-of-these agreement"] == "100.00 %"
    assert "Judged on accept, at batch sizes 1 and 3" in page
    assert "at most 0 grey levels from the preprocessor on 50 squares" in page


def test_metadata_of_a_real_export(exported):
    metadata = {entry.key: entry.value for entry in onnx.load(exported[0] / "model_int8.onnx").metadata_props}
    assert metadata["variant"] == "int8"
    assert json.loads(metadata["calibration"]) == {"method": "temperature", "temperature": 3.0}
    assert json.loads(metadata["preprocessing"]) == PREPROCESS.get_config()


def test_a_wrong_network_in_the_file_is_not_certified_and_leaves_nothing_to_serve(tmp_path, monkeypatch):
    folds = {"train": photos(4, 1), "val": photos(4, 2), "accept": photos(12, 4)}
    export_model(SOURCE, tmp_path, **folds, variants=["fp32"], rounds=1)
    served = tmp_path / "model.onnx"
    assert served.exists()
    write = subject.network_model
    monkeypatch.setattr(subject, "network_model", lambda network, size: write(SmallPillNetwork(seed=4), size))
    content = export_model(SOURCE, tmp_path, **folds, variants=["fp32"], rounds=1)
    assert content["variants"][0]["within"] is False
    assert content["served"] is None
    assert not served.exists()
    assert not certificate_path(served).exists()
    with pytest.raises(ModelRefused, match="did not pass its test"):
        ServedModel.load(tmp_path / "model_fp32.onnx")
    assert "Served (`model.onnx`): **none**, no variant is within" in markdown(content | {"none_of_these": ""})


def test_an_earlier_model_is_gone_while_another_is_made(tmp_path, monkeypatch):
    folds = {"train": photos(4, 1), "val": photos(4, 2), "accept": photos(4, 4)}
    export_model(SOURCE, tmp_path, **folds, variants=["fp32"], rounds=1)

    def stop(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(subject, "network_model", stop)
    with pytest.raises(KeyboardInterrupt):
        export_model(SOURCE, tmp_path, **folds, variants=["fp32"], rounds=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model_fp32.certificate.json", "model_fp32.onnx"]


def test_the_pixels_form_leaves_the_preprocessing_outside(tmp_path):
    folds = {"train": photos(4, 1), "val": photos(6, 2), "accept": photos(6, 4)}
    content = export_model(SOURCE, tmp_path, **folds, variants=["fp32"], form="pixels", rounds=1)
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
        ([row("fp32", True, 1.0), row("int8", True, 0.9)], "int8"),
        ([row("fp32", False, 1.0), row("fp16", True, 0.99), row("int8", False, 0.5)], "fp16"),
        ([row("fp32", False, 1.0), row("fp16", True, 0.99), row("int8", True, 0.5)], "int8"),
    ],
)
def test_the_fastest_within_its_tolerances_is_served(rows, chosen):
    assert choose(rows)["variant"] == chosen


def test_nothing_within_its_tolerances_is_served():
    assert choose([row("fp32", False, 1.0), row("int8", False, 0.5)]) is None


def test_unknown_variants_are_refused(tmp_path):
    with pytest.raises(ValueError, match="variants are fp32, int4, allowed: fp32, fp16, int8"):
        export_model(
            SOURCE, tmp_path, train=photos(1, 1), val=photos(1, 1), accept=photos(1, 1), variants=["fp32", "int4"]
        )


def test_nothing_is_certified_without_a_photo(tmp_path):
    none = Photos(np.zeros((0, 64, 64, 3), np.uint8), np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="accept has no photo; one or more are needed"):
        export_model(SOURCE, tmp_path, train=photos(1, 1), val=photos(1, 1), accept=none)
