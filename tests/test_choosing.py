"""Choosing, crossing and calibrating through the real engine: the table, the decision, the files, and every resume."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import shared
import shared.session
from shared.calibrators import TemperatureCalibrator, save_calibrator
from shared.checkpoint_io import load_checkpoint
from shared.config import STAGES
from shared.crossover import load_metadata
from shared.engine import fit
from shared.errors import CheckpointError, ConfigError, LeakError
from shared.final import final_state
from shared.report import validate_report
from shared.run_dir import RunDirectory
from shared.weights import weights_sha256
from tests.fabricate.battery_run import EXCLUDED, TINY, CrashError, tiny_run

ROWS = ["last", "best_single", "ema", "uniform_soup", "greedy_soup", "lawa", "crossover", "final"]
EPOCHS = "trainer.max_epochs=7"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def whole(cache, tmp_path_factory):
    return fit(tiny_run(tmp_path_factory.mktemp("outputs"), cache, EPOCHS), quiet=True)


def read(run, name):
    return json.loads((run.path / name).read_text())


def states(run):
    found = {path.name: load_checkpoint(path)["state_dict"] for path in sorted(run.checkpoints.glob("*.ckpt"))}
    return found | {"final": final_state(run)}


def test_the_report_has_every_row_with_its_paired_difference(whole):
    validate_report(whole.report)
    assert [row["name"] for row in whole.report["models"]] == ROWS
    for row in whole.report["models"]:
        assert set(row["metrics"]) == {"accuracy", "f1_macro", "auroc_macro", "ece", "brier", "nll"}
        assert ("diff_to_best_single" in row) == (row["name"] != "best_single")
        assert row["metrics"]["nll"]["lo"] <= row["metrics"]["nll"]["value"] <= row["metrics"]["nll"]["hi"]


def test_the_decision_is_in_words_and_numbers(whole):
    part = whole.report["crossover"]
    assert part["decision"] in ("accepted", "declined", "undecidable")
    assert part["n_candidates"] > 0
    assert set(part["sources"]) == {"backbone", "metadata", "fusion", "heads"}
    details = read(whole.run, "crossover.json")
    assert details["form"] == "cross-fitted"  # val and accept hold 12 batteries here
    spots = read(whole.run, "sweet_spots.json")
    assert spots["decision"] == "chosen"
    assert set(spots["epochs"]) == set(part["sources"])
    assert {vote["analysis"] for vote in spots["votes"]["backbone"]} == {
        "overfit", "balance", "stable", "own_loss", "plateau",
    }  # fmt: skip
    page = (whole.run.path / "report.md").read_text()
    assert "Crossover" in page
    assert "figures/sweet_spots.png" in page


def test_a_crossover_that_is_not_accepted_leaves_the_best_single_checkpoint(whole):
    best = states(whole.run)["best.ckpt"]
    equal = weights_sha256(final_state(whole.run)) == weights_sha256(best)
    assert equal == (whole.report["crossover"]["decision"] != "accepted")


def test_the_source_of_every_parameter_is_in_the_file(whole):
    metadata = load_metadata(whole.run.path / "crossover_final.safetensors")
    assert set(metadata["source_epochs"]) == set(states(whole.run)["best.ckpt"])
    assert set(metadata["source_epochs"].values()) == set(whole.report["crossover"]["sources"].values())


def test_each_fold_served_its_purpose_and_test_was_opened_once(whole):
    events = [json.loads(line) for line in (whole.run.path / "ledger.jsonl").read_text().splitlines()]
    used = {(event["fold"], event["purpose"]) for event in events if event["event"] == "use"}
    assert used >= {("val", "select"), ("accept", "accept"), ("train", "batch_norm"), ("calibrate", "calibrate")}
    assert [event["event"] for event in events].count("open_test") == 1
    order = [event.get("purpose", event["event"]) for event in events]
    assert order.index("open_test") > order.index("calibrate") > order.index("select")


def test_the_snapshots_are_those_of_every_epoch(whole):
    folders = sorted(path.name for path in (whole.run.path / "snapshots").iterdir())
    assert folders == [f"e{epoch:04d}" for epoch in range(7)]
    for folder in folders:
        files = {path.name for path in (whole.run.path / "snapshots" / folder).iterdir()}
        assert files == {"metrics.json", *(f"{g}.safetensors" for g in ("backbone", "metadata", "fusion", "heads"))}
    metrics = read(whole.run, "snapshots/e0003/metrics.json")["metrics"]
    assert metrics["val/group/backbone/loss"] > 0
    assert metrics["train/loss"] > 0


def test_load_run_gives_the_calibrated_final_network(whole):
    loaded = shared.load_run(whole.run.path)
    assert loaded.calibrator is not None
    dataset = whole.datamodule.build_dataset("test", whole.datamodule.rows("test"))
    predicted = loaded.predict_loader(torch.utils.data.DataLoader(dataset, batch_size=16))
    np.testing.assert_allclose(predicted.numpy(), whole.outputs.row("final"), atol=2e-6)


def test_a_replaced_calibrator_is_refused(whole):
    path = whole.run.path / "calibrator.safetensors"
    before = path.read_bytes()
    save_calibrator(path, TemperatureCalibrator(7.0), {"domain_names": []})
    try:
        with pytest.raises(CheckpointError, match="not those that were tested"):
            shared.load_run(whole.run.path)
    finally:
        path.write_bytes(before)


def test_killed_around_every_stage_and_resumed_equals_the_whole_run(whole, cache, tmp_path, monkeypatch):
    resume = []
    for stage in ("select", "crossover", "calibrate", "test"):
        for when in ("before", "behind"):
            with monkeypatch.context() as patch:
                crash_around(patch, stage, when)
                with pytest.raises(CrashError):
                    fit(tiny_run(tmp_path, cache, EPOCHS, *resume), quiet=True)
            resume = ["resume=auto"]
    resumed = fit(tiny_run(tmp_path, cache, EPOCHS, "resume=auto"), quiet=True)
    assert len(list(tmp_path.glob("battery/late_fusion/*/status.json"))) == 1
    reports = [{k: v for k, v in run.report.items() if k not in EXCLUDED} for run in (whole, resumed)]
    assert reports[0] == reports[1]
    first, second = states(whole.run), states(resumed.run)
    assert {name: weights_sha256(state) for name, state in first.items()} == {
        name: weights_sha256(state) for name, state in second.items()
    }
    for name in ("predictions.csv", "sweet_spots.json", "calibration.json", "calibrator.safetensors"):
        assert (whole.run.path / name).read_bytes() == (resumed.run.path / name).read_bytes(), name


def crash_around(patch, stage, when):
    """Fail as the stage is entered, or when its files are written and only the record of it is missing."""
    if when == "before":
        original = shared.session.Session.stage

        def entered(self, name):
            if name == stage:
                raise CrashError
            return original(self, name)

        patch.setattr(shared.session.Session, "stage", entered)
        return
    recorded = RunDirectory.mark_done

    def mark_done(self, name, payload):
        if name == stage:
            raise CrashError
        recorded(self, name, payload)

    patch.setattr(RunDirectory, "mark_done", mark_done)


def test_fewer_than_six_snapshots_decline_and_say_so(cache, tmp_path):
    result = fit(tiny_run(tmp_path, cache, "trainer.max_epochs=3"), quiet=True)
    spots = read(result.run, "sweet_spots.json")
    assert spots["decision"] == "declined"
    assert "3 snapshots" in spots["reason"]
    assert result.report["crossover"]["decision"] == "declined"
    assert weights_sha256(final_state(result.run)) == weights_sha256(states(result.run)["best.ckpt"])


def test_minimal_callbacks_choose_nothing(cache, tmp_path):
    result = fit(tiny_run(tmp_path, cache, "callbacks=minimal", "trainer.max_epochs=1"), quiet=True)
    assert [row["name"] for row in result.report["models"]] == ["last", "best_single", "final"]
    assert "crossover" not in result.report
    assert "calibration" not in result.report
    assert not (result.run.path / "snapshots").exists()
    used = {json.loads(line).get("fold") for line in (result.run.path / "ledger.jsonl").read_text().splitlines()}
    assert not used & {"accept", "calibrate"}


def test_a_stage_without_what_it_needs_is_refused(cache, tmp_path):
    assert STAGES == ("audit", "fit", "select", "crossover", "calibrate", "test", "report")
    with pytest.raises(ConfigError, match="stages holds crossover but not select, which it needs"):
        fit(tiny_run(tmp_path, cache, "stages=[fit,crossover]"), quiet=True)
    with pytest.raises(ConfigError, match=r"callbacks\.crossover needs callbacks\.sweet_spot"):
        fit(tiny_run(tmp_path, cache, "callbacks.sweet_spot.enabled=false"), quiet=True)


def test_a_group_that_matches_nothing_stops_before_the_fit(cache, tmp_path):
    groups = "callbacks.sweet_spot.groups={all: ['network.'], extra: ['network.bakbone.']}"
    with pytest.raises(ConfigError, match="bakbone"):
        fit(tiny_run(tmp_path, cache, groups), quiet=True)
    assert not list(tmp_path.glob("battery/late_fusion/*/checkpoints/*.ckpt"))


def test_calibrating_on_another_fold_is_refused(whole):
    with pytest.raises(LeakError, match="may not be used for 'calibrate'"):
        whole.datamodule.loader("test", "calibrate")
    with pytest.raises(LeakError, match="may not be used for 'calibrate'"):
        whole.datamodule.loader("val", "calibrate")


def command(tmp_path, cache, *overrides):
    places = [f"paths.outputs={tmp_path}", f"paths.cache={cache}"]
    return [
        sys.executable,
        "-m",
        "projects.battery.train",
        "+experiment=late_fusion",
        *TINY,
        EPOCHS,
        *places,
        *overrides,
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("stage", "wait_s"), [("crossover", 0.15), ("calibrate", 0.0), ("test", 0.05)])
def test_a_real_process_killed_inside_a_stage_and_resumed_equals_the_whole_run(stage, wait_s, whole, cache, tmp_path):
    process = subprocess.Popen(
        command(tmp_path, cache), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        events = wait_for_stage(tmp_path, stage)
        time.sleep(wait_s)  # inside, behind the announcement
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(timeout=60) == -9
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert stage not in RunDirectory(events.parent).status()["stages"]
    subprocess.run(command(tmp_path, cache, "resume=auto"), capture_output=True, timeout=600, check=True)
    for name in ("predictions.csv", "sweet_spots.json", "calibration.json", "calibrator.safetensors"):
        assert (whole.run.path / name).read_bytes() == (events.parent / name).read_bytes(), name
    report = read(RunDirectory(events.parent), "report.json")
    assert {k: v for k, v in report.items() if k not in EXCLUDED} == {
        k: v for k, v in json.loads(json.dumps(whole.report)).items() if k not in EXCLUDED
    }


def wait_for_stage(tmp_path, stage):
    """The events file of the run, once it has announced the stage."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for path in tmp_path.glob("battery/late_fusion/*/events.jsonl"):
            announced = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
            if {"stage": stage, "state": "start"} in [event["data"] for event in announced]:
                return path
        time.sleep(0.01)
    return pytest.fail(f"the run did not reach {stage} in time")
