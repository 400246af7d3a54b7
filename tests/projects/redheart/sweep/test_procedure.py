import csv
import io
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from rich.console import Console

from projects.redheart.sweep import procedure
from projects.redheart.sweep.procedure import FlatSweep, check_rates, run_sweep
from projects.redheart.sweep.results import read_results, seconds_per_sample
from shared.errors import ConfigError, TrainingError
from shared.learning_rate import rate_from_sweep
from shared.sweep import exclusive_files
from shared.sweep.point_process import Task, measure
from shared.sweep.search import Search
from tests.fabricate.toy_sweep import OBJECTIVE, ROOT, environment, epochs_run

RATES = [5e-4, 1e-5, 1e-4]
PROGRAM = f"""
import sys
from dataclasses import replace
from projects.redheart.sweep import procedure
usual = procedure._sweep_settings
procedure._sweep_settings = lambda asked: replace(usual(asked), objective="{OBJECTIVE}")
from projects.redheart.lr_sweep import main
main(sys.argv[1:])
"""


@pytest.fixture
def swept(tmp_path, monkeypatch):
    """Runs a sweep over the toy objective in this process; returns folder, best, what was said, and the launches."""
    usual, launched = procedure._sweep_settings, []
    monkeypatch.setattr(
        procedure, "_sweep_settings", lambda asked: replace(usual(asked), objective=OBJECTIVE, retries=0)
    )
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))

    def in_turn(search):
        def launch(jobs, first):
            for *_, name in jobs:
                launched.append(name.rpartition("-")[2])
                measure(Task(search.folder, launched[-1], dict(search.settings), search.code_hash()))

        return launch

    monkeypatch.setattr(procedure, "in_turn", in_turn)

    def run(*overrides, rates=RATES, num_stories=None, **more):
        launched.clear()
        console = Console(file=io.StringIO(), width=300)
        asked = FlatSweep([f"paths.outputs={tmp_path}", *overrides], "try", rates, 3, num_stories, **more)
        folder, best = run_sweep(asked, console)
        return folder, best, console.file.getvalue(), list(launched)

    return run


