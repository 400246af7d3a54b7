"""Every rule's moves compose on a real configuration; nothing is suggested twice, and nothing for a healthy run."""

import numpy as np
import pytest

from shared.advise.compare import compare
from shared.advise.compose import ready
from shared.advise.curves import Curves
from shared.advise.moves import moves
from shared.advise.records import Record, read_run
from shared.advise.rules import GRAVITY, Finding
from shared.advise.suggest import suggest
from shared.advise.verdict import judge
from tests.fabricate.past_run import past_run

T = np.arange(30.0)
HEALTHY = 1 + np.exp(-T / 5)
OVERFIT = np.exp(-T / 8), np.exp(-T / 4) + 0.02 * np.clip(T - 10, 0, None)


def advised(*folders):
    records = [read_run(folder) for folder in folders]
    return suggest([judge(record) for record in records], compare(records))


@pytest.mark.parametrize(
    ("primary", "experiment"),
    [("battery", "late_fusion"), pytest.param("spectra", "cnn_xattn", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("rule", GRAVITY)
def test_every_move_of_every_rule_composes(rule, primary, experiment, tmp_path):
    typed = (f"+experiment={experiment}", "scheduler=constant")
    record = read_run(past_run(tmp_path, "a", HEALTHY, HEALTHY, *typed, primary=primary))
    finding = Finding(rule, "", (1, 30), {"best_epoch": 9.0, "train_gain_share": 0.5})
    found = moves(finding, record)
    assert found or rule == "dead_part"
    for move in found:
        command = ready(record, move.overrides)
        assert set(move.overrides) <= set(command.overrides)


def test_a_healthy_run_gets_no_advice(tmp_path):
    advice = advised(past_run(tmp_path, "a", HEALTHY, HEALTHY))
    assert (advice.suggestions, advice.ideas, advice.dropped) == ((), (), ())


def test_an_overfitted_run_gets_ranked_advice_with_receipts(tmp_path):
    advice = advised(past_run(tmp_path, "a", *OVERFIT, "+experiment=late_fusion"))
    assert advice.suggestions[0].overrides == ("optimizer.weight_decay=0.09",)
    assert ("optimizer.weight_decay=0.09", "model.parameters.dropout=0.3") in [s.overrides for s in advice.suggestions]
    for suggestion in advice.suggestions:
        assert (suggestion.rule, suggestion.window[1]) == ("overfit", 30)
        assert suggestion.numbers["end"] > suggestion.numbers["best"]
        assert suggestion.overrides[-1] in suggestion.command.overrides
    assert "smaller or more constrained" in advice.ideas[0]


def test_what_was_tried_is_not_suggested_again(tmp_path):
    first = past_run(tmp_path, "a", *OVERFIT, "+experiment=late_fusion")
    worse = past_run(tmp_path, "b", *OVERFIT, "+experiment=late_fusion", "optimizer.weight_decay=0.09", f1=T * 0)
    advice = advised(first, worse)
    assert ("optimizer.weight_decay=0.09",) not in [s.overrides for s in advice.suggestions]
    assert "optimizer.weight_decay=0.09: tried already, in b" in advice.dropped


def test_values_that_went_wrong_bound_the_search(tmp_path):
    runs = [
        past_run(tmp_path, "low", 1 + 0 * T, 1 + 0 * T, "optimizer.lr=1e-6", f1=T * 0 + 0.1),
        past_run(tmp_path, "good", HEALTHY, HEALTHY, "optimizer.lr=1e-3"),
        past_run(tmp_path, "high", 1 + 0 * T, 1 + 0 * T, "optimizer.lr=4e-3", f1=T * 0 + 0.1),
    ]
    advice = advised(*runs)
    assert [s.overrides for s in advice.suggestions] == [("optimizer.lr=0.002",), ("optimizer.lr=0.00033",)]
    assert "the fit went wrong with 1e-06, 0.004" in advice.suggestions[0].receipt


def test_a_lead_over_another_sound_run_is_questioned(tmp_path):
    runs = [past_run(tmp_path, f"r{i}", HEALTHY, HEALTHY, f"data.batch_size={size}", f1=HEALTHY * 0 + 0.5 + i / 100)
            for i, size in enumerate((16, 32))]  # fmt: skip
    (suggestion,) = advised(*runs).suggestions
    assert (suggestion.rule, suggestion.overrides, suggestion.run.name) == ("repeat", ("seed=1",), "r1")


def test_an_interrupted_run_is_finished_first(tmp_path):
    folder = past_run(tmp_path, "a", HEALTHY, HEALTHY, state="interrupted")
    assert advised(folder).suggestions == ()  # nothing to go on from
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.ckpt").touch()
    (suggestion,) = advised(folder).suggestions
    assert suggestion.command.arguments() == ["-m", "projects.battery.train", f"resume='{folder}'"]


def test_a_log_alone_gets_advice_in_words(tmp_path):
    columns = {"train/loss": OVERFIT[0], "val/loss": OVERFIT[1]}
    verdict = judge(Record(tmp_path, curves=Curves(np.arange(1, 31), columns)))
    (suggestion,) = suggest([verdict], []).suggestions
    assert (suggestion.overrides, suggestion.command) == ((), None)
    assert "stop around epoch" in suggestion.words
