"""A run stopped anywhere and resumed equals the uninterrupted one: weights, predictions, metrics, report."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.callbacks.nan_guard import NanGuard
from shared.checkpoint_io import load_checkpoint
from shared.crossover import load_state, save_state
from shared.engine import STAGES, fit
from shared.errors import CheckpointError, ConfigError, LeakError, RunInterrupted, TrainingError
from shared.weights import weights_sha256
from tests.fabricate.battery_run import EXCLUDED, TINY, CrashError, tiny_run


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def uninterrupted(cache, tmp_path_factory):
    return fit(tiny_run(tmp_path_factory.mktemp("outputs"), cache), quiet=True)


def act_at(monkeypatch, place, act):
    """Call `act` once, behind the given (epoch, batch)."""
    original, done = NanGuard.on_train_batch_end, []

    def hook(self, trainer, pl_module, outputs, batch, batch_idx):
        original(self, trainer, pl_module, outputs, batch, batch_idx)
        if (trainer.current_epoch, batch_idx) == place and not done:
            done.append(True)
            act()

    monkeypatch.setattr(NanGuard, "on_train_batch_end", hook)


def raise_crash():
    raise CrashError


def crash_in_report(patch):
    stages = [(name, stage if name != "report" else lambda session: raise_crash()) for name, stage in STAGES]
    patch.setattr("shared.engine.STAGES", stages)


def assert_equal(first, second):
    for name in ("last", "best"):
        states = [load_checkpoint(run.run.checkpoints / f"{name}.ckpt")["state_dict"] for run in (first, second)]
        assert weights_sha256(states[0]) == weights_sha256(states[1]), name
    for name in ("predictions.csv", "metrics.csv", "train_log.txt", "splits.csv"):
        assert (first.run.path / name).read_bytes() == (second.run.path / name).read_bytes(), name
    reports = [{key: value for key, value in run.report.items() if key not in EXCLUDED} for run in (first, second)]
    assert reports[0] == reports[1]


@pytest.mark.parametrize(
    ("place", "signum"),
    [
        pytest.param((1, 2), signal.SIGTERM, id="mid-epoch"),
        pytest.param((1, 6), signal.SIGTERM, id="last batch of an epoch", marks=pytest.mark.slow),
        pytest.param((0, 0), signal.SIGINT, id="first batch", marks=pytest.mark.slow),
        pytest.param((2, 6), signal.SIGTERM, id="last batch of all"),
    ],
)
def test_a_signal_saves_and_the_resumed_run_equals_the_whole_one(
    place, signum, uninterrupted, cache, tmp_path, monkeypatch
):
    assert uninterrupted.trainer.num_training_batches == 7
    act_at(monkeypatch, place, lambda: os.kill(os.getpid(), signum))
    with pytest.raises(RunInterrupted, match="go on with resume=") as stopped:
        fit(tiny_run(tmp_path, cache), quiet=True)
    assert stopped.value.exit_code == 128 + signum
    (status,) = (tmp_path / "battery" / "late_fusion").glob("*/status.json")
    assert json.loads(status.read_text())["state"] == "interrupted"
    resumed = fit(tiny_run(tmp_path, cache, "resume=auto"), quiet=True)
    assert resumed.run.path == status.parent
    assert_equal(uninterrupted, resumed)


@pytest.mark.parametrize(
    ("place", "override"),
    [
        pytest.param((2, 1), "seed=0", id="between checkpoints"),
        pytest.param((0, 3), "seed=0", id="before the first", marks=pytest.mark.slow),
        pytest.param(
            (1, 3), "runtime.save_every_minutes=0.00001", id="behind one saved by the clock", marks=pytest.mark.slow
        ),
    ],
)
def test_a_crash_costs_time_only(place, override, uninterrupted, cache, tmp_path, monkeypatch):
    act_at(monkeypatch, place, raise_crash)
    with pytest.raises(CrashError):
        fit(tiny_run(tmp_path, cache, override), quiet=True)
    resumed = fit(tiny_run(tmp_path, cache, override, "resume=auto"), quiet=True)
    assert_changed_only_by(override, uninterrupted, resumed)


def assert_changed_only_by(override, first, second):
    """The clock's interval is in the configuration, so its hash differs; nothing that was measured may."""
    if not override.startswith("seed"):
        second.report["config_hash"] = first.report["config_hash"]
    assert_equal(first, second)


