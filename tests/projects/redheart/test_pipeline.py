import argparse
import json
import signal
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from projects.redheart import pipeline
from projects.redheart.sweep.engine_runs import composed
from shared.errors import ConfigError, DataError, RunInterrupted
from tests.fabricate.stories import story_objects, write_stories


def given(tmp_path, **more):
    values = {"overrides": [f"paths.outputs={tmp_path}"], "out": "try", "input": None, "subjects": None,
              "bentham_range": (0.0, 1.0), "sweep_epochs": 2, "sweep_stories": 100, "retrain_epochs": None,
              "on_change": "refuse"}  # fmt: skip
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

    double("data", source="stand-in", train=1200, test=150, fingerprint="f1")
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


def test_other_data_under_the_same_name_are_never_taken_for_the_old(tmp_path, steps):
    root = tmp_path / "stories"
    root.mkdir()
    (root / "splits.csv").write_text("sample_id,group,label,fold\n")
    asked = given(tmp_path, overrides=[f"paths.outputs={tmp_path}", "data=redheart_stories", f"data.root={root}"])
    pipeline.run_pipeline(asked, quiet=True)
    pipeline.run_pipeline(asked, quiet=True)
    assert len(steps) == 5
    (root / "splits.csv").write_text("sample_id,group,label,fold\na,a,joy,train\n")
    pipeline.run_pipeline(asked, quiet=True)
    assert steps[5:] == ["data"]  # the double says that the stories are the same, so nothing else is made again
    state = tmp_path / "redheart" / "pipeline" / "try" / "pipeline.json"
    content = json.loads(state.read_text())
    content["steps"]["data"]["result"]["fingerprint"] = "f2"
    state.write_text(json.dumps(content))
    pipeline.run_pipeline(asked, quiet=True)
    assert steps[6:] == ["sweep", "fit", "ablate", "paper"]


def test_an_input_is_prepared_as_the_options_say_and_again_where_the_file_changes(tmp_path, steps):
    source = write_stories(tmp_path / "in" / "my stories.json", story_objects(120))
    table = tmp_path / "people.csv"
    table.write_text("id,subject,valence,arousal,dominance\ns00000,anna,5,5,5\n")
    asked = given(tmp_path, input=source, subjects=table, bentham_range=[-1.0, 1.0])
    pipeline.run_pipeline(asked, quiet=True)
    root = tmp_path / "redheart" / "pipeline" / "try" / "stories"
    assert (root / "subjects.csv").read_text() == table.read_text()
    scaled = json.loads((root / "stories.jsonl").read_text().splitlines()[0])["bentham_scores"][0]
    assert scaled == pytest.approx((story_objects(1)[0]["bentham_scores"][0] + 1) / 2, abs=1e-6)
    before = (root / "splits.csv").read_bytes()
    write_stories(source, story_objects(140))
    pipeline.run_pipeline(asked, quiet=True)
    assert (root / "splits.csv").read_bytes() != before
    assert steps == ["data", "sweep", "fit", "ablate", "paper", "data"]
    again = pipeline.command(asked)
    assert f"--input '{source}' --bentham-range -1.0 1.0 --subjects {table}" in again


def test_the_main_fit_names_the_sweep_and_not_its_rate(tmp_path, steps, monkeypatch):
    asked = []

    def fit(config, overrides, *more):
        asked.append((config.optimizer.lr_from, overrides[-1]))
        raise RunInterrupted(signal.SIGINT, "stopped")

    monkeypatch.setattr(pipeline, "_fit", fit)
    with pytest.raises(RunInterrupted):
        pipeline.run_pipeline(given(tmp_path), quiet=True)
    assert asked == [(str(tmp_path / "sweep"), f"optimizer.lr_from='{tmp_path / 'sweep'}'")]


def test_an_override_is_read_as_the_text_that_was_given():
    for text in ("my stories (2)", "it's, [here]", "a=b"):
        config = composed(["data=redheart_stories", pipeline.override("data.root", text)])
        assert config.data.root == text


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
    with pytest.raises(ConfigError, match=r"--subjects and --bentham-range are given without --input"):
        pipeline.run_pipeline(given(tmp_path, subjects=tmp_path / "people.csv"), quiet=True)
    with pytest.raises(DataError, match=r"--input .*none\.json cannot be read"):
        pipeline.run_pipeline(given(tmp_path, input=tmp_path / "none.json"), quiet=True)
