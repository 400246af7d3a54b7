import csv
import json
import re

import pytest

from projects.redheart.sweep.points import (
    Epoch,
    Point,
    edge_sentence,
    make_point,
    ranked,
    read_epochs,
    score,
    write_sweep,
)
from shared.errors import DataError


def metrics(folder, val, train=None, norm="1.5"):
    folder.mkdir(parents=True)
    lines = ["epoch,step,val/loss,train/loss,train/gradient_norm,lr"]
    train = val if train is None else train
    lines += [f"{number},{number + 1},{v},{t},{norm},0.1" for number, (v, t) in enumerate(zip(val, train, strict=True))]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_the_score_by_hand():
    epochs = [Epoch(n, train, val, None) for n, (train, val) in enumerate([(9, 9), (5, 4), (4, 3), (3, 2), (1.0, 2.5)])]
    assert score(epochs) == pytest.approx((3 + 2 + 2.5) / 3 + 0.1 * 1.5)
    assert score(epochs[:1]) == 9
    with pytest.raises(ValueError, match="no epoch to score; at least 1"):
        score([])


def test_a_run_becomes_a_point(tmp_path):
    run = metrics(tmp_path / "run", [3.0, 2.0, 1.0], [3.0, 2.0, 2.0])
    point = make_point(1e-4, run, {"seconds": 4.0, "samples": 80}, None)
    assert (point.status, point.score, point.seconds, point.samples) == ("done", pytest.approx(2.1), 4.0, 80)
    assert point.epochs[2] == Epoch(2, 2.0, 1.0, 1.5)
    quiet = metrics(tmp_path / "quiet", [1.0], norm="") / "metrics.csv"
    assert read_epochs(quiet)[0].gradient_norm is None


def test_what_failed_diverged_or_never_began_has_no_score_and_says_why(tmp_path):
    failed = make_point(5e-4, metrics(tmp_path / "a", [3.0]), None, "the training loss is not finite")
    assert (failed.status, failed.score, failed.reason) == ("failed", None, "the training loss is not finite")
    diverged = make_point(5e-4, metrics(tmp_path / "b", [3.0, "nan"]), {"seconds": 1.0, "samples": 9}, None)
    assert (diverged.status, diverged.reason) == ("failed", "a loss in metrics.csv is not finite")
    assert [epoch.epoch for epoch in diverged.epochs] == [0]
    assert make_point(1e-5, tmp_path / "nothing", None, None).reason == "metrics.csv has no epoch"
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "metrics.csv").write_text("epoch,val/loss\n0,1\n")
    with pytest.raises(DataError, match=r"metrics\.csv has no numbers for epoch, train/loss and val/loss"):
        make_point(1e-5, tmp_path / "c", None, None)


def points():
    curves = {1e-5: 3.0, 1e-4: 1.0, 2e-4: 2.0}
    done = [Point(lr, "done", s, "", "r", 2.0, 10, [Epoch(0, s, s, 0.5)]) for lr, s in curves.items()]
    return [Point(5e-4, "failed", None, "not finite, with a, comma", "r"), *done]


def test_the_best_comes_first_and_what_failed_last():
    assert [point.lr for point in ranked(points())] == [1e-4, 2e-4, 1e-5, 5e-4]


def test_the_files_of_a_sweep_agree_and_are_the_same_again(tmp_path):
    best = write_sweep(tmp_path / "s", points(), {"name": "flat"})
    assert best.lr == 1e-4
    optimal = json.loads((tmp_path / "s" / "optimal_lr.json").read_text())
    assert optimal == {"schema": 1, "lr": 1e-4, "score": 1.0, "points": 4, "at_edge": False}
    rows = list(csv.DictReader((tmp_path / "s" / "table.csv").open()))
    assert [float(row["lr"]) for row in rows] == [1e-4, 2e-4, 1e-5, 5e-4]
    assert rows[-1]["reason"] == "not finite, with a, comma"
    results = json.loads((tmp_path / "s" / "lr_sweep_results.json").read_text())
    assert [point["lr"] for point in results["points"]] == [1e-4, 2e-4, 1e-5, 5e-4]
    assert (results["at_edge"], results["note"]) == (False, "")
    assert (tmp_path / "s" / "lr_0.0002.csv").read_text() == "epoch,train_loss,val_loss,gradient_norm\n0,2.0,2.0,0.5\n"
    write_sweep(tmp_path / "t", points(), {"name": "flat"})
    names = sorted(path.name for path in (tmp_path / "s").iterdir())
    assert "stage_0.png" in names
    assert all((tmp_path / "s" / name).read_bytes() == (tmp_path / "t" / name).read_bytes() for name in names)


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        ({1e-5: 1.0, 1e-4: 2.0}, "1e-05 is the smallest of those tried.*widen --rates downwards"),
        ({1e-5: 3.0, 1e-4: 2.0}, "0.0001 is the largest of those tried.*widen --rates upwards"),
        ({1e-4: 2.0}, "0.0001 is the only one tried.*widen --rates"),
    ],
)
def test_a_best_rate_at_the_edge_is_told(tmp_path, scores, sentence):
    write_sweep(tmp_path, [Point(lr, "done", value, "", "r") for lr, value in scores.items()], {})
    results = json.loads((tmp_path / "lr_sweep_results.json").read_text())
    assert results["at_edge"]
    assert re.search(sentence, results["note"])
    assert json.loads((tmp_path / "optimal_lr.json").read_text())["at_edge"]


def test_a_rate_that_failed_bounds_the_search():
    assert edge_sentence([Point(1e-5, "done", 2.0, "", "r"), *points()[:1], Point(1e-4, "done", 1.0, "", "r")]) == ""
    assert edge_sentence(points()[:1]) == ""


def test_a_sweep_without_a_score_finds_no_rate(tmp_path):
    with pytest.raises(DataError, match=r"no rate of the sweep .* has a score; the first failed with: not finite"):
        write_sweep(tmp_path, points()[:1], {})
    assert not (tmp_path / "optimal_lr.json").exists()
    assert (tmp_path / "table.csv").is_file()