def test_a_sweep_leaves_its_files_and_the_main_fit_takes_the_rate_from_there(tmp_path, swept):
    folder, best, _, launched = swept()
    assert folder == tmp_path / "redheart" / "sweeps" / "try"
    assert (best["lr"], len(launched)) == (1e-4, 3)
    found = rate_from_sweep({"lr": 1.0, "lr_from": "latest"}, folder.parent)
    assert (found["lr"], found["lr_from"]) == (1e-4, str(folder))
    results = read_results(folder)
    assert [row["lr"] for row in results["points"]] == [1e-4, 1e-5, 5e-4]
    assert (results["num_epochs"], results["num_stories"], results["at_edge"]) == (3, None, False)
    assert seconds_per_sample(folder) == pytest.approx(0.1 / 3)
    rows = list(csv.DictReader((folder / "lr_1e-05.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert {"sweep.json", "lr_sweep_cumulative.json", "table.csv", "stage_0.png"} <= {p.name for p in folder.iterdir()}
    assert json.loads((folder / "lr_sweep_cumulative.json").read_text())["score_name"].startswith("mean of the last 3")


def test_again_it_trains_nothing_and_with_more_rates_only_those(tmp_path, swept):
    folder, *_ = swept()
    before = (folder / "optimal_lr.json").read_bytes()
    _, best, said, launched = swept(rates=sorted(RATES))
    assert (best["lr"], launched) == (1e-4, [])
    assert "there was nothing left to run" in said
    assert (folder / "optimal_lr.json").read_bytes() == before
    _, best, _, launched = swept(rates=[*RATES, 7e-5])
    assert (best["lr"], len(launched)) == (7e-5, 1)
    assert len(read_results(folder)["points"]) == 4
    assert len(set(epochs_run(tmp_path))) == len(epochs_run(tmp_path)) == 4 * 3


def test_a_rate_that_diverged_is_a_result_and_one_that_failed_is_told(tmp_path, swept, monkeypatch):
    monkeypatch.setenv("TOY_MODES", '{"optimizer.lr=0.0005": "diverge"}')
    folder, best, _, _ = swept()
    assert best["lr"] == 1e-4
    worst = read_results(folder)["points"][-1]
    assert (worst["lr"], worst["status"], worst["reason"]) == (5e-4, "failed", "train/loss is not finite in step 7")
    monkeypatch.setenv("TOY_MODES", '{"optimizer.lr=2e-05": "fail"}')
    with pytest.raises(TrainingError, match=r"1 of 4 points failed for good: 3 \(optimizer.lr=2e-05\)"):
        swept(rates=[*RATES, 2e-5])
    assert "the toy was told to fail" in [row["reason"] for row in read_results(folder)["points"]]


def test_what_cannot_be_gone_on_with_is_one_sentence_in_our_words(tmp_path, swept, monkeypatch):
    folder, *_ = swept()
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=r"is another search; it differs in seed: give another --name$"):
        swept("seed=4")
    monkeypatch.setattr(Search, "code_hash", lambda self: "other")
    monkeypatch.setattr("shared.sweep.contexts.code_hash", lambda *args: "other")
    with pytest.raises(ConfigError, match=r"the code has changed .*; give --on-change keep to .*, or rerun to run all"):
        swept()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files
    assert "results of the old code count, marked" in swept(on_change="keep")[2]


def test_other_data_under_the_same_name_are_noticed_where_nothing_is_left_to_run(tmp_path, swept):
    folder, *_ = swept("data.standin.num_stories=300", rates=[1e-4])
    exclusive_files.create(folder / "data.0.json", {"schema": 1, "data_hash": "f" * 64, "fingerprint": None})
    with pytest.raises(ConfigError, match=r"the data are not those that .*data\.0\.json tells of \(data_hash differ\)"):
        swept("data.standin.num_stories=300", rates=[1e-4])


def test_a_sweep_of_an_older_version_and_data_without_a_subset_are_left_alone(tmp_path, swept, monkeypatch):
    folder = tmp_path / "redheart" / "sweeps" / "try"
    folder.mkdir(parents=True)
    (folder / "lr_sweep_results.json").write_text('{"schema": 1, "points": []}')
    with pytest.raises(ConfigError, match=r"is of an older version.*nothing of it was changed, give another --name"):
        swept()
    assert [path.name for path in folder.iterdir()] == ["lr_sweep_results.json"]
    (folder / "lr_sweep_results.json").unlink()
    monkeypatch.setattr("projects.redheart.sweep.procedure.SUBSET_KEY", "data.num_tales")
    with pytest.raises(ConfigError, match=r"have no data\.num_tales and cannot be cut .*; give --num-stories all$"):
        swept(num_stories=100)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("rates", [[], [1e-4, 1e-4], [0.0], [-1.0], [2.0], [float("nan")]])
def test_rates_that_have_no_meaning_are_named(rates):
    with pytest.raises(ConfigError, match=r"--rates are .*; allowed are distinct numbers above 0 and below 1"):
        check_rates(rates)
    assert check_rates([2e-4, 1e-5]) == [1e-5, 2e-4]


@pytest.mark.slow
def test_a_signal_ends_the_command_with_its_code_and_the_same_command_goes_on(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, "--rates", "1e-5,1e-4", "--num-stories", "all"]
    command += ["--epochs", "5", f"paths.outputs={tmp_path}"]
    slow = environment(tmp_path, TOY_EPOCH_S="0.5")
    process = subprocess.Popen(command, cwd=ROOT, env=slow, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "log").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 143, said
    assert "stopped by SIGTERM; 0 of 2 points are settled; the same command goes on" in said
    folder = tmp_path / "redheart" / "sweeps" / "flat"
    assert not (folder / "lr_sweep_results.json").exists()
    done = subprocess.run(command, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("best: optimizer.lr=0.0001 score ")
    assert len(read_results(folder)["points"]) == 2
    assert len(set(epochs_run(tmp_path))) == len(epochs_run(tmp_path)) == 2 * 5, "no epoch was trained twice"
