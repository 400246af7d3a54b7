import json
from dataclasses import replace

import torch

from shared.crossover import BestSingle, load_metadata, load_state
from shared.crossover.candidates import build_candidates
from shared.crossover.variant_rows import variant_members
from tests.shared.crossover.test_procedure import SETTINGS, additive_run, learnable, run, state_at


def test_the_rows_are_the_sweet_spots_shifted_in_epochs(tmp_path):
    module, groups, store = additive_run(tmp_path)
    settings = replace(SETTINGS, variant_rows=True, neighbours=(2, 4))
    result = run(tmp_path, module, groups, store, {"low": 5, "high": 15}, 9, learnable(24)[0], settings=settings)
    expected = {
        "sweet_spot": (5, 15),
        "delta_-4": (1, 11),
        "delta_-2": (3, 13),
        "delta_+2": (7, 17),
        "delta_+4": (9, 19),
    }
    assert set(result.rows) == {"crossover", "uniform_soup", "greedy_soup", "lawa", *expected}
    for row, (low, high) in expected.items():
        state = load_state(result.rows[row])
        truth = {**state_at(groups, store, high), **store.load(low, "low")}
        assert all(torch.equal(tensor, truth[name]) for name, tensor in state.items())
        origin = load_metadata(result.rows[row])
        assert origin["row"] == row
        assert (origin["source_epochs"]["low.weight"], origin["source_epochs"]["high.bias"]) == (low, high)
    told = json.loads((tmp_path / "out" / "crossover.json").read_text())["variant_rows"]
    assert told["sweet_spot"]["epochs"] == {"low": 5, "high": 15}
    assert told["sweet_spot"]["loss"] < told["delta_-4"]["loss"]


def test_they_change_nothing_else_and_are_off_by_default(tmp_path):
    module, groups, store = additive_run(tmp_path)
    spots, batches = {"low": 5, "high": 15}, learnable(24)[0]
    plain = run(tmp_path / "plain", module, groups, store, spots, 9, batches)
    more = run(
        tmp_path / "more", module, groups, store, spots, 9, batches, settings=replace(SETTINGS, variant_rows=True)
    )
    assert set(plain.rows) == {"crossover", "uniform_soup", "greedy_soup", "lawa"}
    assert plain.report == more.report
    assert all(torch.equal(tensor, more.final_state[name]) for name, tensor in plain.final_state.items())
    assert "variant_rows" not in plain.details


def test_shifts_that_end_at_the_same_weights_are_one_row(tmp_path):
    _, groups, store = additive_run(tmp_path)
    for epoch in (1, 3, 7, 17, 19):
        store.remove(epoch)
    table = build_candidates(groups, store, {"low": 5, "high": 15}, BestSingle(state_at(groups, store, 9), 9), (2, 4))
    found = {row: tuple(epochs.values()) for row, (_, epochs) in variant_members(groups, table).items()}
    # Below 5 and above 15 nothing is left: -4 takes high from 11, -2 from 13; +2 and +4 both take low from 9.
    assert found == {"sweet_spot": (5, 15), "delta_-4": (5, 11), "delta_-2": (5, 13), "delta_+2": (9, 15)}
