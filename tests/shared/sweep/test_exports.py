import csv
import json
import math
import os
from dataclasses import replace

import pytest

from shared.learning_rate import rate_from_sweep
from shared.sweep import exports
from shared.sweep.exports import UNCERTAINTY, SweepFacts, find_best, table_csv, write_exports
from shared.sweep.grid import parse_grid
from shared.sweep.lr_stages import HierarchicalRates
from tests.fabricate.sweep_points import point, settle, view

KEY = "optimizer.lr"
SCORES = {1e-5: 3.0, 1e-4: 2.0, 1e-3: 1.0, 1e-2: 1.5, 1e-1: None}


def rate_point(number, rate, score, stage=0, **facts):
    epochs = [{"epoch": n, "train_loss": 2.0 - n, "val_loss": 2.5 - n, "gradient_norm": None} for n in range(2)]
    facts = {"epochs": epochs, "metrics": {"val/loss": 1.5}, "run": "runs/a", "seconds": 3.5, "value": 1.5, **facts}
    return point(number, {KEY: rate}, score, stage, **(facts if score is not None else {}))


@pytest.fixture
def points():
    return [rate_point(number, rate, score) for number, (rate, score) in enumerate(SCORES.items())]


@pytest.fixture
def facts(tmp_path):
    planner = HierarchicalRates(1e-5, 1e-1, stages=1)
    return SweepFacts(tmp_path, planner.space(), planner.contains, complete=True, search={"sweeper": "hierarchical_lr"})


def rows(facts, points):
    return list(csv.DictReader(table_csv(facts, points).splitlines()))


def load(path):
    return json.loads(path.read_text())


def test_the_main_run_takes_the_rate_from_the_sweep(facts, points):
    best = write_exports(facts, points)
    assert (best.values, best.score, best.points, best.note) == ({KEY: 1e-3}, 1.0, 5, "")
    assert load(facts.folder / "optimal_lr.json") == {
        "schema": 1, "lr": 1e-3, "score": 1.0, "uncertainty": "one seed, no interval", "direction": "min",
        "point": points[2].id, "stage": 0, "points": 5, "at_edge": False, "note": "",
        "generation": 0, "space": dict(facts.space),
    }  # fmt: skip
    found = rate_from_sweep({"lr": 1.0, "lr_from": str(facts.folder)}, facts.folder.parent)
    assert found["lr"] == 1e-3


def test_files_of_a_rate_sweep(facts, points):
    more = [rate_point(5 + n, rate, 0.9, stage=1) for n, rate in enumerate((8e-4, 2e-3))]
    write_exports(facts, [*points, *more])
    names = {path.name for path in facts.folder.iterdir()}
    assert names == {
        "lr_sweep_cumulative.json", "optimal_lr.json", "table.csv", "stage_0.png", "stage_1.png", "tb",
    }  # fmt: skip
    assert len(list((facts.folder / "tb").iterdir())) == 7


def test_no_picture_where_none_is_wanted(facts, points):
    write_exports(facts, points, pictures=False)
    assert {path.name for path in facts.folder.iterdir()} == {
        "lr_sweep_cumulative.json",
        "optimal_lr.json",
        "table.csv",
    }


def test_an_unfinished_sweep_names_no_rate_for_others(facts, points):
    best = write_exports(replace(facts, complete=False), points, pictures=False)
    assert best.values == {KEY: 1e-3}
    assert not (facts.folder / "optimal_lr.json").exists()
    content = load(facts.folder / "lr_sweep_cumulative.json")
    assert (content["complete"], content["best"]["lr"]) == (False, 1e-3)


def test_the_rate_is_withdrawn_while_points_are_missing_and_its_time_is_that_of_the_search(facts, points):
    path = facts.folder / "optimal_lr.json"
    write_exports(facts, points, pictures=False)
    os.utime(path, (1000, 1000))
    write_exports(facts, points, pictures=False)
    assert path.stat().st_mtime == 1000, "nothing new was found, so it is not the latest"
    write_exports(replace(facts, generation=1, complete=False), points, pictures=False)
    assert not path.exists()
    (facts.folder / "best.json").write_text("{}")
    write_exports(facts, points, pictures=False)
    assert path.exists()
    assert not (facts.folder / "best.json").exists(), "of a search that was no sweep of rates"


