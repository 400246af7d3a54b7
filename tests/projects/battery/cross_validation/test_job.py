import csv
import json
import shutil

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from projects.battery import floor
from projects.battery.cross_validation import job
from projects.battery.cross_validation.job import cross_validate
from shared.cross_validation import rounds
from shared.errors import ConfigError, DataError, RunInterrupted
from shared.report.outputs import TestOutputs
from shared.run_dir import RunDirectory


@pytest.fixture(scope="module")
def finished(elpv_config, tmp_path_factory):
    outputs = tmp_path_factory.mktemp("outputs")
    config = elpv_config(outputs, "stages=[audit,fit,test]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(floor, "NUM_TREES", 10)  # the time of a hundred is spent in the test of the floor itself
        yield config, outputs, cross_validate(config, quiet=True)


def content_of(result):
    return json.loads((result / "cross_validation.json").read_text())


def read_csv(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_sample_is_tested_once_by_the_round_that_has_not_seen_it(finished, elpv_folder):
    _, outputs, result = finished
    rows = read_csv(result / "predictions.csv")
    names = [row["file"] for row in read_csv(elpv_folder / "labels.csv")]
    assert [row["sample_id"] for row in rows] == names
    for number in range(5):
        (run,) = (outputs / "battery" / f"elpv_late_fusion-round{number}").iterdir()
        own = {row["sample_id"]: row for row in rows if row["round"] == str(number)}
        folds = {row["sample_id"]: row["fold"] for row in read_csv(run / "splits.csv")}
        assert {name for name, fold in folds.items() if fold == "test"} == set(own)
        said = read_csv(run / "predictions.csv")
        assert {row["sample_id"]: row["prob_defective"] for row in said} == {k: v["prob_final"] for k, v in own.items()}
        stages = json.loads((run / "status.json").read_text())["stages"]
        assert ("audit" in stages) == (number == 0)


def test_numbers_agree_with_scikit_learn_on_predictions_csv(finished):
    _, _, result = finished
    content, rows = content_of(result), read_csv(result / "predictions.csv")
    target = np.array([row["label"] == "defective" for row in rows])
    round_of = np.array([int(row["round"]) for row in rows])
    kind = np.array([row["kind"] for row in rows])
    rows_shown = ["final", "last", "image_only", "metadata_only", "floor_pixels", "floor_pixels_kind"]
    assert list(content["rows"]) == rows_shown  # best_single is final, and the type permuted within its type as well
    for name, scores in content["rows"].items():
        prob = np.array([float(row[f"prob_{name}"]) for row in rows])
        assert scores["auroc"]["value"] == pytest.approx(roc_auc_score(target, prob))
        assert scores["accuracy"]["value"] == pytest.approx(accuracy_score(target, prob > 0.5))
        assert scores["f1_positive"]["value"] == pytest.approx(f1_score(target, prob > 0.5))
        assert scores["auroc"]["n_groups"] == len(rows)
        by_round = [(target[round_of == r], prob[round_of == r]) for r in range(5)]
        pairs = [t.sum() * (~t).sum() for t, _ in by_round]
        within = np.average([roc_auc_score(t, p) for t, p in by_round], weights=pairs)
        assert scores["auroc_within_rounds"]["value"] == pytest.approx(within)
        for part, (t, p) in zip(content["rounds"], by_round, strict=True):
            assert part["rows"][name]["auroc"] == pytest.approx(roc_auc_score(t, p))
        for value, part in content["kinds"].items():
            mask = kind == value
            assert part["rows"][name]["auroc"]["value"] == pytest.approx(roc_auc_score(target[mask], prob[mask]))
        if name != "final":
            gap = content["differences"][name]["auroc"]
            assert gap["value"] == pytest.approx(content["rows"]["final"]["auroc"]["value"] - scores["auroc"]["value"])
            assert gap["lo"] <= gap["value"] <= gap["hi"]


def test_the_directory_holds_page_figure_and_parents(finished):
    _, outputs, result = finished
    assert result.parent == outputs / "battery" / "cross_validation" / "elpv_late_fusion"
    assert (result / "figures" / "roc.png").read_bytes().startswith(b"\x89PNG")
    page = (result / "cross_validation.md").read_text()
    assert "SVM on hand-crafted features | 0.824" in page
    assert "pretrained on ImageNet; ours starts from random weights" in page
    assert len(json.loads((result / "status.json").read_text())["parents"]) == 5


def test_finished_rounds_are_taken_over_and_give_the_same_numbers(finished, monkeypatch):
    config, _, result = finished
    monkeypatch.setattr(rounds, "fit", lambda *args, **options: pytest.fail("a finished round was run again"))
    again = cross_validate(config, quiet=True)
    assert again != result
    assert content_of(again) == content_of(result) | {"run": again.name}


def test_another_configuration_takes_nothing_over(finished, elpv_config, monkeypatch):
    _, outputs, _ = finished
    asked = []
    monkeypatch.setattr(rounds, "fit", lambda own, **options: asked.append(own) or pytest.fail("stop here"))
    with pytest.raises(pytest.fail.Exception):
        cross_validate(elpv_config(outputs, "seed=1"), quiet=True)
    assert asked[0].data.cross_validation_fold == 0
    assert asked[0].resume is None


def test_an_interrupted_round_goes_on_in_its_own_directory(finished, tmp_path, elpv_config, monkeypatch):
    _, outputs, _ = finished
    shutil.copytree(outputs, tmp_path / "o", symlinks=True)
    config = elpv_config(tmp_path / "o", "stages=[audit,fit,test]")
    (run,) = (tmp_path / "o" / "battery" / "elpv_late_fusion-round3").iterdir()
    for copied in (tmp_path / "o" / "battery").glob("*round*/*/config.yaml"):
        copied.write_text(copied.read_text().replace(str(outputs), str(tmp_path / "o")))
    RunDirectory(run).set_state("interrupted")
    asked = []

    def stopped(own, **options):
        asked.append(own)
        raise RunInterrupted(2, "stopped by SIGINT")

    monkeypatch.setattr(rounds, "fit", stopped)
    with pytest.raises(RunInterrupted, match="the same cross_validate command again"):
        cross_validate(config, quiet=True)
    assert [(own.resume, own.data.cross_validation_fold) for own in asked] == [(str(run), 3)]


def test_a_missing_round_or_changed_file_gives_no_number(finished):
    config, outputs, _ = finished
    runs = [
        RunDirectory(next((outputs / "battery" / f"elpv_late_fusion-round{number}").iterdir())) for number in range(5)
    ]
    index = job.instantiate(
        dict(config.data) | {"cross_validation_fold": 0, "augmentation": None, "meta_columns": ["kind"]},
        "data", seed=0, cache_folder="unused",
    ).index  # fmt: skip
    with pytest.raises(DataError, match=r"16 of 80 samples are not tested exactly once in 4 rounds"):
        job.pool_rounds(index, runs[:4], TestOutputs)
    with pytest.raises(DataError, match="not tested exactly once"):
        job.pool_rounds(index, [*runs[:4], runs[0]], TestOutputs)
    with pytest.raises(DataError, match="round 1 was made on other data"):
        job.pool_rounds(index.take(np.arange(79)), runs, TestOutputs)
    rows = runs[2].path / rounds.ROWS_FILE
    kept = rows.read_bytes()
    try:
        rows.write_bytes((runs[1].path / rounds.ROWS_FILE).read_bytes())
        with pytest.raises(DataError, match="is not about the test fold"):
            job.pool_rounds(index, runs, TestOutputs)
        rows.write_bytes(kept[:100])
        with pytest.raises(DataError, match="missing or damaged"):
            job.pool_rounds(index, runs, TestOutputs)
    finally:
        rows.write_bytes(kept)
    status = runs[4].status()
    try:
        runs[4].set_state("failed")
        with pytest.raises(DataError, match="round 5 is failed, not done"):
            job.pool_rounds(index, runs, TestOutputs)
    finally:
        runs[4]._write_status(status)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("data.cross_validation_fold=2", "data.cross_validation_fold is 2; cross_validate sets it"),
        ("resume=auto", "resume is auto; cross_validate finds its rounds by itself"),
        ("stages=[fit]", "stages lacks test"),
    ],
)
def test_wrong_usage_is_refused(elpv_config, tmp_path, override, sentence):
    with pytest.raises(ConfigError, match=sentence):
        cross_validate(elpv_config(tmp_path, override), quiet=True)


def test_data_without_rounds_are_refused(tmp_path):
    from tests.fabricate.battery_run import tiny_run

    with pytest.raises(ConfigError, match="CtDataModule, which has no rounds"):
        cross_validate(tiny_run(tmp_path, tmp_path), quiet=True)
