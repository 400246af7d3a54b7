import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from shared.callbacks import interruption
from shared.callbacks.interruption import SIGNALS, USER_SIGNALS, InterruptGuard, Interruption, interruptible
from shared.errors import RunInterrupted

FIT = """
import json, sys
from pathlib import Path
from omegaconf import OmegaConf
from shared.engine import fit
from shared.entry import exit_codes
with exit_codes():
    fit(OmegaConf.create(json.loads(Path(sys.argv[1]).read_text())), quiet=True)
"""


@pytest.fixture
def free(monkeypatch):
    """No handler of ours or of somebody else on the two signals, and no SLURM."""
    former = {signum: signal.signal(signum, signal.SIG_DFL) for signum in USER_SIGNALS}
    monkeypatch.setattr(interruption.SLURMEnvironment, "detect", staticmethod(lambda: False))
    yield monkeypatch
    for signum, handler in former.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize("signum", [*SIGNALS, *USER_SIGNALS])
def test_outside_the_fit_each_signal_stops_at_once_with_its_code(signum, free):
    with pytest.raises(RunInterrupted, match=f"stopped by {signal.Signals(signum).name}") as stopped, interruptible():
        os.kill(os.getpid(), signum)
    assert stopped.value.exit_code == 128 + signum
    assert all(signal.getsignal(number) is signal.SIG_DFL for number in USER_SIGNALS)


@pytest.mark.parametrize("signum", USER_SIGNALS)
def test_a_signal_that_somebody_listens_to_stays_theirs(signum, free):
    heard = []
    signal.signal(signum, lambda number, frame: heard.append(number))
    with interruptible() as watch:
        os.kill(os.getpid(), signum)
    assert heard == [signum]
    assert watch.received is None


def test_an_ignored_signal_stays_ignored(free):
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    with interruptible():
        os.kill(os.getpid(), signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN


def test_under_slurm_lightning_finds_sigusr1_free(free):
    free.setattr(interruption.SLURMEnvironment, "detect", staticmethod(lambda: True))
    with interruptible():
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGUSR2) is not signal.SIG_DFL


def test_the_inner_of_two_blocks_gets_the_signal(free):
    with interruptible() as outer, interruptible() as inner:
        inner.deferred = True
        os.kill(os.getpid(), signal.SIGUSR2)
        assert (outer.received, inner.received) == (None, signal.SIGUSR2)


