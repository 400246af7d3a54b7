import csv
import io
import json
import shutil

import pytest
import yaml
from rich.console import Console

from projects.redheart.sweep.collected import collect_runs
from projects.redheart.sweep.results import read_results
from shared.errors import ConfigError, DataError
from tests.fabricate.past_run import past_run


def quiet():
    return Console(file=io.StringIO(), width=300)


def multirun(outputs, rates, **status):
    for number, rate in enumerate(rates):
        losses = [2.0, 1.0 + rate]
        fit = {"fit": {"seconds": 3.0, "samples": 60}}
        past_run(outputs, f"run{number}", losses, losses, f"optimizer.lr={rate}", stages=fit, **status)
    return outputs / "battery" / "bare"


def test_the_runs_of_a_plain_multirun_become_a_sweep(tmp_path):
    folder, console = multirun(tmp_path, [0.1, 0.01]), quiet()
    best = collect_runs([folder], tmp_path / "sweep", console)
    assert best.values == {"optimizer.lr": 0.01}
    assert best.score == pytest.approx((2.0 + 1.01) / 2)
    assert "note: the best optimizer.lr 0.01 is the smallest of those tried" in console.file.getvalue()
    optimal = json.loads((tmp_path / "sweep" / "optimal_lr.json").read_text())
    assert (optimal["lr"], optimal["points"], optimal["at_edge"]) == (0.01, 2, True)
    results = read_results(tmp_path / "sweep")
    assert [(row["lr"], row["seconds"]) for row in results["points"]] == [(0.01, 3.0), (0.1, 3.0)]
    assert len(results["collected"]) == 2
    rows = list(csv.DictReader((tmp_path / "sweep" / "table.csv").open()))
    assert [row["optimizer.lr"] for row in rows] == ["0.01", "0.1"]
    assert (tmp_path / "sweep" / "stage_0.png").is_file()
    again = collect_runs([folder / "run0"], tmp_path / "sweep", quiet())
    assert again.values == {"optimizer.lr": 0.1}, "a folder of collected runs may be written again"


def test_a_fit_that_diverged_or_failed_has_no_score(tmp_path):
    folder = multirun(tmp_path, [0.1, 0.01, 0.001])
    text = (folder / "run1" / "metrics.csv").read_text().replace("1.01", "nan")
    (folder / "run1" / "metrics.csv").write_text(text)
    status = json.loads((folder / "run2" / "status.json").read_text())
    (folder / "run2" / "status.json").write_text(
        json.dumps(status | {"state": "failed", "stages": {}, "error": "the loss is not finite"})
    )
    assert collect_runs([folder], tmp_path / "sweep", quiet()).values == {"optimizer.lr": 0.1}
    rows = read_results(tmp_path / "sweep")["points"]
    assert {row["lr"]: row["reason"] for row in rows} == {
        0.1: "",
        0.01: "a loss in metrics.csv is not finite",
        0.001: "the loss is not finite",
    }
    shutil.rmtree(folder / "run0")
    with pytest.raises(DataError, match=r"no rate of the sweep .* has a score; the first failed with: a loss in"):
        collect_runs([folder], tmp_path / "none", quiet())
    assert not (tmp_path / "none" / "optimal_lr.json").exists()


def test_runs_that_differ_in_more_than_the_rate_or_are_not_finished_are_refused(tmp_path):
    folder = multirun(tmp_path, [0.1, 0.01])
    config = yaml.safe_load((folder / "run1" / "config.yaml").read_text())
    (folder / "run1" / "config.yaml").write_text(yaml.safe_dump(config | {"seed": 9}))
    with pytest.raises(ConfigError, match=r"run1 differs from .*run0 in seed; only the rate may"):
        collect_runs([folder], tmp_path / "sweep", quiet())
    shutil.rmtree(folder)
    folder = multirun(tmp_path, [0.1])
    (folder / "run0" / "status.json").write_text(json.dumps({"schema": 1, "state": "interrupted", "stages": {}}))
    with pytest.raises(ConfigError, match=r"run0 has no finished fit \(its state is interrupted\); resume it first"):
        collect_runs([folder], tmp_path / "sweep", quiet())
    with pytest.raises(ConfigError, match="there is no run directory in"):
        collect_runs([tmp_path / "nowhere"], tmp_path / "sweep", quiet())
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("sweep.json", "is a sweep with points of its own; give another --name"),
     ("lr_sweep_results.json", "is of an older version")],
)  # fmt: skip
def test_another_sweep_is_never_written_over(tmp_path, name, sentence):
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    (sweep / name).write_text('{"schema": 1, "points": []}')
    with pytest.raises(ConfigError, match=sentence):
        collect_runs([multirun(tmp_path, [0.1])], sweep, quiet())
    assert [path.name for path in sweep.iterdir()] == [name]
