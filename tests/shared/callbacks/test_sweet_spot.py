import errno
import json
import os
import signal
import subprocess
import sys
import threading

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping

from shared.callbacks.sweet_spot import SweetSpotCheckpoint
from shared.errors import CheckpointError, ConfigError
from shared.snapshots import SnapshotStore
from shared.sweet_spots import SweetSpots
from tests.fabricate.plain_fit import BATCHES, MAX_EPOCHS, Crash, Plain, contents, fit


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    torch.manual_seed(0)
    fit(folder)
    return folder


def test_a_plain_module_gets_snapshots_and_a_choice(uninterrupted):
    store = SnapshotStore(uninterrupted / "snapshots")
    assert store.epochs() == list(range(MAX_EPOCHS))  # under 12 epochs each is kept
    record = store.record(3)
    assert set(record["groups"]) == {"frozen", "body", "head", "tied"}
    assert set(record["metrics"]) == {"train/loss", "val/loss"}
    assert set(store.load(3, "tied")) == {"tied.bias"}
    inodes = {(store.path(epoch) / "frozen.safetensors").stat().st_ino for epoch in store.epochs()}
    assert len(inodes) == 1
    content = json.loads((uninterrupted / "sweet_spots.json").read_text())
    assert content["decision"] == "chosen"
    assert set(SweetSpots.from_dict(content).epochs) == {"frozen", "body", "head", "tied"}
    assert content["num_snapshots"] == content["num_epochs"] == MAX_EPOCHS


def test_a_snapshot_is_the_network_of_its_epoch(tmp_path):
    states = {}

    class Keep(L.Callback):
        def on_train_epoch_start(self, trainer, module):
            states[trainer.current_epoch - 1] = {name: value.clone() for name, value in module.state_dict().items()}

    _, module, callback = fit(tmp_path, Keep(), max_epochs=3)
    states[2] = module.state_dict()
    assert callback.num_snapshots == 3
    assert 0 < callback.training_thread_s < 5
    groups = callback.module_groups
    for epoch in range(3):
        state = groups.join({group: callback.store.load(epoch, group) for group in groups.names})
        assert list(state) == list(states[epoch])
        assert all(torch.equal(state[name], states[epoch][name]) for name in state)


PLACES = {
    "before the first checkpoint": Crash("on_train_batch_end", 0, 1),
    "mid-epoch": Crash("on_train_batch_end", 3, 2),
    "validation": Crash("on_validation_start", 3),
    "behind the validation": Crash("on_validation_end", 3),
    "epoch end": Crash("on_train_epoch_end", 3),
    "next epoch": Crash("on_train_epoch_start", 4),
    "behind the last epoch": Crash("on_train_end", MAX_EPOCHS),
    "behind the fit": Crash("on_fit_end", MAX_EPOCHS),
}


@pytest.mark.parametrize("place", PLACES)
def test_killed_and_resumed_equals_uninterrupted(tmp_path, uninterrupted, place):
    with pytest.raises(RuntimeError, match="killed"):
        fit(tmp_path, PLACES[place])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("snapshot")]
    last = tmp_path / "ckpt" / "last.ckpt"
    fit(tmp_path, resume=last if last.exists() else None)
    assert contents(tmp_path) == contents(uninterrupted)
    assert (tmp_path / "sweet_spots.json").read_text() == (uninterrupted / "sweet_spots.json").read_text()


@pytest.mark.parametrize("epoch", [3, MAX_EPOCHS - 1])
def test_a_snapshot_that_never_reached_the_disk_is_written_by_the_resumed_run(
    tmp_path, uninterrupted, monkeypatch, epoch
):
    write = SnapshotStore.write

    def slow_disk(self, number, *args):
        if number != epoch:
            write(self, number, *args)

    with monkeypatch.context() as patched:
        patched.setattr(SnapshotStore, "write", slow_disk)
        hook, place = ("on_train_epoch_start", epoch + 1) if epoch < MAX_EPOCHS - 1 else ("on_train_end", epoch + 1)
        with pytest.raises(RuntimeError, match="killed"):
            fit(tmp_path, Crash(hook, place))
    assert epoch not in contents(tmp_path)
    saved = torch.load(tmp_path / "ckpt" / "last.ckpt", weights_only=True)
    rows = next(state["rows"] for key, state in saved["callbacks"].items() if key.startswith("SweetSpot"))
    assert rows[-1]["epoch"] == epoch  # the checkpoint knows of it although it stands before the callback
    fit(tmp_path, resume=tmp_path / "ckpt" / "last.ckpt")
    assert contents(tmp_path) == contents(uninterrupted)


