"""Every experiment runs through the real engine on fabricated data: check, audit, fit, test, report."""

import csv
import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from shared.engine import fit
from shared.report import validate_report
from tests.fabricate.battery_run import tiny_run

CT_EXPERIMENTS = ("late_fusion", "late_fusion_no_x", "metadata", "resnet18", "field_recipe", "axis_trap")

FILES = (
    *("config.yaml", "overrides.txt", "env.json", "status.json", "splits.csv", "ledger.jsonl", "ledger_digests.npy"),
    *("checkpoints/last.ckpt", "checkpoints/best.ckpt", "metrics.csv", "train_log.txt", "events.jsonl"),
    *("predictions.csv", "report.json", "report.md", "report.html"),
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def late_fusion(cache, tmp_path_factory):
    return fit(tiny_run(tmp_path_factory.mktemp("outputs"), cache), overrides=("+experiment=late_fusion",), quiet=True)


@pytest.mark.parametrize(
    "experiment",
    # All compose in test_conf.py; those that are slow here are run by `make test-slow`.
    [
        pytest.param(name, marks=() if name == "late_fusion_no_x" else pytest.mark.slow)
        for name in CT_EXPERIMENTS
        if name != "late_fusion"
    ],
)
def test_two_epochs_and_a_valid_report(experiment, cache, tmp_path):
    result = fit(tiny_run(tmp_path, cache, "trainer.max_epochs=2", experiment=experiment), quiet=True)
    validate_report(result.report)
    assert result.trainer.current_epoch == 2
    names = {row["name"] for row in result.report["models"]}
    assert names == {"last", "best_single", "ema", "uniform_soup", "greedy_soup", "lawa", "final"}


def test_the_run_directory_holds_what_the_contract_lists(late_fusion):
    run = late_fusion.run.path
    for name in FILES:
        assert (run / name).is_file(), name
    assert list((run / "tb").glob("events*"))
    assert len(list((run / "figures").glob("*.png"))) >= 6
    assert (run.parents[1] / "latest").resolve() == run
    assert json.loads((run / "status.json").read_text())["state"] == "done"


def test_the_report_agrees_with_the_files_beside_it(late_fusion):
    report = json.loads((late_fusion.run.path / "report.json").read_text())
    validate_report(report)
    with (late_fusion.run.path / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == report["data"]["folds"]["test"]["n"]
    correct = sum(row["label"] == row["predicted"] for row in rows) / len(rows)
    final = next(row for row in report["models"] if row["name"] == "final")
    assert final["metrics"]["accuracy"]["value"] == pytest.approx(correct)
    assert {row["name"] for row in report["baselines"]} == {"image_only", "metadata_only", "fused_metadata_permuted"}
    assert "y/z only" in report["per_group"]


def test_the_audit_names_the_axis(late_fusion):
    verdicts = {row["feature"]: row["verdict"] for row in late_fusion.report["audit"]}
    assert verdicts["axis"] == "shortcut"
    assert any("'axis'" in sentence for sentence in late_fusion.report["warnings"])


def test_each_sample_serves_one_fold_and_the_ledger_says_for_what(late_fusion):
    events = [json.loads(line) for line in (late_fusion.run.path / "ledger.jsonl").read_text().splitlines()]
    used = {(event.get("fold"), event.get("purpose")) for event in events} - {(None, None)}
    assert ("train", "fit") in used
    assert ("val", "validate") in used
    assert ("test", "test") in used
    assert ("calibrate", "calibrate") in used
    assert ("val", "select") in used
    assert "accept" not in {fold for fold, _ in used}  # three snapshots: nothing was searched, so nothing is certified


def test_tensorboard_has_curves_figures_and_final_metrics(late_fusion):
    events = EventAccumulator(str(late_fusion.run.path / "tb"), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    assert {"train/loss", "val/loss", "val/f1_macro", "val/cell_porosity/f1", "test/f1_macro"} <= set(tags["scalars"])
    assert {"val/confusion", "val/per_class", "val/reliability", "val/confidence"} <= set(tags["images"])
    value = next(row for row in late_fusion.report["models"] if row["name"] == "final")["metrics"]["f1_macro"]["value"]
    assert events.Scalars("test/f1_macro")[-1].value == pytest.approx(value, abs=1e-6)
    assert "_hparams_/session_start_info" in str(events.summary_metadata)
    assert "hp_metric" not in tags["scalars"]


def test_the_monitor_is_logged_every_epoch(late_fusion):
    with (late_fusion.run.path / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2]
    assert all(float(row["val/f1_macro"]) >= 0 and float(row["train/loss"]) > 0 for row in rows)
