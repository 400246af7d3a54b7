import json
from dataclasses import replace

import pytest

from projects.redheart.sweep.results import read_results, refuse_older, seconds_per_sample, write_results
from shared.errors import ConfigError
from tests.fabricate.sweep_points import point

KEY = "optimizer.lr"


def epoch(number, loss, norm=0.5):
    return {"epoch": number, "train_loss": loss, "val_loss": loss, "gradient_norm": norm}


def points(run="runs/a"):
    scores = {5e-4: None, 1e-5: 3.0, 1e-4: 1.0, 2e-4: 2.0}
    facts = {"seconds": 2.0, "samples": 10, "run": run}
    return [
        point(number, {KEY: rate}, score, **({} if score is None else facts | {"epochs": [epoch(0, score)]}))
        for number, (rate, score) in enumerate(scores.items())
    ]


def test_each_rate_has_a_line_the_best_first_and_a_csv(tmp_path):
    (tmp_path / "optimal_lr.json").write_text('{"lr": 0.0001, "at_edge": true, "note": "widen it"}')
    write_results(tmp_path, points(), {"name": "flat"})
    results = read_results(tmp_path)
    assert [row["lr"] for row in results["points"]] == [1e-4, 2e-4, 1e-5, 5e-4]
    assert [row["status"] for row in results["points"]] == ["done", "done", "done", "failed"]
    assert results["points"][0] == {
        "lr": 1e-4, "status": "done", "score": 1.0, "reason": "", "run": "runs/a", "seconds": 2.0, "samples": 10,
        "epochs": [epoch(0, 1.0)],
    }  # fmt: skip
    assert results["points"][3]["reason"] == "the loss is not finite"
    assert (results["name"], results["at_edge"], results["note"]) == ("flat", True, "widen it")
    assert (tmp_path / "lr_0.0002.csv").read_text() == "epoch,train_loss,val_loss,gradient_norm\n0,2.0,2.0,0.5\n"
    assert (tmp_path / "lr_0.0005.csv").read_text() == "epoch,train_loss,val_loss,gradient_norm\n"
    assert seconds_per_sample(tmp_path) == pytest.approx(0.2)


def test_a_rate_that_diverged_shows_the_epochs_before_and_an_unsettled_one_nothing(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.csv").write_text("epoch,train/loss,val/loss\n0,3.0,2.5\n1,nan,9.0\n")
    failed, other = points()[0], points()[1]
    write_results(tmp_path, [replace(failed, run=str(run)), replace(other, state="interrupted", outcome=None)], {})
    rows = read_results(tmp_path)["points"]
    assert [(row["lr"], row["epochs"]) for row in rows] == [
        (5e-4, [{"epoch": 0, "train_loss": 3.0, "val_loss": 2.5, "gradient_norm": None}])
    ]
    assert (tmp_path / "lr_0.0005.csv").read_text().splitlines()[1] == "0,3.0,2.5,"
    assert seconds_per_sample(tmp_path) is None


def test_results_without_a_ledger_are_left_alone(tmp_path):
    refuse_older(tmp_path)
    (tmp_path / "lr_sweep_results.json").write_text(json.dumps({"schema": 1, "points": []}))
    with pytest.raises(ConfigError, match=r"is of an older version: it has lr_sweep_results\.json and no sweep\.json"):
        refuse_older(tmp_path)
    (tmp_path / "lr_sweep_results.json").write_text(json.dumps({"schema": 1, "points": [], "collected": []}))
    with pytest.raises(ConfigError, match=r"holds the runs that --runs collected.*give another --name"):
        refuse_older(tmp_path)
    (tmp_path / "sweep.json").write_text("{}")
    refuse_older(tmp_path)
    (tmp_path / "lr_sweep_results.json").write_text("{")
    with pytest.raises(ConfigError, match=r"lr_sweep_results\.json cannot be read"):
        read_results(tmp_path)
