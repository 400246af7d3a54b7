import json
import os

import pytest

from shared.config import check_config
from shared.errors import ConfigError
from shared.found_runs import by_state, find_same_run
from tests.fabricate.battery_run import composed
from tests.fabricate.past_run import past_run

TYPED = ("+experiment=late_fusion", "trainer.max_epochs=1")
OLD, NEW = "20260101-000000-aaaaaa", "20260102-000000-bbbbbb"


def made(outputs, name, *more, **status):
    return past_run(outputs, name, [2.0], [2.0], "+experiment=late_fusion", *more, **status)


def settings(outputs, *more):
    return check_config(composed("battery", *TYPED, f"paths.outputs={outputs}", *more))


def found(outputs, judge=by_state, more=()):
    one = find_same_run(settings(outputs, *more), judge)
    return None if one is None else (one.run.path.name, one.is_finished)


def test_the_newest_finished_run_comes_before_a_newer_one_that_was_interrupted(tmp_path):
    assert found(tmp_path) is None
    made(tmp_path, OLD)
    made(tmp_path, NEW, state="interrupted")
    assert found(tmp_path) == (OLD, True)
    made(tmp_path, "20260103-000000-cccccc")
    assert found(tmp_path) == ("20260103-000000-cccccc", True)


def test_else_the_newest_that_can_be_resumed(tmp_path):
    made(tmp_path, OLD, state="failed", error="out of memory")
    made(tmp_path, NEW, state="interrupted")
    assert found(tmp_path) == (NEW, False)
    assert found(tmp_path, more=[f"resume={tmp_path}"]) == (NEW, False), "resume makes no other configuration"


def test_a_run_of_another_configuration_or_without_a_whole_one_is_none(tmp_path):
    made(tmp_path, OLD, "seed=3")
    (made(tmp_path, NEW) / "config.yaml").write_text("data: [")
    assert found(tmp_path) is None
    assert found(tmp_path, more=["seed=3"]) == (OLD, True)


def test_the_judge_decides_what_is_finished_and_what_is_passed_over(tmp_path):
    made(tmp_path, OLD, state="failed", error="not finite")
    alive = made(tmp_path, NEW, state="running")
    said = []

    def judge(run, status):
        said.append(run.path.name)
        return "other" if run.path == alive else "finished" if "error" in status else by_state(run, status)

    assert found(tmp_path, judge) == (OLD, True)
    assert said == [NEW, OLD]


def test_a_run_that_is_alive_is_waited_for_and_one_whose_process_is_gone_can_be_resumed(tmp_path):
    path = made(tmp_path, OLD, state="running")
    with pytest.raises(ConfigError, match=rf"{OLD} is still running \(process {os.getpid()} on .*\); wait for it"):
        found(tmp_path)
    status = json.loads((path / "status.json").read_text())
    (path / "status.json").write_text(json.dumps(status | {"started_by": status["started_by"] - 1000}))
    assert found(tmp_path) == (OLD, False)
