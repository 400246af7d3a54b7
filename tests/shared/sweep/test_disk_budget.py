import fcntl
import multiprocessing
import os
import threading
import time

import pytest
import torch

from shared.checkpoint_io import load_checkpoint
from shared.errors import CheckpointError
from shared.run_dir import RunDirectory
from shared.sweep import disk_budget
from shared.sweep.disk_budget import BudgetedCheckpointIO, SweepDisk, settle, size_of

FLOATS = 40_000
CHECKPOINT = {"state_dict": {"weight": torch.zeros(FLOATS)}, "epoch": 3}


def point(disk, score=None, stopped_at=None, generation=0, weights=True):
    """A point's run directory; settled where it has a score, and with a checkpoint."""
    run = RunDirectory.create(disk.runs.parents[1], disk.runs.parent.name, disk.runs.name, kind="point")
    if weights:
        run.checkpoints.mkdir()
        torch.save(CHECKPOINT, run.checkpoints / "last.ckpt")
    if score is not None:
        settle(run, generation, score, stopped_at)
        run.set_state("done")
    return run


@pytest.fixture
def room(tmp_path):
    def make(max_bytes=None, **more):
        disk = SweepDisk(tmp_path / "p" / "sweeps" / "s", tmp_path / "p" / "sweep-s", max_bytes, **more)
        disk.folder.mkdir(parents=True, exist_ok=True)
        disk.runs.mkdir(exist_ok=True)
        return disk

    return make


def has_weights(run):
    return any(run.checkpoints.glob("*.ckpt"))


def du(*roots):
    """Bytes of all files as they are now, counted by another way than the code's."""
    total = 0
    for root in roots:
        for folder, _, names in os.walk(root):
            for name in names:
                try:
                    total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118 - quick, for a busy loop
                except FileNotFoundError:
                    continue
    return total


def test_the_size_of_a_checkpoint_is_known_to_the_byte_before_it_is_written(tmp_path):
    with (tmp_path / "some-long-name.ckpt").open("wb") as stream:
        torch.save(CHECKPOINT, stream)
    assert size_of(CHECKPOINT) == (tmp_path / "some-long-name.ckpt").stat().st_size > 4 * FLOATS


def test_only_the_best_settled_points_keep_their_weights(room):
    disk = room(keep_top=2)
    runs = {score: point(disk, score) for score in (0.5, 0.1, 0.3)}
    early, running = point(disk, 0.01, stopped_at=1), point(disk)
    disk.prune()
    assert [has_weights(runs[score]) for score in (0.5, 0.1, 0.3)] == [False, True, True]
    assert not has_weights(early)  # given up early: its score is one of an earlier epoch
    assert has_weights(running)
    assert (runs[0.5].path / "status.json").is_file()


def test_the_largest_is_the_best_where_scores_are_maximised(room):
    disk = room(direction="max")
    small, large, other = point(disk, 0.2), point(disk, 0.9), point(disk, 0.99, generation=0)
    newer = point(disk, 0.1, generation=1)
    disk.prune()
    assert [has_weights(run) for run in (small, large, other, newer)] == [False, False, False, True]


def test_a_point_without_a_score_keeps_nothing(room):
    disk = room()
    run = point(disk)
    settle(run, 0, None, None)
    disk.prune()
    assert not has_weights(run)


def test_a_checkpoint_is_written_where_it_fits_and_loads(room):
    disk = room(4_000_000)
    path = point(disk, weights=False).checkpoints / "last.ckpt"
    told = []
    BudgetedCheckpointIO(disk, told.append).save_checkpoint(CHECKPOINT, path)
    assert load_checkpoint(path)["epoch"] == 3
    assert told == []


def test_settled_weights_make_room_and_the_best_stay(room):
    disk = room(1_000_000)
    best, worse = point(disk, 0.1), [point(disk, 0.2 + k) for k in range(4)]
    path = point(disk, weights=False).checkpoints / "last.ckpt"
    assert disk.used() + size_of(CHECKPOINT) > disk.for_checkpoints
    told = []
    BudgetedCheckpointIO(disk, told.append).save_checkpoint(CHECKPOINT, path)
    assert path.is_file()
    assert has_weights(best)
    assert not any(has_weights(run) for run in worse)
    assert told == []


