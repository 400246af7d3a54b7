"""`keep_per_group` of the sweet-spot callback: which files stay, and the same ones after a kill."""

import json
from statistics import pstdev

import pytest

from shared.callbacks.sweet_spot import SweetSpotCheckpoint
from shared.snapshot_thinning import Thinning
from shared.snapshots import SnapshotStore
from tests.fabricate.plain_fit import MAX_EPOCHS, Crash, Plain, fit
from tests.shared.callbacks.test_sweet_spot import PLACES


class GroupLoss(Plain):
    """Logs a loss of its own for one group, which falls where val/loss does not."""

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        self.log("val/group/body/loss", 10.0 - self.current_epoch)


def fit_thinned(folder, *more, **settings):
    callback = SweetSpotCheckpoint(keep_per_group=2)
    return fit(folder, *more, module=GroupLoss(), callback=callback, **settings)


def having(folder):
    store = SnapshotStore(folder / "snapshots")
    return {
        epoch: {
            group: entry["sha256"] for group, entry in store.record(epoch)["groups"].items() if store.has(epoch, group)
        }
        for epoch in store.epochs()
    }


@pytest.fixture(scope="module")
def thinned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("thinned")
    fit_thinned(folder)
    return folder


def test_a_group_keeps_the_best_epochs_of_its_deciding_analysis(thinned):
    store = SnapshotStore(thinned / "snapshots")
    assert store.epochs() == list(range(MAX_EPOCHS))  # the values of all of them stay
    metrics = [store.metrics(epoch) for epoch in range(MAX_EPOCHS)]
    newest, best = MAX_EPOCHS - 1, min(range(MAX_EPOCHS), key=lambda epoch: metrics[epoch]["val/loss"])
    chosen = json.loads((thinned / "sweet_spots.json").read_text())["epochs"]
    assert chosen["body"] == newest
    overfit = []  # of head: the score in words, but for the newest, which stays anyway
    for epoch in range(newest):
        near = [metrics[other]["val/loss"] for other in range(max(0, epoch - 1), epoch + 2)]
        loss, train = metrics[epoch]["val/loss"], metrics[epoch]["train/loss"]
        overfit.append(loss + 0.2 * max(0.0, loss - train) + 0.1 * pstdev(near))
    ranked = sorted(range(newest), key=lambda epoch: overfit[epoch])
    expected = {"head": {*ranked[:2], newest, best}, "body": {newest - 1, newest, best}}
    assert chosen["head"] in expected["head"]
    for group, epochs in expected.items():
        assert {epoch for epoch, groups in having(thinned).items() if group in groups} == epochs
    files = {path.parent.name: path for path in store.folder.glob("*/head.safetensors")}
    assert set(files) == {store.path(epoch).name for epoch in expected["head"]}
    assert json.loads((thinned / "sweet_spots.json").read_text())["num_snapshots"] == MAX_EPOCHS


@pytest.mark.parametrize("place", ["mid-epoch", "epoch end", "behind the last epoch"])
def test_thinned_by_group_killed_and_resumed_equals_uninterrupted(tmp_path, thinned, place):
    with pytest.raises(RuntimeError, match="killed"):
        fit_thinned(tmp_path, PLACES[place])
    last = tmp_path / "ckpt" / "last.ckpt"
    fit_thinned(tmp_path, resume=last if last.exists() else None)
    assert having(tmp_path) == having(thinned)
    assert (tmp_path / "sweet_spots.json").read_text() == (thinned / "sweet_spots.json").read_text()


@pytest.mark.parametrize("epoch", [3, MAX_EPOCHS - 1])
def test_killed_between_a_snapshot_and_its_thinning(tmp_path, thinned, monkeypatch, epoch):
    apply = Thinning.apply
    with monkeypatch.context() as patched:
        patched.setattr(Thinning, "apply", lambda self, store, new: [] if new == epoch else apply(self, store, new))
        hook, place = ("on_train_epoch_start", epoch + 1) if epoch < MAX_EPOCHS - 1 else ("on_train_end", epoch + 1)
        with pytest.raises(RuntimeError, match="killed"):
            fit_thinned(tmp_path, Crash(hook, place))
    left = sum(len(groups) for groups in having(tmp_path).values())
    fit_thinned(tmp_path, resume=tmp_path / "ckpt" / "last.ckpt")
    assert having(tmp_path) == having(thinned)
    assert epoch < MAX_EPOCHS - 1 or left > sum(len(groups) for groups in having(thinned).values())


def test_keep_per_group_must_keep_something():
    with pytest.raises(ValueError, match="keep_per_group is 0; at least 1 is needed, or null for all"):
        SweetSpotCheckpoint(keep_per_group=0)
