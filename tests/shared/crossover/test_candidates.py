import pytest

from shared.crossover import BestSingle
from shared.crossover.candidates import build_candidates, damaged_snapshots
from tests.shared.crossover.test_procedure import additive_run, state_at


def test_whole_epochs_are_starts_and_a_mixture_is_none(tmp_path):
    _, groups, store = additive_run(tmp_path)
    best = BestSingle(state_at(groups, store, 9), 9)
    table = build_candidates(groups, store, {"low": 5, "high": 15}, best, (2, 4))
    assert table.starts[0] == table.best_single
    epochs = [set(table.epochs(groups, start).values()) for start in table.starts]
    assert {epoch for found in epochs if len(found) == 1 for epoch in found} == {1, 3, 5, 7, 9, 11, 13, 15, 17, 19}
    assert table.single_epoch(table.sweet_spot) is None
    assert table.single_epoch(table.best_single) is None
    assert {table.single_epoch(start) for start in table.starts} == {None, 1, 3, 5, 7, 11, 13, 15, 17, 19}


def test_neighbours_without_a_snapshot_are_clipped(tmp_path):
    _, groups, store = additive_run(tmp_path)
    store.remove(17)
    store.remove(3)
    best = BestSingle(state_at(groups, store, 9), 9)
    table = build_candidates(groups, store, {"low": 1, "high": 15}, best, (2, 4))
    epochs = [[table.sources[number].epoch for number in options] for options in table.candidates]
    # low has nothing before epoch 1, and 5 stands for 3 as well; high has 19 for 17 as well.
    assert epochs == [[9, 1, 5], [9, 15, 11, 13, 19]]
    assert {v.shift: v.epochs for v in table.variants}[-2] == {"low": 1, "high": 13}
    assert table.starts[0] == (0, 0)
    gone = build_candidates(groups, store, {"low": 3, "high": 15}, best, (2,))
    assert gone.clipped == {"low": 1}


def test_equal_bytes_are_one_source(tmp_path):
    _, groups, store = additive_run(tmp_path)
    best = BestSingle(state_at(groups, store, 9), 9)
    for epoch in (5, 7):
        parts = {"low": store.load(epoch, "low"), "high": store.load(9, "high")}
        store.write(epoch, epoch, parts, {})
    table = build_candidates(groups, store, {"low": 7, "high": 7}, best, (2,))
    epochs = [[table.sources[number].epoch for number in options] for options in table.candidates]
    assert epochs == [[9, 7, 5], [9]]
    with pytest.raises(ValueError, match="groups high have no sweet spot"):
        build_candidates(groups, store, {"low": 7}, best, (2,))


def test_snapshots_to_be_left_out_are_no_candidates(tmp_path):
    _, groups, store = additive_run(tmp_path)
    (store.path(15) / "low.safetensors").unlink()
    damaged = damaged_snapshots(store)
    assert list(damaged) == [15]
    assert "it is missing" in damaged[15]
    best = BestSingle(state_at(groups, store, 9), 9)
    table = build_candidates(groups, store, {"low": 5, "high": 15}, best, (2,), damaged)
    assert table.clipped == {"high": 13}
    assert 15 not in {source.epoch for source in table.sources}
    with pytest.raises(ValueError, match=r"no snapshot in .* can be used"):
        build_candidates(groups, store, {"low": 5, "high": 15}, best, (2,), store.epochs())


def test_a_group_takes_only_epochs_whose_file_is_there(tmp_path):
    _, groups, store = additive_run(tmp_path)
    store.thin_group("high", {5, 9, 13, 19})
    assert damaged_snapshots(store) == {}
    best = BestSingle(state_at(groups, store, 9), 9)
    table = build_candidates(groups, store, {"low": 5, "high": 15}, best, (2, 4))
    epochs = [[table.sources[number].epoch for number in options] for options in table.candidates]
    assert epochs == [[9, 5, 1, 3, 7], [9, 13, 19]]  # high: 13 stands for 15, with 9 and 19 beside it
    assert table.clipped == {"high": 13}
    for start in table.starts:
        for number, name in zip(start, groups.names, strict=True):
            table.sources[number].load(name)  # every source that the search can begin with is there
    assert {table.single_epoch(start) for start in table.starts} == {None, 5, 13, 19}
    store.thin_group("high", set())
    with pytest.raises(ValueError, match=r"none of the 10 snapshots in .* has the group high"):
        build_candidates(groups, store, {"low": 5, "high": 15}, best, (2,))


def test_equal_bytes_of_a_thinned_file_stand_for_nothing(tmp_path):
    _, groups, store = additive_run(tmp_path)
    best = BestSingle(state_at(groups, store, 9), 9)
    store.write(7, 7, {"low": store.load(5, "low"), "high": store.load(7, "high")}, {})
    store.thin_group("low", {7, 9})
    table = build_candidates(groups, store, {"low": 7, "high": 5}, best, (2,))
    number = table.sweet_spot[0]
    assert table.sources[number].epoch == 7
    table.sources[number].load("low")
