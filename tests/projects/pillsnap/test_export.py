import json
from types import SimpleNamespace

import numpy as np
import pytest

from projects.pillsnap import export
from projects.pillsnap.evaluation.open_set import NoneOfThese
from projects.pillsnap.export import fold_photos, main, none_of_these_of
from projects.pillsnap.onnx_export import export_model
from projects.pillsnap.onnx_export.description import UNFITTED
from projects.pillsnap.preprocess import UnifiedPreprocessor
from shared.errors import DataError
from shared.folds import require_purpose
from tests.fabricate.pill_network import SmallPillNetwork, plain_photos


class Rows:
    """The datamodule of a run, with 9 photos of 40 x 50 in val and none in accept."""

    preprocess = UnifiedPreprocessor(size_px=32)
    index = SimpleNamespace(label=np.arange(20) % 4)

    def rows(self, fold):
        return np.arange(5, 14) if fold == "val" else np.arange(0)

    def photo(self, row):
        return np.full((40, 50, 3), row, np.uint8)


def opened(folder, recorded=None):
    recorded = [] if recorded is None else recorded
    ledger = SimpleNamespace(record=lambda *use: recorded.append(use))
    return SimpleNamespace(datamodule=Rows(), ledger=ledger, folder=folder, final_sha256="ab" * 32)


def test_photos_are_spread_over_the_fold_and_recorded(tmp_path):
    recorded = []
    photos = fold_photos(opened(tmp_path, recorded), "val", 3)
    assert photos.squares.shape == (3, 32, 32, 3)
    assert photos.squares[:, 0, 0, 0].tolist() == [5, 9, 13]
    assert photos.target.tolist() == [1, 1, 1]
    assert [photo.shape for photo in photos.raw] == [(40, 50, 3)] * 3
    assert recorded == [("select", "val", "export")]


def test_each_fold_serves_what_it_is_for():
    assert list(export.USES) == ["train", "val", "accept", "test"]
    for fold, purpose in export.USES.items():
        require_purpose(fold, purpose)
    assert export.USES["accept"] == "accept"


def test_more_photos_than_there_are_is_all_of_them(tmp_path):
    assert len(fold_photos(opened(tmp_path), "val", 1000).squares) == 9


def test_an_empty_fold_is_named(tmp_path):
    with pytest.raises(DataError, match="fold test has no photos"):
        fold_photos(opened(tmp_path), "test", 3)


def test_none_of_these_comes_from_the_evaluation_of_this_network(tmp_path):
    fitted = NoneOfThese("energy", slope=2.0, offset=1.0, threshold=0.25)
    path = tmp_path / export.NONE_OF_THESE_FILE
    path.write_text(json.dumps({"final_sha256": "ab" * 32, **fitted.as_dict(), "tuning": {}}))
    found, about = none_of_these_of(opened(tmp_path))
    assert found == fitted
    assert "energy, decided above 0.250" in about


def test_without_an_evaluation_it_is_said(tmp_path):
    found, about = none_of_these_of(opened(tmp_path))
    assert found is UNFITTED
    assert "NOT fitted and never decides" in about


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "none_of_these.json cannot be used"),
        ('{"final_sha256": "x"}', "none of these lacks score, slope, offset, threshold"),
        (
            '{"final_sha256": "cd", "score": "msp", "slope": 1, "offset": 0, "threshold": 0.5}',
            "was fitted for the weights cd, the run's are abababababab",
        ),
    ],
)
def test_a_strange_or_foreign_fit_is_refused(tmp_path, text, sentence):
    (tmp_path / export.NONE_OF_THESE_FILE).write_text(text)
    with pytest.raises(DataError, match=sentence):
        none_of_these_of(opened(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--variants", "fp32,int4"], "--variants is 'fp32,int4', allowed: some of fp32,fp16,int8"),
        (["--variants", ""], "--variants is '', allowed"),
        (["--images", "0"], "--images is 0, allowed: 1 or more"),
        (["--calibration-images", "-1"], "--calibration-images is -1, allowed: 1 or more"),
        (["--threads", "0"], "--threads is 0"),
    ],
)
def test_wrong_options_end_with_2_and_one_sentence(tmp_path, capsys, arguments, sentence):
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path), *arguments])
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path)])
    assert stop.value.code == 2
    assert str(tmp_path) in capsys.readouterr().err


class FourFolds(Rows):
    """120 photos in accept, a few in the other folds; none is resized."""

    preprocess = UnifiedPreprocessor(size_px=32)
    squares = plain_photos(160, 32, seed=1)
    classes = tuple(f"K-{number}" for number in range(5))
    index = SimpleNamespace(label=np.zeros(160, np.int64), classes=classes)

    def rows(self, fold):
        return {
            "train": np.arange(8),
            "val": np.arange(8, 20),
            "accept": np.arange(20, 140),
            "test": np.arange(140, 160),
        }[fold]

    def photo(self, row):
        return self.squares[row]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run in a folder, and what its ledger recorded."""
    recorded = []
    (tmp_path / "run").mkdir()
    loaded = SimpleNamespace(calibrator=None, run=SimpleNamespace(path=tmp_path / "run"))
    made = SimpleNamespace(
        datamodule=FourFolds(), loaded=loaded, module=SimpleNamespace(network=SmallPillNetwork()), folder=tmp_path,
        ledger=SimpleNamespace(record=lambda *use: recorded.append(use)), final_sha256="ab" * 32,
    )  # fmt: skip
    monkeypatch.setattr(export, "open_run", lambda path, progress: made)
    monkeypatch.setattr(export, "class_labels", lambda datamodule: list(datamodule.index.classes))
    return SimpleNamespace(path=tmp_path / "run", recorded=recorded)


def test_an_export_is_judged_on_accept_and_says_so_in_the_ledger(run, capsys):
    main([str(run.path), "--variants", "fp32", "--rounds", "1"])
    assert ("accept", "accept", "export") in run.recorded
    content = json.loads((run.path / "export/export.json").read_text())
    assert content["variants"][0]["accept"]["images"] == 120
    assert content["served"] == "fp32"
    assert "warning" not in capsys.readouterr().err


def test_nothing_to_serve_ends_with_1_and_says_why(run, capsys, monkeypatch):
    write = export_model.network_model
    monkeypatch.setattr(export_model, "network_model", lambda network, size: write(SmallPillNetwork(seed=4), size))
    with pytest.raises(SystemExit) as stop:
        main([str(run.path), "--variants", "fp32", "--rounds", "1"])
    assert stop.value.code == 1
    said = capsys.readouterr()
    assert "warning: no server takes fp32: a probability differs by" in said.err
    assert "error: no variant is within its tolerance, so " in said.err
    assert "**none**, no variant is within its tolerance" in said.out
    assert not (run.path / "export/model.onnx").exists()
    assert json.loads((run.path / "export/export.json").read_text())["served"] is None