def test_without_room_the_point_goes_on_without_a_checkpoint_and_says_so_once(room):
    disk = room(500_000)
    for score in (0.1, None):
        point(disk, score)
    run = point(disk)
    before = (run.checkpoints / "last.ckpt").read_bytes()
    told = []
    writer = BudgetedCheckpointIO(disk, told.append)
    for _ in range(3):
        writer.save_checkpoint(CHECKPOINT | {"epoch": 4}, run.checkpoints / "last.ckpt")
    assert (run.checkpoints / "last.ckpt").read_bytes() == before
    assert len(told) == 1
    assert "goes on without a new checkpoint" in told[0]
    assert "0.5 MB are taken and a checkpoint takes 0.2 MB" in told[0]
    assert "raise hydra.sweeper.max_disk_gb" in told[0]


def test_a_budget_smaller_than_one_checkpoint_is_told_before_anything_is_removed(room):
    disk = room(100_000, keep_top=1)
    kept, other = point(disk, 0.1), point(disk, 0.2)
    told = []
    BudgetedCheckpointIO(disk, told.append).save_checkpoint(CHECKPOINT, disk.runs / "x" / "last.ckpt")
    assert "one checkpoint takes 0.2 MB, and the whole sweep may take 0.1 MB" in told[0]
    assert has_weights(kept)
    assert has_weights(other)


def test_without_a_lock_no_checkpoint_is_written(room, monkeypatch):
    disk = room(4_000_000)

    def no_locks(descriptor, operation):
        if operation != fcntl.LOCK_UN:
            raise OSError(37, "No locks available")

    monkeypatch.setattr(disk_budget.fcntl, "flock", no_locks)
    told = []
    BudgetedCheckpointIO(disk, told.append).save_checkpoint(CHECKPOINT, disk.runs / "x" / "last.ckpt")
    assert "disk.lock cannot be locked" in told[0]
    assert not (disk.runs / "x").exists()


def test_a_held_lock_is_waited_for_but_not_for_ever(room):
    disk = room()
    with disk.locked() as first:
        assert first
        began = time.monotonic()
        with disk.locked(wait_s=0.2) as second:
            assert not second
        assert time.monotonic() - began >= 0.2
    with disk.locked(wait_s=0.2) as third:
        assert third


def test_a_folder_that_cannot_be_written_is_one_sentence(room):
    disk = room(4_000_000)
    (disk.runs / "x").write_text("a file where the folder should be")
    with pytest.raises(CheckpointError, match="cannot be written"):
        BudgetedCheckpointIO(disk, print).save_checkpoint(CHECKPOINT, disk.runs / "x" / "last.ckpt")


def save_points(disk, seed, rounds, start):
    start.wait(20)
    for k in range(rounds):
        run = point(disk, weights=False)
        writer = BudgetedCheckpointIO(disk, lambda sentence: None)
        for epoch in range(4):
            writer.save_checkpoint(CHECKPOINT | {"epoch": epoch}, run.checkpoints / "last.ckpt")
        settle(run, 0, seed + k, None)
        run.set_state("done")


@pytest.mark.parametrize("checkpoints", [2.5, 3.5, 5.5], ids=lambda count: f"room for {count}")
def test_two_processes_that_save_at_once_never_exceed_the_limit(room, checkpoints):
    disk = room(int(checkpoints * size_of(CHECKPOINT) / (1 - disk_budget.RESERVED)) + 150_000)
    context = multiprocessing.get_context("fork")
    start = context.Event()
    writers = [context.Process(target=save_points, args=(disk, seed, 8, start)) for seed in (0.1, 0.2)]
    for process in writers:
        process.start()
    seen, over = [], threading.Event()

    def watch():
        while not over.is_set():
            seen.append(du(disk.folder, disk.runs))

    watcher = threading.Thread(target=watch)
    watcher.start()
    start.set()
    for process in writers:
        process.join(30)
    over.set()
    watcher.join()
    assert [process.exitcode for process in writers] == [0, 0]
    print(f"{len(seen)} looks, at most {max(seen) / disk.max_bytes:.0%} of the limit")
    assert len(seen) > 50
    assert max(seen) <= disk.max_bytes
    assert max(seen) > 0.5 * disk.max_bytes  # so there was something to see
