import argparse
import json
import signal
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from projects.redheart import pipeline
from shared.errors import ConfigError, DataError, RunInterrupted


def given(tmp_path, **more):
    values = {"overrides": [f"paths.outputs={tmp_path}"], "out": "try", "input": None, "sweep_epochs": 2,
              "sweep_stories": 100, "retrain_epochs": None}  # fmt: skip
    return argparse.Namespace(**(values | more))


@pytest.fixture
def steps(tmp_path, monkeypatch):
    """The steps as doubles that leave the files which tell that they are complete."""
    done = []

    def double(name, **result):
        def work(*args):
            done.append(name)
            for key in ("folder", "run", "file"):
                if key in result:
                    path = Path(result[key])
                    path.parent.mkdir(parents=True, exist_ok=True)
            for file in result.pop("files", []):
                Path(file).parent.mkdir(parents=True, exist_ok=True)
                Path(file).write_text("{}")
            return result

        monkeypatch.setattr(pipeline, f"_{name}", work)

    double("data", source="stand-in", train=1200, test=150)
    sweep, run, paper = tmp_path / "sweep", tmp_path / "run", tmp_path / "paper"
    double("sweep", folder=str(sweep), lr=2e-4, score=1.0, seconds_per_sample=0.01, files=[sweep / "optimal_lr.json"])
    double("fit", run=str(run), files=[run / "report.json"])
    double("ablate", file=str(run / "ablation.json"), files=[run / "ablation.json"])
    double("paper", folder=str(paper), files=[paper / "main.tex"])
    return done


def test_every_step_is_done_once_and_again_where_its_inputs_change_or_its_result_is_gone(tmp_path, steps):
    assert pipeline.run_pipeline(given(tmp_path), quiet=True) == tmp_path / "paper"
    assert steps == ["data", "sweep", "fit", "ablate", "paper"]
    pipeline.run_pipeline(given(tmp_path), quiet=True)
    assert len(steps) == 5
    state = json.loads((tmp_path / "redheart" / "pipeline" / "try" / "pipeline.json").read_text())
    assert {name: step["state"] for name, step in state["steps"].items()} == dict.fromkeys(steps, "done")
    pipeline.run_pipeline(given(tmp_path, retrain_epochs=3), quiet=True)
    assert steps[5:] == ["ablate", "paper"]


def test_a_signal_says_how_to_go_on(tmp_path, steps, monkeypatch):
    def stopped(*args):
        raise RunInterrupted(signal.SIGTERM, "stopped by SIGTERM")

    monkeypatch.setattr(pipeline, "_fit", stopped)
    with pytest.raises(
        RunInterrupted, match=r"stopped; go on with: python -m projects\.redheart\.pipeline --out try "
    ) as stop:
        pipeline.run_pipeline(given(tmp_path), quiet=True)
    assert stop.value.exit_code == 128 + signal.SIGTERM
    assert steps == ["data", "sweep"]


def test_the_estimate_counts_micro_batches_of_the_train_fold():
    config = OmegaConf.create({"data": {"batch_size": 64}, "model": {"micro_batch": 4}, "trainer": {"max_epochs": 60}})
    said = pipeline.estimate(config, num_train=7869, seconds_per_sample=0.01)
    assert said == (
        "main fit: 60 epochs of 122 steps, 1952 micro-batches of 4 each (train fold: 7,869); about 78 min by the "
        "sweep's 10 ms a story"
    )
    assert pipeline.estimate(config, 7869, None).endswith("no time could be measured")


def test_a_wrong_name_or_input_is_one_sentence(tmp_path, steps):
    with pytest.raises(ConfigError, match=r"--out is 'a/b', allowed: a plain folder name"):
        pipeline.run_pipeline(given(tmp_path, out="a/b"), quiet=True)
    with pytest.raises(DataError, match=r"--input .*none\.json cannot be read"):
        pipeline.run_pipeline(given(tmp_path, input=tmp_path / "none.json"), quiet=True)