def test_one_stop_that_arrives_twice_is_one_and_a_later_one_does_not_wait(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(interruption.time, "monotonic", lambda: clock[0])
    watch = Interruption()
    watch.deferred = True
    watch.handle(signal.SIGUSR2, None)
    clock[0] += 0.5
    watch.handle(signal.SIGTERM, None)  # handed on by the parent
    assert watch.received == signal.SIGUSR2
    clock[0] += 0.6
    with pytest.raises(RunInterrupted, match="SIGINT"):
        watch.handle(signal.SIGINT, None)


def test_the_own_copy_of_a_stop_learned_from_another_rank_is_no_second_signal(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(interruption.time, "monotonic", lambda: clock[0])
    watch = Interruption()
    watch.deferred = True
    watch.note(signal.SIGTERM)
    clock[0] += 0.5
    watch.handle(signal.SIGTERM, None)
    assert watch.received == signal.SIGTERM
    clock[0] += 0.6
    with pytest.raises(RunInterrupted, match="SIGTERM"):
        watch.handle(signal.SIGTERM, None)


def guard_of_two_ranks(monkeypatch, agree):
    """A guard in mid-epoch whose exchange is `agree`, the trainer, and what it has saved."""
    monkeypatch.setattr(interruption, "largest_over_ranks", agree)
    monkeypatch.setattr(interruption, "num_ranks", lambda: 2)
    saved = []
    trainer = SimpleNamespace(
        num_training_batches=9, accumulate_grad_batches=1, is_global_zero=False,
        save_checkpoint=lambda path, weights_only: saved.append(path),
    )  # fmt: skip
    watch = Interruption()
    watch.deferred = True
    return InterruptGuard(watch, "last.ckpt", 60.0), trainer, saved


@pytest.mark.parametrize("due", [0, 1])
def test_a_signal_that_comes_during_the_exchange_waits_for_the_next(due, monkeypatch):
    def exchange(numbers):
        if not guard.interruption.received:
            guard.interruption.handle(signal.SIGTERM, None)
            return [numbers[0], due]  # what this rank had said before
        return numbers

    guard, trainer, saved = guard_of_two_ranks(monkeypatch, exchange)
    guard.on_train_batch_end(trainer, None, None, None, 0)  # where it neither stops nor saves alone
    assert len(saved) == due
    with pytest.raises(RunInterrupted, match="SIGTERM"):
        guard.on_train_batch_end(trainer, None, None, None, 1)
    assert len(saved) == due + 1


def test_at_the_start_of_an_epoch_too_such_a_signal_waits(monkeypatch):
    def exchange(numbers):
        guard.interruption.received = signal.SIGINT
        return numbers

    guard, trainer, _ = guard_of_two_ranks(monkeypatch, exchange)
    guard.on_train_epoch_start(trainer, None)
    with pytest.raises(RunInterrupted, match="SIGINT"):
        guard.on_train_epoch_start(trainer, None)


def test_a_signal_to_another_rank_saves_and_stops_here_and_its_copy_does_not_cut_the_save_short(monkeypatch):
    guard, trainer, saved = guard_of_two_ranks(monkeypatch, lambda numbers: [int(signal.SIGTERM), numbers[1]])

    def save(path, weights_only):
        guard.interruption.handle(signal.SIGTERM, None)
        saved.append(path)

    trainer.save_checkpoint = save
    with pytest.raises(RunInterrupted, match="SIGTERM"):
        guard.on_train_batch_end(trainer, None, None, None, 0)
    assert saved == ["last.ckpt"]


def test_a_process_alone_stops_behind_a_save_in_which_a_signal_came(monkeypatch):
    guard, trainer, _ = guard_of_two_ranks(monkeypatch, lambda numbers: [numbers[0], 1])
    monkeypatch.setattr(interruption, "num_ranks", lambda: 1)
    trainer.save_checkpoint = lambda path, weights_only: guard.interruption.handle(signal.SIGTERM, None)
    with pytest.raises(RunInterrupted, match="SIGTERM"):
        guard.on_train_batch_end(trainer, None, None, None, 0)


def test_a_forked_worker_goes_on_under_a_signal_that_a_scheduler_sends_to_all(free):
    with interruptible():
        pid = os.fork()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGUSR1)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("signum", [*SIGNALS, *USER_SIGNALS], ids=lambda signum: signal.Signals(signum).name)
def test_a_run_saves_on_each_signal_and_goes_on(signum, tmp_path):
    """A real process with loader workers, the signal to its whole group, as schedulers send it."""
    from omegaconf import OmegaConf

    from tests.fabricate.story_run import tiny_story_run

    config = tiny_story_run(
        tmp_path, tmp_path / "cache", "callbacks=minimal", "callbacks.progress.enabled=false", "stages=[fit]",
        "trainer.max_epochs=200", "data.num_workers=1",
    )  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(OmegaConf.to_container(config, resolve=True)))
    process = subprocess.Popen(
        [sys.executable, "-c", FIT, str(path)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        folder = wait_for_epoch(tmp_path, 2)
        os.killpg(process.pid, signum)
        said = process.communicate(timeout=120)[1]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 128 + signum, said
    assert f"stopped by {signal.Signals(signum).name}" in said
    status = json.loads((folder / "status.json").read_text())
    assert status["state"] == "interrupted"
    assert (folder / "checkpoints" / "last.ckpt").is_file()


def wait_for_epoch(root, epochs):
    """The run directory once it has logged so many epochs."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for path in root.glob("redheart/*/*/metrics.csv"):
            if len(path.read_text().splitlines()) > epochs:
                return path.parent
        time.sleep(0.05)
    raise AssertionError("the run did not begin in time")
