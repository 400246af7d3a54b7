import json

import pytest

from projects.redheart.data.prepared import PrepareOptions, prepare
from projects.redheart.sweep.engine_runs import composed, find, run_once
from shared.config import check_config
from shared.errors import ConfigError, TrainingError
from shared.instantiate import instantiate
from shared.learning_rate import rate_from_sweep
from shared.run_dir import RunDirectory
from tests.fabricate.battery_run import composed as battery
from tests.fabricate.past_run import past_run
from tests.fabricate.stories import story_objects, write_stories


def written(outputs, **status):
    past_run(outputs, "20260101-000000-aaaaaa", [2.0, 1.0], [2.0, 1.0], "+experiment=late_fusion", **status)
    overrides = ("+experiment=late_fusion", f"paths.outputs={outputs}", "trainer.max_epochs=2")
    return battery("battery", *overrides)


def test_a_finished_run_of_this_configuration_is_found_and_no_other(tmp_path):
    config = written(tmp_path)
    found = run_once(config)
    assert (found.found, found.failure, found.run.path.name) == (True, None, "20260101-000000-aaaaaa")
    config.seed = 5
    assert find(check_config(config)) is None


def test_an_interrupted_run_goes_on_and_one_that_diverged_is_a_result(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("shared.engine.fit", lambda config, **more: asked.append(config.resume) or RuntimeError)
    config = written(tmp_path / "a", state="interrupted")
    with pytest.raises(AttributeError):  # the double returns no result
        run_once(config)
    assert asked[0].endswith("20260101-000000-aaaaaa")
    asked.clear()
    config = written(tmp_path / "b", state="failed", error="the training loss is not finite at epoch 0")
    made = run_once(config)
    assert (made.found, made.failure) == (True, "the training loss is not finite at epoch 0")
    assert asked == []


def test_a_fit_that_diverges_now_is_a_result_and_another_failure_is_not(tmp_path, monkeypatch):
    config = battery("battery", "+experiment=late_fusion", f"paths.outputs={tmp_path}", "trainer.max_epochs=2")

    def diverges(config, **more):
        folder = past_run(tmp_path, "20260101-000000-aaaaaa", [2.0, 1.0], [2.0, 1.0], "+experiment=late_fusion")
        RunDirectory(folder).set_state("failed", error="the training loss is not finite at epoch 1")
        raise TrainingError("the training loss is not finite at epoch 1")

    monkeypatch.setattr("shared.engine.fit", diverges)
    made = run_once(config)
    assert (made.found, made.failure) == (False, "the training loss is not finite at epoch 1")

    def fails(config, **more):
        raise TrainingError("out of memory at batch 1")

    monkeypatch.setattr("shared.engine.fit", fails)
    config.seed = 3
    with pytest.raises(TrainingError, match="out of memory at batch 1"):
        run_once(config)


@pytest.fixture
def stories(tmp_path):
    """Configuration on a prepared folder, the folder's source, and what a run of it would have recorded."""
    source = write_stories(tmp_path / "in.json", story_objects(120))
    prepare(source, tmp_path / "data", PrepareOptions())
    typed = ["data=redheart_stories", f"data.root={tmp_path / 'data'}"]
    datamodule = make_datamodule(typed, tmp_path)
    datamodule._embed = lambda: pytest.fail("nothing needs to be embedded to compare two data sets")
    check = {"data_hash": datamodule.corpus.index.data_hash(), "data": {"fingerprint": datamodule.fingerprint}}
    return source, typed, check


def make_datamodule(typed, tmp_path):
    data = check_config(composed([*typed, f"paths.outputs={tmp_path}"])).plain["data"]
    return instantiate(data, "data", seed=0, cache_folder=str(tmp_path / "cache"))


def story_run(tmp_path, typed, check, *more):
    overrides = (*typed, *more)
    past_run(
        tmp_path / "out", "20260101-000000-aaaaaa", [2.0], [2.0], *overrides, primary="redheart",
        stages={"check": check},
    )  # fmt: skip
    return composed([*overrides, f"paths.outputs={tmp_path / 'out'}", "trainer.max_epochs=1"])


def test_a_run_on_other_data_of_the_same_name_is_not_taken_over(tmp_path, stories):
    source, typed, check = stories
    config = story_run(tmp_path, typed, check)
    assert find(check_config(config)).found
    assert not list((tmp_path / "data").glob("*.embedded.*"))
    objects = story_objects(120)
    for story in objects:  # ids, labels and texts stay, so the hash of the index does as well
        story["regret_factor"] = 0.25
    write_stories(source, objects)
    prepare(source, tmp_path / "data", PrepareOptions())
    assert make_datamodule(typed, tmp_path).corpus.index.data_hash() == check["data_hash"]
    assert find(check_config(config)) is None


def test_an_older_run_is_known_by_its_data_hash_alone(tmp_path, stories):
    _, typed, check = stories
    config = story_run(tmp_path, typed, {"data_hash": check["data_hash"], "data": {}})
    assert find(check_config(config)).found
    prepare(write_stories(tmp_path / "other.json", story_objects(119)), tmp_path / "data", PrepareOptions())
    assert find(check_config(config)) is None


def test_a_run_whose_rate_came_from_a_sweep_is_found(tmp_path, stories):
    _, typed, check = stories
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    (sweep / "optimal_lr.json").write_text('{"lr": 0.0002}')
    # The engine writes the rate and the folder into config.yaml.
    config = story_run(tmp_path, typed, check, "optimizer.lr=0.0002", f"optimizer.lr_from={sweep}")
    config.optimizer.lr = 0.1
    assert run_once(config).found
    (sweep / "optimal_lr.json").write_text('{"lr": 0.0005}')
    settings = check_config(config)
    settings.plain["optimizer"] = rate_from_sweep(settings.plain["optimizer"], settings.sweeps)
    assert find(settings) is None


def test_a_run_that_is_alive_is_not_run_beside(tmp_path):
    config = written(tmp_path, state="running")
    with pytest.raises(ConfigError, match=r"is still running \(process \d+ on .*\); wait for it"):
        run_once(config)


def test_a_wrong_override_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"the overrides model.no_such=1 cannot be composed: .*no_such"):
        composed(["model.no_such=1"])
    assert composed(["seed=4"]).seed == 4
    assert json.dumps(composed([]).stages[0]) == '"audit"'