def test_a_truncated_last_checkpoint_is_passed_over_and_named(uninterrupted, cache, tmp_path, monkeypatch):
    act_at(monkeypatch, (2, 1), raise_crash)
    with pytest.raises(CrashError):
        fit(tiny_run(tmp_path, cache), quiet=True)
    (last,) = tmp_path.glob("battery/late_fusion/*/checkpoints/last.ckpt")
    last.write_bytes(last.read_bytes()[:5000])
    resumed = fit(tiny_run(tmp_path, cache, "resume=auto"), quiet=True)
    assert any("last.ckpt was passed over" in sentence for sentence in resumed.report["warnings"])
    resumed.report["warnings"] = uninterrupted.report["warnings"]
    assert_equal(uninterrupted, resumed)


@pytest.mark.slow
def test_a_run_killed_between_fit_and_report_does_not_fit_again(uninterrupted, cache, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        crash_in_report(patch)
        with pytest.raises(CrashError):
            fit(tiny_run(tmp_path, cache), quiet=True)
    act_at(monkeypatch, (0, 0), raise_crash)  # would be reached by any training
    assert_equal(uninterrupted, fit(tiny_run(tmp_path, cache, "resume=auto"), quiet=True))


def test_auto_without_anything_to_resume_starts_afresh(cache, tmp_path):
    result = fit(tiny_run(tmp_path, cache, "resume=auto", "stages=[audit]"), quiet=True)
    assert result.run.status()["state"] == "done"


def test_another_configuration_is_refused_by_key(cache, tmp_path, monkeypatch):
    act_at(monkeypatch, (0, 1), raise_crash)
    with pytest.raises(CrashError):
        fit(tiny_run(tmp_path, cache), quiet=True)
    with pytest.raises(ConfigError, match=r"differing keys: optimizer\.lr\."):
        fit(tiny_run(tmp_path, cache, "resume=auto", "optimizer.lr=0.5"), quiet=True)


def test_auto_passes_over_a_newer_run_of_another_configuration(cache, tmp_path, monkeypatch):
    for learning_rate in (0.002, 0.5):
        with monkeypatch.context() as patch:
            act_at(patch, (0, 1), raise_crash)
            with pytest.raises(CrashError):
                fit(tiny_run(tmp_path, cache, f"optimizer.lr={learning_rate}", "stages=[fit]"), quiet=True)
    resumed = fit(tiny_run(tmp_path, cache, "resume=auto", "optimizer.lr=0.002", "stages=[fit]"), quiet=True)
    assert resumed.run.status()["state"] == "done"
    assert len(list(tmp_path.glob("battery/late_fusion/*/status.json"))) == 2


def test_a_finished_run_and_a_missing_path_are_refused(uninterrupted, cache, tmp_path):
    with pytest.raises(ConfigError, match="is finished"):
        fit(tiny_run(tmp_path, cache, f"resume={uninterrupted.run.path}"), quiet=True)
    with pytest.raises(ConfigError, match=r"has no status\.json"):
        fit(tiny_run(tmp_path, cache, f"resume={tmp_path}"), quiet=True)
    with pytest.raises(ConfigError, match="does not exist"):
        fit(tiny_run(tmp_path, cache, f"resume={tmp_path}/none.ckpt"), quiet=True)


def test_a_run_still_alive_is_not_resumed(cache, tmp_path, monkeypatch):
    messages = []

    def resume_meanwhile():
        (status,) = tmp_path.glob("battery/late_fusion/*/status.json")
        with pytest.raises(ConfigError, match="is still running") as refused:
            fit(tiny_run(tmp_path, cache, f"resume={status.parent}"), quiet=True)
        messages.append(str(refused.value))
        raise CrashError

    act_at(monkeypatch, (0, 1), resume_meanwhile)
    with pytest.raises(CrashError):
        fit(tiny_run(tmp_path, cache), quiet=True)
    assert messages


def test_a_resumed_run_with_other_data_is_refused(cache, tmp_path, monkeypatch):
    act_at(monkeypatch, (0, 1), raise_crash)
    with pytest.raises(CrashError):
        fit(tiny_run(tmp_path, cache), quiet=True)
    (digests,) = tmp_path.glob("battery/late_fusion/*/ledger.jsonl")
    digests.write_text(digests.read_text().replace('"n": ', '"n": 1', 1))
    splits = digests.with_name("splits.csv").read_bytes()
    with pytest.raises(LeakError):
        fit(tiny_run(tmp_path, cache, "resume=auto"), quiet=True)
    assert digests.with_name("splits.csv").read_bytes() == splits


def test_a_loss_that_is_not_finite_stops_the_fit_before_a_checkpoint(cache, tmp_path):
    with pytest.raises(TrainingError, match=r"not finite at epoch 0, batch \d+ .*lower optimizer\.lr"):
        fit(tiny_run(tmp_path, cache, "optimizer.lr=1e25", "trainer.gradient_clip_val=null"), quiet=True)
    assert not list(tmp_path.glob("battery/late_fusion/*/checkpoints/*.ckpt"))
    (status,) = tmp_path.glob("battery/late_fusion/*/status.json")
    assert json.loads(status.read_text())["state"] == "failed"


def test_weights_that_changed_after_the_test_are_not_tested_again(cache, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        crash_in_report(patch)
        with pytest.raises(CrashError):
            fit(tiny_run(tmp_path, cache), quiet=True)
    (final,) = tmp_path.glob("battery/late_fusion/*/crossover_final.safetensors")
    last = load_checkpoint(final.parent / "checkpoints" / "last.ckpt")["state_dict"]
    if weights_sha256(last) == weights_sha256(load_state(final)):
        pytest.fail("this test needs a run whose last epoch is not its best")
    save_state(final, last, {})
    with pytest.raises(LeakError, match="test"):
        fit(tiny_run(tmp_path, cache, "resume=auto"), quiet=True)


def test_both_checkpoints_damaged_is_one_sentence(cache, tmp_path, monkeypatch):
    act_at(monkeypatch, (2, 1), raise_crash)
    with pytest.raises(CrashError):
        fit(tiny_run(tmp_path, cache), quiet=True)
    for path in tmp_path.glob("battery/late_fusion/*/checkpoints/*.ckpt"):
        path.write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        fit(tiny_run(tmp_path, cache, "resume=auto"), quiet=True)


def command(tmp_path, cache, *overrides):
    places = [f"paths.outputs={tmp_path}", f"paths.cache={cache}"]
    return [sys.executable, "-m", "projects.battery.train", *overrides, *places]


def finished_directory(*arguments):
    done = subprocess.run(list(arguments), capture_output=True, text=True, timeout=600, check=True)
    return Path(done.stdout.strip().splitlines()[-1].removeprefix("run: "))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("signum", "code"),
    [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)],
    ids=lambda value: str(value),
)
def test_a_real_process_group_signalled_in_mid_run_with_loader_workers(signum, code, cache, tmp_path):
    overrides = [
        "+experiment=late_fusion", *TINY, "trainer.max_epochs=8", "runtime.save_every_minutes=0.00001",
        "data.num_workers=2",
    ]  # fmt: skip
    whole = finished_directory(*command(tmp_path, cache, *overrides))
    process = subprocess.Popen(
        command(tmp_path, cache, *overrides),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        killed = wait_for_epochs(tmp_path, whole, 3)
        os.killpg(process.pid, signum)
        assert process.wait(timeout=120) == code
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    again = finished_directory(sys.executable, "-m", "projects.battery.train", f"resume={killed}")
    assert again == killed
    for name in ("predictions.csv", "metrics.csv"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


def wait_for_epochs(tmp_path, other_than, count):
    """Directory of the run beside `other_than` once it has logged `count` epochs."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for log in tmp_path.glob("battery/late_fusion/*/train_log.txt"):
            if log.parent != other_than and len(log.read_text().splitlines()) >= count:
                return log.parent
        time.sleep(0.02)
    return pytest.fail(f"the run did not reach epoch {count} in time")
