import json

import pytest

from projects.redheart.sweep.engine_runs import composed, find, run_once
from shared.config import check_config
from shared.errors import ConfigError, TrainingError
from shared.run_dir import RunDirectory
from tests.fabricate.battery_run import composed as battery
from tests.fabricate.past_run import past_run


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


def test_a_run_that_is_alive_is_not_run_beside(tmp_path):
    config = written(tmp_path, state="running")
    with pytest.raises(ConfigError, match=r"is still running \(process \d+ on .*\); wait for it"):
        run_once(config)


def test_a_wrong_override_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"the overrides model.no_such=1 cannot be composed: .*no_such"):
        composed(["model.no_such=1"])
    assert composed(["seed=4"]).seed == 4
    assert json.dumps(composed([]).stages[0]) == '"audit"'
