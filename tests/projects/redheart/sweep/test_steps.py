import json

import pytest

from projects.redheart.sweep.steps import Steps, hash_of
from shared.errors import ConfigError


class Job:
    def __init__(self):
        self.done, self.there, self.said = 0, True, []

    def __call__(self, steps, **inputs):
        def work():
            self.done += 1
            return {"number": self.done}

        return steps.run("step", inputs, work, lambda result: self.there, self.said.append)


def test_a_step_is_done_once_for_the_same_inputs_also_by_a_later_process(tmp_path):
    job, path = Job(), tmp_path / "pipeline.json"
    assert job(Steps(path), a=1, b=2) == {"number": 1}
    assert job(Steps(path), b=2, a=1) == {"number": 1}
    assert job.said[-1] == "step: done before"
    assert job(Steps(path), a=1, b=3) == {"number": 2}
    assert "step: its inputs have changed, so it is made again" in job.said
    job.there = False
    assert job(Steps(path), a=1, b=3) == {"number": 3}
    assert "step: its result is gone, so it is made again" in job.said


def test_a_step_that_was_stopped_is_not_taken_for_done(tmp_path):
    path = tmp_path / "pipeline.json"

    def stopped():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Steps(path).run("step", {}, stopped, lambda result: True, print)
    assert json.loads(path.read_text())["steps"]["step"]["state"] == "running"
    job = Job()
    assert job(Steps(path)) == {"number": 1}


@pytest.mark.parametrize("content", ["{", '{"schema": 9, "steps": {}}', "[]", '{"schema": 1, "steps": 3}'])
def test_a_damaged_state_is_named(tmp_path, content):
    path = tmp_path / "pipeline.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"pipeline\.json cannot be read .*; remove it or give another --out"):
        Steps(path)


def test_the_hash_depends_on_values_and_not_on_their_order():
    assert hash_of({"a": 1, "b": [1, 2]}) == hash_of({"b": [1, 2], "a": 1})
    assert hash_of({"a": 1}) != hash_of({"a": 1.5})
