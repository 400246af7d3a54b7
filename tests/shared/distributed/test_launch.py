"""Fits of two real processes: the same numbers as one, one run directory, and one sentence when a rank dies."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import torch

from shared.callbacks.nan_guard import NanGuard
from shared.checkpoint_io import load_checkpoint
from shared.engine import fit
from shared.errors import ConfigError, DataError, RunInterrupted, TrainingError
from shared.weights import weights_sha256
from tests.fabricate.battery_run import tiny_run
from tests.fabricate.several_ranks import LEAN, curve_fit, rows_of, story_fit

WAIT_S = 300


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def one_process(cache, tmp_path_factory):
    return fit(story_fit(tmp_path_factory.mktemp("one"), cache), quiet=True)


@pytest.fixture(scope="module")
def two_processes(cache, tmp_path_factory):
    return fit(story_fit(tmp_path_factory.mktemp("two"), cache, "trainer=ddp"), quiet=True)


def last_weights(result):
    return load_checkpoint(result.run.path / "checkpoints" / "last.ckpt")["state_dict"]


def assert_same_fit(one, two, atol):
    first, second = rows_of(one.run.path), rows_of(two.run.path)
    assert len(first) == len(second) > 1
    for row, other in zip(first, second, strict=True):
        assert other == pytest.approx(row, rel=1e-4, abs=1e-5)
    state = last_weights(two)
    for name, weight in last_weights(one).items():
        torch.testing.assert_close(state[name], weight, rtol=0, atol=atol)


def act_at(monkeypatch, place, act):
    """Call `act` once in rank 0, behind the given (epoch, batch)."""
    original, done = NanGuard.on_train_batch_end, []

    def hook(self, trainer, pl_module, outputs, batch, batch_idx):
        original(self, trainer, pl_module, outputs, batch, batch_idx)
        if (trainer.current_epoch, batch_idx) == place and not done:
            done.append(True)
            act()

    monkeypatch.setattr(NanGuard, "on_train_batch_end", hook)


def other_rank():
    (found,) = [p for p in psutil.Process().children() if "shared.distributed" in p.cmdline()]
    return found


@pytest.mark.timeout(WAIT_S)
def test_two_processes_do_the_steps_of_one_in_pieces_of_a_batch(one_process, two_processes):
    assert_same_fit(one_process, two_processes, atol=1e-4)
    run = two_processes.run
    assert two_processes.metrics["val/loss"] == pytest.approx(one_process.metrics["val/loss"], rel=1e-4)
    assert run.status()["state"] == "done"
    assert run.done("fit")["ranks"] == 2
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert sum(event["kind"] == "start" for event in events) == 1
    uses = [json.loads(line) for line in (run.path / "ledger.jsonl").read_text().splitlines()]
    assert [(use["event"], use.get("fold")) for use in uses] == [("bind", None), ("use", "train"), ("use", "val")]
    assert len(list(run.path.parent.iterdir())) == 1
    assert not torch.distributed.is_initialized()
    assert "LOCAL_RANK" not in os.environ


@pytest.mark.slow
@pytest.mark.timeout(WAIT_S)
def test_a_rank_that_is_killed_ends_the_fit_with_one_sentence(cache, tmp_path, monkeypatch):
    act_at(monkeypatch, (0, 2), lambda: other_rank().kill())
    with pytest.raises(TrainingError, match=r"rank 1 was ended by SIGKILL; all it said is in .*ranks/1\.log"):
        fit(story_fit(tmp_path, cache, "trainer=ddp"), quiet=True)
    (status,) = tmp_path.glob("redheart/bare/*/status.json")
    assert json.loads(status.read_text())["state"] == "failed"
    assert not torch.distributed.is_initialized()


@pytest.mark.slow
@pytest.mark.timeout(WAIT_S)
def test_two_processes_do_the_steps_of_one_with_lightnings_backward(cache, tmp_path):
    one = fit(curve_fit(tmp_path / "one", cache), quiet=True)
    two = fit(curve_fit(tmp_path / "two", cache, "trainer=ddp"), quiet=True)
    assert_same_fit(one, two, atol=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(2 * WAIT_S)
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_rank_stops_all_and_the_resumed_fit_equals_the_whole_one(
    rank, two_processes, cache, tmp_path, monkeypatch
):
    def send():
        os.kill(os.getpid() if rank == 0 else other_rank().pid, signal.SIGTERM)

    with monkeypatch.context() as patch:
        act_at(patch, (0, 2), send)
        with pytest.raises(RunInterrupted, match="stopped by SIGTERM; go on with resume=") as stopped:
            fit(story_fit(tmp_path, cache, "trainer=ddp"), quiet=True)
    assert stopped.value.exit_code == 143
    (run,) = tmp_path.glob("redheart/bare/*")
    saved = load_checkpoint(run / "checkpoints" / "last.ckpt")
    assert 3 <= saved["global_step"] < 7
    with pytest.raises(ConfigError, match=r"differing keys: trainer\.devices"):
        fit(story_fit(tmp_path, cache, "trainer=ddp", "trainer.devices=4", "resume=auto"), quiet=True)
    resumed = fit(story_fit(tmp_path, cache, "trainer=ddp", "resume=auto"), quiet=True)
    assert resumed.run.path == run
    assert weights_sha256(last_weights(resumed)) == weights_sha256(last_weights(two_processes))
    assert rows_of(run) == rows_of(two_processes.run.path)


@pytest.mark.slow
@pytest.mark.timeout(2 * WAIT_S)
def test_a_multirun_makes_one_run_directory_a_job(cache, tmp_path):
    command = [sys.executable, "-m", "projects.redheart.train", "-m", "seed=0,1", "hydra/sweeper=basic", "trainer=ddp"]
    tiny = [*LEAN, "data.standin.num_stories=160", "data.num_workers=0", "data.batch_size=16", "trainer.max_epochs=1"]
    places = [f"paths.outputs={tmp_path}", f"paths.cache={cache}", "runtime.threads=1"]
    subprocess.run([*command, *tiny, *places], check=True, timeout=2 * WAIT_S, stdout=subprocess.DEVNULL)
    runs = [path for path in (tmp_path / "redheart" / "bare").iterdir() if path.name != "latest"]
    assert len(runs) == 2
    assert {json.loads((run / "status.json").read_text())["state"] for run in runs} == {"done"}
    assert [path.name for run in runs for path in (run / "ranks").iterdir()] == ["1.log", "1.log"]


@pytest.mark.slow
@pytest.mark.timeout(WAIT_S)
def test_all_stages_follow_on_one_device_with_all_callbacks(cache, tmp_path):
    result = fit(tiny_run(tmp_path, cache, "trainer=ddp"), quiet=True)
    assert result.report["status"] == "done"
    assert any("layers of batch normalisation" in sentence for sentence in result.report["warnings"])
    ids = [line.split(",")[0] for line in (result.run.path / "predictions.csv").read_text().splitlines()[1:]]
    assert len(set(ids)) == len(ids) == result.report["data"]["folds"]["test"]["n"]


@pytest.mark.slow
@pytest.mark.timeout(WAIT_S)
def test_a_rank_that_finds_other_data_ends_the_fit(cache, tmp_path, monkeypatch):
    def tamper(self, name, payload):
        original(self, name, payload | {"splits_hash": "0" * 64} if name == "check" else payload)

    from shared.run_dir import RunDirectory

    original = RunDirectory.mark_done
    monkeypatch.setattr(RunDirectory, "mark_done", tamper)
    with pytest.raises(TrainingError, match=r"rank 1 failed with exit code 1 \(rank 1 has other samples or folds"):
        fit(story_fit(tmp_path, cache, "trainer=ddp"), quiet=True)


def test_too_little_data_for_the_ranks_is_refused(cache, tmp_path):
    with pytest.raises(ConfigError, match=r"data\.batch_size is 15, which trainer\.devices=2 do not divide"):
        fit(story_fit(tmp_path, cache, "trainer=ddp", "data.batch_size=15"), quiet=True)
    assert list(tmp_path.iterdir()) == []  # no run was begun


@pytest.mark.slow
@pytest.mark.timeout(WAIT_S)
def test_a_fold_smaller_than_a_batch_is_refused(cache, tmp_path):
    with pytest.raises(DataError, match=r"fold train has \d+ samples, fewer than data\.batch_size \(512\)"):
        fit(story_fit(tmp_path, cache, "trainer=ddp", "data.batch_size=512"), quiet=True)
    assert [thread.name for thread in threading.enumerate() if thread.name == "ranks"] == []
    assert Path(tmp_path).is_dir()