def test_a_table_is_ranked_and_says_what_is_not_known(facts, points):
    table = rows(facts, points)
    assert [row["rank"] for row in table] == ["1", "2", "3", "4", ""]
    assert [float(row[KEY]) for row in table] == [1e-3, 1e-2, 1e-4, 1e-5, 1e-1]
    assert [row["status"] for row in table] == ["done"] * 4 + ["failed"]
    assert [row["uncertainty"] for row in table] == [UNCERTAINTY] * 4 + [""]
    assert (table[0]["last_train_loss"], table[0]["last_val_loss"], table[0]["epochs"]) == ("1.0", "1.5", "2")
    assert table[4]["score"] == ""


def test_equal_results_give_equal_bytes_whatever_it_took(facts, points):
    before = table_csv(facts, points)
    write_exports(facts, points, pictures=False)
    best = (facts.folder / "optimal_lr.json").read_bytes()
    other = [
        replace(one, attempts=9, interruptions=3, run="elsewhere", error=one.error and "another sentence")
        if one.outcome is None
        else replace(one, attempts=4, outcome={**one.outcome, "seconds": 99.0, "run": "elsewhere", "peak_rss_mb": 1})
        for one in points
    ]
    assert table_csv(facts, list(reversed(other))) == before
    write_exports(facts, other, pictures=False)
    assert (facts.folder / "optimal_lr.json").read_bytes() == best
    assert len(before.splitlines()) == 6


def test_every_point_of_every_generation_is_kept_and_marked(facts, points):
    outside = rate_point(5, 1.0, 0.1)
    old = view(6, settle(rate_point(6, 1e-3, 0.2), 0.2), generation=1)
    planned = view(7, rate_point(7, 2e-5, 0.0))
    write_exports(replace(facts, marks={points[0].id: "kept from other code"}), [*points, outside, old, planned])
    content = load(facts.folder / "lr_sweep_cumulative.json")
    assert (content["schema"], content["sweeper"], content["generation"]) == (1, "hierarchical_lr", 0)
    assert content["space"]["high"] == 1e-1
    found = {entry["number"]: entry for entry in content["points"]}
    assert len(found) == 8
    assert found[2] == {
        "id": points[2].id, "number": 2, "stage": 0, "generation": 0, "lr": 1e-3, "values": {KEY: 1e-3},
        "status": "done", "rank": 1, "score": 1.0, "uncertainty": UNCERTAINTY, "counts": True, "marks": [],
        "final": True,
        "reason": None, "attempts": 1, "run": "runs/a", "value": 1.5, "seconds": 3.5, "samples": None,
        "stopped_at": None,
        "initial_weights": None, "data_hash": None, "peak_rss_mb": None, "metrics": {"val/loss": 1.5},
        "epochs": points[2].outcome["epochs"],
    }  # fmt: skip
    assert found[0]["marks"] == ["kept from other code"]
    assert (found[0]["counts"], found[0]["rank"]) == (True, 4)
    assert (found[4]["status"], found[4]["reason"], found[4]["attempts"]) == ("failed", "the loss is not finite", 3)
    assert (found[5]["marks"], found[5]["counts"], found[5]["rank"], found[5]["score"]) == (
        ["outside"],
        False,
        None,
        0.1,
    )
    assert (found[6]["marks"], found[6]["rank"]) == (["other code"], None)
    assert (found[7]["status"], found[7]["final"]) == ("planned", False)
    assert [entry["number"] for entry in content["points"]] == [2, 3, 1, 0, 4, 7, 5, 6]


def test_numbers_that_json_does_not_have_become_null(facts):
    epochs = [{"epoch": 0, "train_loss": 1.0, "val_loss": math.nan, "gradient_norm": math.inf}]
    write_exports(facts, [rate_point(0, 1e-3, 1.0, epochs=epochs, metrics={"a": math.nan})], pictures=False)
    entry = load(facts.folder / "lr_sweep_cumulative.json")["points"][0]
    assert entry["epochs"] == [{"epoch": 0, "train_loss": 1.0, "val_loss": None, "gradient_norm": None}]
    assert entry["metrics"] == {"a": None}


