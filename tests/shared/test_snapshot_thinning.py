import math

import pytest
import torch

from shared.snapshot_thinning import Thinning
from shared.snapshots import SnapshotStore

LOSS = {0: 5.0, 1: 3.0, 2: 1.0, 3: 2.0, 4: 4.0}
OWN = {0: 1.0, 1: math.nan, 2: 3.0, 3: 2.0, 4: 2.0}


@pytest.fixture
def store(tmp_path):
    store = SnapshotStore(tmp_path / "snapshots")
    for epoch in LOSS:
        tensor = {"weight": torch.full((100,), float(epoch))}
        store.write(epoch, epoch, {"a": tensor, "b": {"weight": tensor["weight"] + 0.5}}, {})
    return store


def kept(store):
    return {group: [epoch for epoch in store.epochs() if store.has(epoch, group)] for group in ("a", "b")}


def test_a_group_keeps_its_own_best_the_newest_and_the_best_of_all(store):
    thinning = Thinning(LOSS, {"a": LOSS, "b": OWN}, keep_per_group=2)
    assert thinning.apply(store, newest=4) == []
    # a: 2 and 3 by the monitor; b: 0 by its own loss, and 4 before 3, its equal, for it is later; 4 and 2 stay anyway.
    assert kept(store) == {"a": [2, 3, 4], "b": [0, 2, 4]}
    before = store.size_bytes()
    assert thinning.apply(store, newest=4) == []
    assert store.size_bytes() == before


def test_interrupted_or_not_the_same_files_stay(tmp_path):
    found = []
    for every in (1, 2, 5):  # thinned at each epoch, at some, only at the end
        store = SnapshotStore(tmp_path / str(every) / "snapshots")
        for epoch in LOSS:
            tensor = {"weight": torch.full((100,), float(epoch))}
            store.write(epoch, epoch, {"a": tensor, "b": {"weight": tensor["weight"] + 0.5}}, {})
            if (epoch + 1) % every == 0 or epoch == 4:
                loss, own = ({e: values[e] for e in range(epoch + 1)} for values in (LOSS, OWN))
                Thinning(loss, {"a": loss, "b": own}, keep_per_group=1).apply(store, epoch)
        found.append(kept(store))
    assert found[0] == found[1] == found[2] == {"a": [2, 4], "b": [0, 2, 4]}


def test_groups_are_thinned_before_whole_epochs(store):
    one = store.record(0)["groups"]["a"]["bytes"]
    thinning = Thinning(LOSS, {"a": LOSS, "b": OWN}, keep_per_group=2, max_bytes=5 * one)
    assert thinning.apply(store, newest=4) == [0, 1, 3]  # the worst monitor first; two of them had given up both files
    assert kept(store) == {"a": [2, 4], "b": [2, 4]}
    assert store.size_bytes() <= 5 * one + 5000


def test_without_settings_everything_stays(store):
    assert Thinning(LOSS, {"a": LOSS}).apply(store, newest=4) == []
    assert kept(store) == {"a": [0, 1, 2, 3, 4], "b": [0, 1, 2, 3, 4]}
