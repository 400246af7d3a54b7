import csv
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shared.checkpoint_io import find_fault
from shared.config import check_config
from shared.errors import ConfigError, RunInterrupted, TrainingError
from shared.resume import find_run
from shared.run_dir import RunDirectory, unfinished_runs
from shared.sweep import engine_point, exclusive_files
from shared.sweep.claim import LeaseLost
from shared.sweep.engine_point import EnginePoint, PointWatch, disk_of, run
from shared.sweep.objective import DataChangedError
from shared.sweep.scoring import RATE_SCORE
from tests.fabricate.point_work import NotedClaim, story_point

BATCHES = 7


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def whole(cache, tmp_path_factory):
    """A point that was left alone, and what became of it."""
    work = story_point(tmp_path_factory.mktemp("whole"), cache, score_name=RATE_SCORE)
    return work, run(work)


def run_of(outcome):
    return RunDirectory(Path(outcome["run"]))


def test_the_outcome_is_plain_and_says_what_was_measured(whole):
    work, outcome = whole
    assert json.loads(json.dumps(outcome, allow_nan=False)) == outcome
    with (run_of(outcome).path / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    val, train = [[float(row[key]) for row in rows] for key in ("val/loss", "train/loss")]
    assert outcome["score"] == pytest.approx(sum(val) / 2 + 0.1 * abs(train[1] - val[1]), rel=1e-12)
    assert [epoch["val_loss"] for epoch in outcome["epochs"]] == val
    assert outcome["metrics"]["val/loss"] == val[-1]
    assert outcome["samples"] == 2 * BATCHES * 16
    assert outcome["stopped_at"] is None
    assert len(outcome["initial_weights"]) == len(outcome["data_hash"]) == 64
    assert outcome["peak_rss_mb"] > 100
    assert work.claim.epochs == [0, 1]
    assert work.claim.facts[0] == {"run": outcome["run"]}
    assert work.claim.facts[1]["initial_weights"] == outcome["initial_weights"]


def test_a_metric_that_is_not_defined_and_a_norm_that_overflowed_are_null(tmp_path, whole):
    work, outcome = whole
    former = run_of(outcome)
    copy = RunDirectory(shutil.copytree(former.path, tmp_path / "run"))
    with (copy.path / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row |= {"val/auroc": "nan", "train/gradient_norm": "inf"}
    with (copy.path / "metrics.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    again = engine_point._outcome(work, check_config(work.config), copy)
    assert json.loads(json.dumps(again, allow_nan=False)) == again
    assert again["metrics"]["val/auroc"] is None
    assert [epoch["gradient_norm"] for epoch in again["epochs"]] == [None, None]
    assert again["score"] == outcome["score"]
    assert again["metrics"]["val/loss"] == outcome["metrics"]["val/loss"]


def test_a_point_opens_train_and_val_and_nothing_else(whole):
    events = [json.loads(line) for line in (run_of(whole[1]).path / "ledger.jsonl").read_text().splitlines()]
    assert {event["fold"] for event in events if event["event"] == "use"} == {"train", "val"}
    assert {event["event"] for event in events} == {"bind", "use"}


def test_a_point_is_no_run_of_its_own(whole):
    work, outcome = whole
    found = run_of(outcome)
    assert found.kind == "point"
    assert found.status()["state"] == "done"
    assert not (found.path.parents[1] / "latest").is_symlink()
    assert [path.name for path in found.checkpoints.iterdir()] == ["last.ckpt"]
    status = found.status() | {"state": "interrupted"}
    copy = found.path.with_name("copy")
    copy.mkdir()
    (copy / "status.json").write_text(json.dumps(status))
    shutil.copy(found.path / "config.yaml", copy)
    try:
        settings = check_config(work.config)
        assert unfinished_runs(settings.outputs, "redheart", "sweep-s") == []
        settings = check_config(dict(work.config) | {"resume": str(copy)})
        with pytest.raises(ConfigError, match="is a point of a sweep; give the sweep's command again"):
            find_run(settings)
        assert find_run(settings, point=True)[0].path == copy
    finally:
        shutil.rmtree(copy)


def test_a_point_that_was_done_but_not_written_down_is_only_measured(whole, monkeypatch):
    work, outcome = whole
    monkeypatch.setattr("shared.sweep.engine_point.fit", None)
    again = replace(work, resume=run_of(outcome).path)
    assert {**run(again), "peak_rss_mb": 0} == {**outcome, "peak_rss_mb": 0}


@pytest.mark.slow
def test_an_interrupted_point_goes_on_and_ends_with_the_same_number(whole, cache, tmp_path, monkeypatch):
    original, seen = PointWatch.on_train_batch_end, []

    def hook(self, trainer, pl_module, outputs, batch, batch_idx):
        original(self, trainer, pl_module, outputs, batch, batch_idx)
        seen.append(batch_idx)
        if len(seen) == BATCHES + 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(PointWatch, "on_train_batch_end", hook)
    first = story_point(tmp_path, cache, score_name=RATE_SCORE)
    with pytest.raises(RunInterrupted, match=r"stopped by SIGTERM$"):
        run(first)
    former = first.claim.facts[0]["run"]
    second = story_point(tmp_path, cache, score_name=RATE_SCORE, resume=Path(former))
    outcome = run(second)
    assert outcome["run"] == former
    assert len(seen) < 2 * BATCHES + 3  # it did not begin anew
    same = ("score", "value", "epochs", "metrics", "initial_weights", "data_hash", "fingerprint")
    assert {key: outcome[key] for key in same} == {key: whole[1][key] for key in same}


def test_a_lost_lease_ends_the_fit_and_leaves_the_ledger_alone(cache, tmp_path):
    with pytest.raises(LeaseLost, match="somebody else's"):
        run(story_point(tmp_path, cache, claim=NotedClaim(lose_after=4)))
    (former,) = (tmp_path / "redheart" / "sweep-s").iterdir()
    assert RunDirectory(former).status()["state"] == "failed"
    assert RunDirectory(former).done("fit") is None


def copied(outcome, tmp_path):
    """A former attempt that was interrupted behind its last checkpoint."""
    former = tmp_path / "former"
    shutil.copytree(outcome["run"], former)
    status = RunDirectory(former).status()
    stages = {"check": status["stages"]["check"]}
    (former / "status.json").write_text(json.dumps(status | {"state": "interrupted", "stages": stages}))
    return former


@pytest.mark.parametrize("fault", ["truncated", "other configuration", "no status", "alive", None])
def test_a_former_attempt_that_cannot_be_used_is_told_and_the_point_begins_anew(
    fault, whole, tmp_path, monkeypatch, capsys
):
    former = copied(whole[1], tmp_path)
    last = former / "checkpoints" / "last.ckpt"
    if fault == "truncated":
        last.write_bytes(last.read_bytes()[:-100])
        assert find_fault(last) is not None
    elif fault == "other configuration":
        text = (former / "config.yaml").read_text()
        (former / "config.yaml").write_text(text.replace("seed: 0", "seed: 1"))
    elif fault == "no status":
        (former / "status.json").unlink()
    elif fault == "alive":
        RunDirectory(former).set_state("running")
    asked = []

    def fit(config, *, overrides, quiet, point):
        asked.append(config.resume)
        raise RunInterrupted(15, "stopped")

    monkeypatch.setattr("shared.sweep.engine_point.fit", fit)
    with pytest.raises(RunInterrupted):
        run(replace(whole[0], resume=former))
    said = capsys.readouterr().err
    assert asked == [None if fault else str(former)]
    assert (f"the former attempt {former} cannot be gone on with" in said) == bool(fault)
    assert last.exists() == (fault != "truncated")  # what nobody can resume takes no room


@pytest.mark.parametrize(
    "error", [TrainingError("the training loss is not finite"), torch.linalg.LinAlgError("linalg.cholesky: no")]
)
def test_a_loss_that_is_not_finite_is_a_result_and_leaves_no_weights(error, whole, tmp_path, monkeypatch):
    made = RunDirectory(copied(whole[1], tmp_path))

    def fit(config, *, overrides, quiet, point):
        point.on_open(made)
        raise error

    monkeypatch.setattr("shared.sweep.engine_point.fit", fit)
    with pytest.raises(TrainingError, match="not finite"):
        run(whole[0])
    assert made.done("point") == {"settled": True, "generation": 0, "score": None, "stopped_at": None}
    assert list(made.checkpoints.glob("*")) == []


@pytest.mark.parametrize(
    ("name", "content", "error", "sentence"),
    [
        ("weights.0.json", {"initial_weights": "0" * 64}, TrainingError, "initial weights of this point"),
        (
            "data.0.json",
            {"data_hash": "0" * 64, "fingerprint": None},
            DataChangedError,
            "data_hash, fingerprint differ",
        ),
    ],
)
def test_a_point_that_does_not_begin_as_the_others_is_not_trained(name, content, error, sentence, cache, tmp_path):
    work = story_point(tmp_path, cache)
    exclusive_files.create(work.folder / name, content)
    with pytest.raises(error, match=sentence):
        run(work)
    assert work.claim.epochs == []


def test_a_point_that_is_behind_is_given_up_with_its_score_so_far(cache, tmp_path):
    work = story_point(tmp_path, cache, settings={"halving": {"first_epoch": 1, "eta": 2}})
    better = {"schema": 1, "point": "f" * 12, "generation": 0, "score": 0.0}
    exclusive_files.create(work.folder / "rungs" / "1" / f"{'f' * 12}.json", better)
    outcome = run(work)
    assert outcome["stopped_at"] == 1
    assert len(outcome["epochs"]) == 1
    assert outcome["score"] == exclusive_files.read(work.folder / "rungs" / "1" / f"{work.id}.json")["score"]


@pytest.mark.slow
def test_without_room_there_is_no_checkpoint_but_the_same_result(whole, cache, tmp_path, capsys):
    work = story_point(tmp_path, cache, settings={"max_disk_gb": 0.001}, score_name=RATE_SCORE)
    outcome = run(work)
    assert outcome["score"] == whole[1]["score"]
    assert list(run_of(outcome).checkpoints.glob("*")) == []
    said = capsys.readouterr().err
    assert said.count("goes on without a new checkpoint") == 1
    assert disk_of(work, check_config(work.config)).used() < 1_000_000


def test_a_sweep_that_has_filled_its_room_without_checkpoints_is_refused(cache, tmp_path):
    work = story_point(tmp_path, cache, settings={"max_disk_gb": 0.00001})
    settings = check_config(work.config)
    (work.folder / "table.csv").write_bytes(b"x" * 20_000)
    hooks = EnginePoint(work, settings, disk_of(work, settings))
    with pytest.raises(ConfigError, match=r"take 2.05e-05 GB .* hydra.sweeper.max_disk_gb is 1e-05: raise it"):
        hooks.on_open(RunDirectory(tmp_path))
