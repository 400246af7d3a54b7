import pytest
import torch

from shared.snapshot_thinning import Thinning
from shared.snapshots import SnapshotStore

LOSS = {0: 5.0, 1: 3.0, 2: 1.0, 3: 2.0, 4: 4.0}
RANKING = {"a": [2, 3, 1, 4, 0], "b": [0, 4, 3, 2, 1]}


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
    thinning = Thinning(LOSS, RANKING, keep_per_group=2)
    assert thinning.apply(store, newest=4) == []
    # a: 2 and 3 by its ranking, b: 0 and 4; 4, the newest, and 2, the best, stay anyway.
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
                loss = {e: LOSS[e] for e in range(epoch + 1)}
                ranking = {group: [e for e in ranked if e <= epoch] for group, ranked in RANKING.items()}
                Thinning(loss, ranking, keep_per_group=1).apply(store, epoch)
        found.append(kept(store))
    assert found[0] == found[1] == found[2] == {"a": [2, 4], "b": [0, 2, 4]}


def test_groups_are_thinned_before_whole_epochs(store):
    one = store.record(0)["groups"]["a"]["bytes"]
    thinning = Thinning(LOSS, RANKING, keep_per_group=2, max_bytes=5 * one)
    assert thinning.apply(store, newest=4) == [0, 1, 3]  # the worst monitor first; two of them had given up both files
    assert kept(store) == {"a": [2, 4], "b": [2, 4]}
    assert store.size_bytes() <= 5 * one + 5000


def test_without_settings_everything_stays(store):
    assert Thinning(LOSS, RANKING).apply(store, newest=4) == []
    assert kept(store) == {"a": [0, 1, 2, 3, 4], "b": [0, 1, 2, 3, 4]}
