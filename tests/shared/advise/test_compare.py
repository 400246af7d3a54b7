"""What went with better results is said only where the runs can show it."""

from pathlib import Path

import numpy as np
import pytest

from shared.advise.compare import compare
from shared.advise.curves import Curves
from shared.advise.records import Record


def run(name, result, state="done", **settings):
    config = {
        "data": {
            "_target_": "projects.any.data.Module",
            "batch_size": settings.pop("batch", 32),
            "num_workers": len(name),
        },
        "optimizer": {"lr": settings.pop("lr", 0.1), "weight_decay": settings.pop("decay", 0.0)},
        "runtime": {"monitor": "val/score", "monitor_mode": "max"},
        "seed": settings.pop("seed", 0),
        "paths": {"outputs": name},
    }
    curves = Curves(np.array([1, 2]), {"val/score": np.array([0.0, result])})
    return Record(Path(name), state=state, config=config, curves=curves)


def factors(runs):
    (comparison,) = compare(runs)
    return {factor.keys: factor for factor in comparison.factors}


def test_runs_are_ranked_and_the_unfinished_named():
    (comparison,) = compare([run("a", 0.1), run("b", 0.9, lr=0.2), run("c", 1.0, state="failed")])
    assert [record.name for record in comparison.records] == ["b", "a"]
    assert comparison.left_out == ("c",)


def test_few_runs_tell_nothing():
    found = factors([run("a", 0.1), run("b", 0.9, lr=0.2), run("c", 0.5, lr=0.3)])
    assert found["optimizer.lr",].verdict == "too few to tell"
    assert found["optimizer.lr",].p_value is None


def test_a_setting_that_is_better_in_every_repetition_is_found():
    runs = [run(f"a{s}", 0.5 + s / 100, seed=s) for s in range(5)]
    runs += [run(f"b{s}", 0.7 + s / 100, seed=s, lr=0.2) for s in range(5)]
    found = factors(runs)["optimizer.lr",]
    # 2 of the 252 arrangements part the ranks so well.
    assert found.p_value == pytest.approx(2 / 252, abs=0.005)
    assert (found.verdict, found.best_values) == ("better", ("0.2",))


def test_settings_that_changed_together_are_named_together():
    runs = [run(f"a{s}", 0.5 + s / 100, seed=s) for s in range(5)]
    runs += [run(f"b{s}", 0.7 + s / 100, seed=s, lr=0.2, decay=0.1) for s in range(5)]
    found = factors(runs)
    assert list(found) == [("optimizer.lr", "optimizer.weight_decay")]
    assert "which of them it was cannot be told" in found["optimizer.lr", "optimizer.weight_decay"].sentence


def test_a_setting_is_not_praised_for_another_one():
    # lr does all; batch 64 was used more often with the better lr, and would look better without the blocks.
    runs = [run(f"{lr}{b}{s}", 0.5 + (lr == 0.2) * 0.3 + s / 1000, lr=lr, batch=b, seed=s)
            for lr, b, n in ((0.1, 32, 6), (0.1, 64, 2), (0.2, 32, 2), (0.2, 64, 6)) for s in range(n)]  # fmt: skip
    found = factors(runs)
    assert found["optimizer.lr",].verdict == "better"
    assert found["data.batch_size",].verdict != "better"


def test_a_setting_that_never_changed_alone_says_so():
    runs = [
        run(f"r{i}", i / 10, lr=lr, batch=batch) for i, (lr, batch) in enumerate([(1, 8), (1, 16), (2, 32), (3, 64)])
    ]
    assert "in no two of them did it change alone" in factors(runs)["optimizer.lr",].sentence


def test_a_steady_trend_over_values_tried_once_is_found():
    rising = factors([run(f"r{i}", i / 10, lr=10.0**i) for i in range(7)])["optimizer.lr",]
    assert rising.verdict == "better"
    assert "larger values went with better results" in rising.sentence
    falling = factors([run(f"r{i}", 1 - i / 10, lr=10.0**i) for i in range(7)])["optimizer.lr",]
    assert "smaller values" in falling.sentence


def test_settings_without_effect_are_rarely_called_better():
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(40):
        runs = [
            run(f"{lr}{b}{s}", rng.normal(), lr=lr, batch=b, seed=s) for lr in (1, 2) for b in (8, 16) for s in range(3)
        ]
        wrong += any(factor.verdict == "better" for factor in factors(runs).values())
    assert wrong <= 6  # 5 % of 40 are 2; 7 or more would come less than once in a hundred


def test_other_projects_and_monitors_are_not_mixed():
    other = run("x", 0.3)
    other.config["runtime"]["monitor"] = "val/loss"
    assert compare([run("a", 0.1), other]) == []
