import io
import json
import shutil
from types import SimpleNamespace

import pytest
import yaml
from rich.console import Console

from projects.redheart.sweep import procedure
from projects.redheart.sweep.engine_runs import EngineRun
from projects.redheart.sweep.procedure import check_rates, collect_runs, point_config, run_sweep, seconds_per_sample
from shared.errors import ConfigError
from tests.fabricate.past_run import past_run

QUIET = Console(file=io.StringIO(), width=200)


def test_a_point_fits_on_a_subset_and_opens_nothing_else():
    config = point_config(["optimizer.lr=0.3", "seed=3"], "flat", 2e-4, epochs=5, num_stories=700)
    assert config.optimizer.lr == 2e-4
    assert (config.experiment, list(config.stages), config.trainer.max_epochs) == ("sweep-flat", ["fit"], 5)
    assert (config.data.num_stories, config.seed) == (700, 3)
    assert set(config.callbacks) == {"progress", "gradient_norms"}
    other = point_config(["seed=3"], "flat", 1e-5, epochs=5, num_stories=700)
    other.optimizer.lr = 2e-4
    assert other == point_config(["seed=3"], "flat", 2e-4, epochs=5, num_stories=700)


def test_a_smaller_data_set_is_not_enlarged_and_all_of_it_can_be_asked_for():
    assert point_config(["data.num_stories=50"], "flat", 1e-4, 5, num_stories=700).data.num_stories == 50
    assert point_config([], "flat", 1e-4, 5, num_stories=None).data.num_stories is None


@pytest.mark.parametrize("rates", [[], [1e-4, 1e-4], [0.0], [-1.0], [2.0], [float("nan")]])
def test_rates_that_have_no_meaning_are_named(rates):
    with pytest.raises(ConfigError, match=r"--rates are .*; allowed are distinct numbers above 0 and below 1"):
        check_rates(rates)
    assert check_rates([2e-4, 1e-5]) == [1e-5, 2e-4]


def test_a_sweep_runs_each_rate_and_ranks_what_diverged_last(tmp_path, monkeypatch):
    asked = []

    def run_once(config, overrides, quiet, again):
        rate = config.optimizer.lr
        asked.append((rate, config.seed, again))
        folder = tmp_path / f"run{rate:g}"
        folder.mkdir()
        (folder / "metrics.csv").write_text(f"epoch,train/loss,val/loss\n0,{1000 * rate},{1000 * rate}\n")
        failure = "the training loss is not finite" if rate > 1e-4 else None
        fit = None if failure else {"seconds": 3.0, "samples": 60}
        return EngineRun(SimpleNamespace(path=folder, done=lambda stage: fit), rate < 5e-5, failure)

    monkeypatch.setattr(procedure, "run_once", run_once)
    console = Console(file=io.StringIO(), width=200)
    folder, best = run_sweep(
        [f"paths.outputs={tmp_path}"],
        name="try",
        rates=[5e-4, 1e-5, 1e-4],
        num_stories=None,
        console=console,
        again="x",
    )
    assert asked == [(1e-5, 0, "x"), (1e-4, 0, "x"), (5e-4, 0, "x")]
    assert (folder, best.lr) == (tmp_path / "redheart" / "sweeps" / "try", 1e-5)
    assert json.loads((folder / "optimal_lr.json").read_text())["points"] == 3
    text = console.file.getvalue()
    assert "done before: score 0.0100" in text
    assert "the training loss is not finite" in text
    assert "note: the best rate 1e-05 is the smallest of those tried" in text
    assert seconds_per_sample(folder) == pytest.approx(0.05)


def multirun(outputs, rates, **status):
    for number, rate in enumerate(rates):
        losses = [2.0, 1.0 + rate]
        past_run(outputs, f"run{number}", losses, losses, f"optimizer.lr={rate}", stages={"fit": {}}, **status)
    return outputs / "battery" / "bare"


def test_the_runs_of_a_plain_multirun_become_a_sweep(tmp_path):
    folder = multirun(tmp_path, [0.1, 0.01])
    best = collect_runs([folder], tmp_path / "sweep", QUIET)
    assert best.lr == 0.01
    assert best.score == pytest.approx((2.0 + 1.01) / 2)
    assert len(json.loads((tmp_path / "sweep" / "lr_sweep_results.json").read_text())["points"]) == 2
    again = collect_runs([folder / "run0", folder / "run1"], tmp_path / "again", QUIET)
    assert again.lr == 0.01


def test_runs_that_differ_in_more_than_the_rate_or_are_not_finished_are_refused(tmp_path):
    folder = multirun(tmp_path, [0.1, 0.01])
    config = yaml.safe_load((folder / "run1" / "config.yaml").read_text())
    (folder / "run1" / "config.yaml").write_text(yaml.safe_dump(config | {"seed": 9}))
    with pytest.raises(ConfigError, match=r"run1 differs from .*run0 in seed; only the rate may"):
        collect_runs([folder], tmp_path / "sweep", QUIET)
    shutil.rmtree(folder)
    status = {"schema": 1, "state": "interrupted", "stages": {}}
    folder = multirun(tmp_path, [0.1])
    (folder / "run0" / "status.json").write_text(json.dumps(status))
    with pytest.raises(ConfigError, match=r"run0 has no finished fit \(its state is interrupted\); resume it first"):
        collect_runs([folder], tmp_path / "sweep", QUIET)
    with pytest.raises(ConfigError, match="there is no run directory in"):
        collect_runs([tmp_path / "nowhere"], tmp_path / "sweep", QUIET)