KILLED_WHILE_WRITING = """
import os, signal, sys, time
from pathlib import Path
import lightning as L
from shared.snapshots import SnapshotStore
from tests.fabricate.plain_fit import fit

write_group = SnapshotStore._write_group

def slow(self, epoch, step, group, part, before):
    if (epoch, group) == (3, "head"):
        time.sleep(60)
    return write_group(self, epoch, step, group, part, before)

class Kill(L.Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.current_epoch == 4:
            while not (Path(sys.argv[1]) / "snapshots/e0003/body.safetensors").exists():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

SnapshotStore._write_group = slow
fit(Path(sys.argv[1]), before=[Kill()])
"""


@pytest.mark.slow
def test_killed_between_the_files_of_a_snapshot_and_resumed_equals_uninterrupted(tmp_path, uninterrupted, repo_root):
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, str(tmp_path)]
    done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "snapshots" / "e0003" / "body.safetensors").exists()
    assert list(contents(tmp_path)) == [0, 1, 2]
    fit(tmp_path, resume=tmp_path / "ckpt" / "last.ckpt")
    assert contents(tmp_path) == contents(uninterrupted)
    assert not list((tmp_path / "snapshots").rglob(".*"))


@pytest.mark.parametrize("batch", [0, 2])
def test_resumed_from_a_checkpoint_within_an_epoch(tmp_path, uninterrupted, batch):
    class SaveMidEpoch(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, loaded, batch_idx):
            if (trainer.current_epoch, batch_idx) == (3, batch):
                trainer.save_checkpoint(tmp_path / "mid.ckpt")

    with pytest.raises(RuntimeError, match="killed"):
        fit(tmp_path, Crash("on_train_epoch_end", 5), before=[SaveMidEpoch()])
    assert list(contents(tmp_path)) == [0, 1, 2, 3, 4, 5]
    fit(tmp_path, resume=tmp_path / "mid.ckpt")
    found, expected = contents(tmp_path), contents(uninterrupted)
    # Lightning's own mean of train/loss forgets the batches before the checkpoint; everything else is equal.
    found[3]["metrics"].pop("train/loss"), expected[3]["metrics"].pop("train/loss")
    assert found == expected