@pytest.mark.parametrize(
    ("scores", "note"),
    [
        ([1.0, 2.0, 3.0], "the best optimizer.lr 0.0001 is the smallest of those tried: a better one may lie beyond; "
         "widen hydra.sweeper.low"),
        ([3.0, 2.0, 1.0], "the best optimizer.lr 0.01 is the largest of those tried: a better one may lie beyond; "
         "widen hydra.sweeper.high"),
        ([3.0, 2.0, None], ""),
        ([3.0, 1.0, 2.0], ""),
    ],
)  # fmt: skip
def test_a_best_rate_at_an_edge_is_told(facts, scores, note):
    points = [
        rate_point(n, rate, score) for n, (rate, score) in enumerate(zip((1e-4, 1e-3, 1e-2), scores, strict=True))
    ]
    best = write_exports(facts, points, pictures=False)
    assert best.note == note
    content = load(facts.folder / "optimal_lr.json")
    assert (content["at_edge"], content["note"]) == (bool(note), note)


def test_a_grid_of_rates_alone_is_a_rate_sweep(tmp_path):
    _, planner = parse_grid(["optimizer.lr=1e-4,1e-3"])
    facts = SweepFacts(tmp_path, planner.space(), planner.contains, complete=True)
    best = write_exports(facts, [rate_point(0, 1e-4, 2.0), rate_point(1, 1e-3, 1.0)])
    assert {path.name for path in tmp_path.iterdir()} == {
        "lr_sweep_cumulative.json", "optimal_lr.json", "table.csv", "stage_0.png", "tb",
    }  # fmt: skip
    assert (
        best.note
        == "the best optimizer.lr 0.001 is the largest of those tried: a better one may lie beyond; widen optimizer.lr"
    )
    assert rate_from_sweep({"lr_from": str(tmp_path)}, tmp_path.parent)["lr"] == 1e-3


def test_no_score_no_best(facts):
    assert write_exports(facts, [rate_point(0, 1e-3, None)], pictures=False) is None
    assert not (facts.folder / "optimal_lr.json").exists()
    assert load(facts.folder / "lr_sweep_cumulative.json")["best"] is None


def test_a_grid_has_files_of_its_own(tmp_path):
    _, planner = parse_grid(["model=a,b", "width=1,2,3", "seed=1,2,3"])
    points = [
        settle(view(number, proposal), proposal.values["width"] + (proposal.values["model"] == "a") / 2)
        for number, proposal in enumerate(planner.propose([]))
    ]
    facts = SweepFacts(
        tmp_path, planner.space(), planner.contains, direction="max", score_name="val/acc", complete=True
    )
    best = write_exports(facts, points)
    assert {path.name for path in tmp_path.iterdir()} == {
        "sweep_cumulative.json", "best.json", "table.csv", "stage_0.png", "tb",
    }  # fmt: skip
    assert best.score == 3.5
    # A seed has no edge, and of a name there is no larger one.
    assert best.at_edge == ("width",)
    content = load(tmp_path / "best.json")
    assert content["values"] == {"model": "a", "width": 3, "seed": 1}
    assert content["note"] == "the best width 3 is the largest of those tried: a better one may lie beyond; widen width"
    assert list(rows(facts, points)[0])[:6] == ["rank", "point", "stage", "model", "width", "seed"]


def test_the_same_pictures_again(facts, points):
    write_exports(facts, points)
    before = (facts.folder / "stage_0.png").read_bytes()
    write_exports(facts, points)
    assert (facts.folder / "stage_0.png").read_bytes() == before


def test_the_best_is_written_last(facts, points, monkeypatch):
    def broken(facts, points):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exports, "_write_pictures", broken)
    with pytest.raises(OSError, match="No space left"):
        write_exports(facts, points)
    assert not (facts.folder / "optimal_lr.json").exists()


def test_stopped_points_are_never_the_best(facts, points):
    stopped = rate_point(5, 3e-3, 0.01, stopped_at=1)
    assert find_best(facts, [*points, stopped]).values == {KEY: 1e-3}
    assert rows(facts, [*points, stopped])[4] | {"point": ""} == {
        "rank": "5", "point": "", "stage": "0", KEY: "0.003", "status": "done", "score": "0.01",
        "uncertainty": UNCERTAINTY, "epochs": "2", "stopped_at": "1", "last_train_loss": "1.0", "last_val_loss": "1.5",
        "marks": "",
    }  # fmt: skip