def test_a_checkpoint_of_a_later_batch_waits_for_the_snapshot(tmp_path, monkeypatch):
    seen = []
    write = SnapshotStore.write
    release = threading.Event()

    def held(self, number, *args):
        release.wait(5)
        write(self, number, *args)

    class Save(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if (trainer.current_epoch, batch_idx) == (1, 0):
                seen.append(list(SnapshotStore(tmp_path / "snapshots").epochs()))
                threading.Timer(0.05, release.set).start()
                trainer.save_checkpoint(tmp_path / "mid.ckpt")
                seen.append(list(SnapshotStore(tmp_path / "snapshots").epochs()))

    monkeypatch.setattr(SnapshotStore, "write", held)
    fit(tmp_path, before=[Save()], max_epochs=2)
    assert seen == [[], [0]]


def test_damaged_snapshots_are_left_out_by_name(tmp_path):
    with pytest.raises(RuntimeError, match="killed"):
        fit(tmp_path, Crash("on_train_epoch_start", 4))
    store = SnapshotStore(tmp_path / "snapshots")
    path = store.path(1) / "body.safetensors"
    path.write_bytes(path.read_bytes()[:50])
    store.remove(2)
    with pytest.warns(UserWarning, match="left out of the sweet spots") as caught:
        _, _, callback = fit(tmp_path, resume=tmp_path / "ckpt" / "last.ckpt")
    sentences = [str(one.message) for one in caught if "left out" in str(one.message)]
    assert len(sentences) == 2
    assert "epoch 1 is left out" in sentences[0]
    assert "body.safetensors cannot be used: it has 50 bytes" in sentences[0]
    assert "there is no snapshot" in sentences[1]
    assert store.epochs() == [0, 3, 4, 5, 6] == [row["epoch"] for row in callback.rows]
    assert json.loads((tmp_path / "sweet_spots.json").read_text())["decision"] == "declined"


def test_a_full_disk_stops_the_fit_with_one_sentence(tmp_path, monkeypatch):
    link = os.link

    def full(source, target):
        if "e0002" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device")
        link(source, target)

    def no_copy(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr("shared.snapshots.shutil.copyfile", no_copy)
    with pytest.raises(CheckpointError, match=r"e0002 cannot be written .*No space.*; free disk space, then go on"):
        fit(tmp_path)
    assert list(contents(tmp_path)) == [0, 1]
    assert not list((tmp_path / "snapshots").rglob(".*"))


def test_early_stopping_keeps_the_last_epoch(tmp_path):
    stop = EarlyStopping("val/loss", patience=0, min_delta=10.0)
    trainer, module, callback = fit(tmp_path, stop, max_epochs=40, callback=SweetSpotCheckpoint(every_n_epochs=5))
    assert trainer.current_epoch == 2
    assert callback.store.epochs() == [1]
    part = callback.store.load(1, "head")
    assert torch.equal(part["head.weight"], module.head.weight)
    assert "val/loss" in callback.store.metrics(1)


def test_long_runs_keep_every_nth_and_the_last(tmp_path):
    _, _, callback = fit(tmp_path, callback=SweetSpotCheckpoint(every_n_epochs=3), max_epochs=13)
    assert callback.store.epochs() == [2, 5, 8, 11, 12]


def test_the_disk_budget_thins_alike_with_and_without_a_kill(tmp_path):
    one = SweetSpotCheckpoint(max_disk_gb=15e-6)
    fit(tmp_path / "whole", callback=one)
    assert 3 <= len(one.rows) < MAX_EPOCHS
    assert one.store.epochs() == [row["epoch"] for row in one.rows]
    assert one.store.size_bytes() <= 15_000
    assert sorted([*one.removed, *one.store.epochs()]) == list(range(MAX_EPOCHS))
    with pytest.raises(RuntimeError, match="killed"):
        fit(tmp_path / "cut", Crash("on_train_epoch_end", 5), callback=SweetSpotCheckpoint(max_disk_gb=15e-6))
    fit(tmp_path / "cut", callback=SweetSpotCheckpoint(max_disk_gb=15e-6), resume=tmp_path / "cut/ckpt/last.ckpt")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_values_of_an_earlier_validation_are_not_those_of_this_epoch(tmp_path):
    _, _, callback = fit(tmp_path, max_epochs=4, check_val_every_n_epoch=2)
    assert ["val/loss" in row["metrics"] for row in callback.rows] == [False, True, False, True]


def test_another_fit_in_the_same_folder_begins_anew(tmp_path):
    fit(tmp_path, max_epochs=3)
    callback = SweetSpotCheckpoint(dirpath=str(tmp_path))
    with pytest.warns(UserWarning, match="3 snapshots of an earlier fit were removed"):
        fit(tmp_path / "elsewhere", callback=callback, max_epochs=1)
    assert callback.store.epochs() == [0]


def test_a_trial_run_touches_nothing(tmp_path):
    fit(tmp_path, max_epochs=2)
    before = contents(tmp_path)
    fit(tmp_path, fast_dev_run=True)
    assert contents(tmp_path) == before


def test_a_fit_that_ended_by_steps_and_was_killed_gets_its_last_epoch_by_resuming(tmp_path):
    with pytest.raises(RuntimeError, match="killed"):
        fit(tmp_path, before=[Crash("on_train_end", 5)], callback=SweetSpotCheckpoint(every_n_epochs=3),
            max_epochs=-1, max_steps=5 * BATCHES)  # fmt: skip
    assert list(contents(tmp_path)) == [2]
    callback = SweetSpotCheckpoint(every_n_epochs=3)
    _, module, _ = fit(tmp_path, callback=callback, max_epochs=-1, max_steps=5 * BATCHES,
                       resume=tmp_path / "ckpt" / "last.ckpt")  # fmt: skip
    assert list(contents(tmp_path)) == [2, 4]
    assert torch.equal(callback.store.load(4, "head")["head.weight"], module.head.weight)


def test_keys_of_another_project(tmp_path):
    class Underscores(Plain):
        def training_step(self, batch, batch_idx):
            loss = self.loss(batch)
            self.log("train_loss", loss, on_epoch=True, on_step=False)
            return loss

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.loss(batch))
            self.log("val_acc", 0.5)

    callback = SweetSpotCheckpoint(monitor="val_loss", train_loss="train_loss", accuracy="val_acc")
    fit(tmp_path, module=Underscores(), callback=callback, max_epochs=6)
    assert set(callback.store.metrics(5)) == {"val_loss", "train_loss", "val_acc"}
    content = json.loads((tmp_path / "sweet_spots.json").read_text())
    assert content["decision"] == "chosen"
    assert content["keys"] == {"loss": "val_loss", "train_loss": "train_loss", "accuracy": "val_acc"}
    assert [vote["epoch"] is None for vote in content["votes"]["head"]] == [False, False, False, True, False]


def test_select_works_from_a_checkpoint_alone(tmp_path, uninterrupted):
    saved = torch.load(uninterrupted / "ckpt" / "last.ckpt", weights_only=True)["callbacks"]
    callback = SweetSpotCheckpoint(dirpath=str(uninterrupted), at_fit_end=False)
    callback.load_state_dict(saved[callback.state_key])
    found = callback.select(tmp_path / "sweet_spots.json", Plain())
    assert found.as_dict() == json.loads((uninterrupted / "sweet_spots.json").read_text())
    without_module = SweetSpotCheckpoint(dirpath=str(uninterrupted))
    without_module.load_state_dict(saved[callback.state_key])
    assert without_module.select(tmp_path / "again.json").epochs == found.epochs


def test_the_choice_may_be_left_to_somebody_else(tmp_path):
    fit(tmp_path, callback=SweetSpotCheckpoint(at_fit_end=False), max_epochs=1)
    assert not (tmp_path / "sweet_spots.json").exists()


@pytest.mark.parametrize(
    ("settings", "error", "sentence"),
    [
        ({"every_n_epochs": 0}, ValueError, "every_n_epochs is 0; at least 1"),
        ({"mode": "lowest"}, ValueError, "mode is 'lowest'; allowed: min, max"),
        ({"max_disk_gb": 0}, ValueError, "max_disk_gb is 0; it must be above 0"),
        ({"overfit_weight": -1}, ValueError, "overfit_weight is -1; 0 or more"),
        ({"stability_weight": float("nan")}, ValueError, "stability_weight is nan; 0 or more"),
        ({"deciding": {"a": "best"}}, ConfigError, "deciding.a is 'best'"),
        ({"windows": {"a": [1, 0]}}, ConfigError, r"windows.a is \[1, 0\]"),
    ],
)
def test_wrong_settings_are_refused(settings, error, sentence):
    with pytest.raises(error, match=sentence):
        SweetSpotCheckpoint(**settings)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"groups": {"all": ["bodi"]}}, "prefix 'bodi' matches no parameter and no buffer; nearest: body"),
        (
            {"deciding": {"tail": "overfit"}},
            "deciding names the module group 'tail'; there are frozen, body, head, tied",
        ),
        ({"monitor": "val/f1"}, r"monitor is 'val/f1', which was not logged; logged: train/loss, val/loss"),
    ],
)
def test_settings_that_do_not_fit_the_module_are_refused(tmp_path, settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        fit(tmp_path, callback=SweetSpotCheckpoint(**settings), max_epochs=2)


class WithoutTail(Plain):
    """Could have a group more and has not, as configured."""

    def absent_groups(self):
        return ("tail",)


def test_settings_of_a_group_that_the_module_has_not_as_configured_are_left_out(tmp_path):
    settings = {"deciding": {"tail": "stable", "head": "balance"}, "windows": {"tail": [0.5, 1.0]}}
    _, _, callback = fit(tmp_path, module=WithoutTail(), callback=SweetSpotCheckpoint(keep_per_group=3, **settings))
    content = json.loads((tmp_path / "sweet_spots.json").read_text())
    assert set(content["epochs"]) == {"frozen", "body", "head", "tied"}
    assert content["choices"]["head"]["deciding"] == "balance"
    again = SweetSpotCheckpoint(tmp_path, **settings)  # behind the fit, without the network
    again.load_state_dict(callback.state_dict())
    assert again.select(tmp_path / "again.json").epochs == content["epochs"]
    again.select(tmp_path / "again.json", WithoutTail())
    with pytest.raises(ConfigError, match="deciding names the module group 'tail'; there are frozen, body, head, tied"):
        again.select(tmp_path / "again.json", Plain())
    with pytest.raises(ConfigError, match="windows names the module group 'tial'; there are frozen, body"):
        fit(tmp_path, module=WithoutTail(), callback=SweetSpotCheckpoint(windows={"tial": [0.5, 1.0]}))


def test_there_is_no_store_before_a_folder_is_known():
    with pytest.raises(ValueError, match="dirpath is None and no fit has begun"):
        _ = SweetSpotCheckpoint().store
