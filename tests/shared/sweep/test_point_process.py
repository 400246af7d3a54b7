import json
import signal

import pytest

from shared import instantiate
from shared.errors import ConfigError, RunInterrupted
from shared.sweep import contexts, exclusive_files
from shared.sweep.point_process import Task, measure, resolve_objective, stoppable
from tests.fabricate import toy_objective
from tests.fabricate.toy_sweep import planned, toy_search


def task(search, id):
    return Task(search.folder, id, dict(search.settings), search.code_hash(), job="j", started_by="me")


def measured(search, id):
    """Measure a point in this process; returns the kind of the last event and the point."""
    kind = measure(task(search, id))
    return kind, search.ledger().point(id)


def test_a_point_is_claimed_measured_and_done(tmp_path):
    search = toy_search(tmp_path)
    id = planned(search, 7e-5)[0]
    kind, view = measured(search, id)
    assert (kind, view.state, view.attempts) == ("done", "done", 1)
    assert view.outcome["score"] == pytest.approx(0.1 + 1 / 3)
    assert view.outcome["code_hash"] == search.code_hash()
    assert [event.kind for event in view.history] == ["running", "opened", "done"]
    assert view.history[0].data["job"] == "j"
    assert view.history[0].data["started_by"] == "me"
    assert measured(search, id)[0] is None, "a point that is done is nobody's any more"


@pytest.mark.parametrize(
    ("mode", "error", "final"),
    [
        ("fail", "the toy was told to fail", False),
        ("diverge", "train/loss is not finite in step 7", True),
        ("bad_config", "toy.size is 0; allowed are numbers from 1 on", True),
    ],
)
def test_a_failure_is_tried_again_where_that_could_help(tmp_path, monkeypatch, mode, error, final):
    monkeypatch.setenv("TOY_MODES", json.dumps({"*": mode}))
    search = toy_search(tmp_path, retries=1)
    id = planned(search, 7e-5)[0]
    kind, view = measured(search, id)
    assert (kind, view.state, view.error, view.final) == ("failed", "failed", error, final)
    if not final:
        assert measured(search, id)[1].final, "one retry, and it is used up"


def test_an_unexpected_error_keeps_its_type_and_shows_where_it_came_from(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(toy_objective, "bowl", lambda rate: {}["nothing"])
    search = toy_search(tmp_path)
    _, view = measured(search, planned(search, 7e-5)[0])
    assert view.error == "KeyError: 'nothing'"
    assert "in run" in capfd.readouterr().err


@pytest.mark.parametrize("score", [float("nan"), float("inf"), None, True])
def test_a_score_that_is_no_finite_number_is_a_failure_that_stays(tmp_path, monkeypatch, score):
    monkeypatch.setattr(toy_objective, "run", lambda work: {"score": score})
    search = toy_search(tmp_path)
    _, view = measured(search, planned(search, 7e-5)[0])
    assert view.final
    assert "which is not finite" in view.error


def test_an_interrupted_point_goes_on_in_its_own_run_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    search = toy_search(tmp_path)
    id = planned(search, 7e-5)[0]
    real = toy_objective._log

    def interrupt(work, epoch):
        real(work, epoch)
        if epoch == 1:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(toy_objective, "_log", interrupt)
    kind, view = measured(search, id)
    assert (kind, view.state, view.error) == ("interrupted", "interrupted", "stopped by SIGTERM")
    monkeypatch.setattr(toy_objective, "_log", real)
    kind, after = measured(search, id)
    assert kind == "done"
    assert after.run == view.run
    epochs = [json.loads(line)["epoch"] for line in (tmp_path / "log").read_text().splitlines()]
    assert epochs == [0, 1, 2], "no epoch twice"


@pytest.mark.parametrize("way", ["as_another_error", "in_an_import"])
def test_a_signal_that_somebody_has_made_another_error_of_is_an_interruption(tmp_path, monkeypatch, way):
    (tmp_path / "slow_import_of_a_test.py").write_text("import signal\nsignal.raise_signal(signal.SIGTERM)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(instantiate, "ALLOWED_PREFIXES", ("slow_import_of_a_test.",))

    def swallow(work):
        if way == "in_an_import":
            instantiate.resolve_target({"_target_": "slow_import_of_a_test.Network"}, "model")
        try:
            signal.raise_signal(signal.SIGTERM)
        except Exception as error:
            raise ConfigError("model._target_ cannot be imported") from error

    monkeypatch.setattr(toy_objective, "run", swallow)
    search = toy_search(tmp_path)
    kind, view = measured(search, planned(search, 7e-5)[0])
    assert (kind, view.state, view.error, view.final) == ("interrupted", "interrupted", "stopped by SIGTERM", False)


def test_an_import_that_a_signal_stops_is_told_as_the_signal(tmp_path, monkeypatch):
    (tmp_path / "stopped_import_of_a_test.py").write_text("import signal\nsignal.raise_signal(signal.SIGTERM)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(instantiate, "ALLOWED_PREFIXES", ("stopped_import_of_a_test.",))
    with stoppable(), pytest.raises(RunInterrupted, match="stopped by SIGTERM"):
        instantiate.resolve_target({"_target_": "stopped_import_of_a_test.Network"}, "model")


def test_an_outcome_that_is_no_json_is_a_failure_and_not_an_interruption(tmp_path, monkeypatch):
    monkeypatch.setattr(toy_objective, "run", lambda work: {"score": 1.0, "metrics": {"val/auroc": float("nan")}})
    search = toy_search(tmp_path, retries=1)
    id = planned(search, 7e-5)[0]
    kind, view = measured(search, id)
    assert (kind, view.state, view.failures, view.interruptions) == ("failed", "failed", 1, 0)
    assert view.error.startswith("the outcome of point 0 cannot be written: ")
    assert measured(search, id)[1].final


def test_a_point_is_not_begun_with_code_that_was_changed_or_is_not_the_sweeps(tmp_path, monkeypatch):
    search = toy_search(tmp_path)
    id = planned(search, 7e-5)[0]
    begun = task(search, id)
    with monkeypatch.context() as changed:
        changed.setattr(contexts, "code_hash_now", lambda primary, objective: "another")
        with pytest.raises(ConfigError, match=r"the code was changed while the sweep .*toy ran, .*; start it again"):
            measure(begun)
        changed.setattr(contexts, "code_hash", lambda primary, objective: "another")
        with pytest.raises(ConfigError, match="the code here is another than that of the sweep"):
            measure(task(search, id))
    assert search.ledger().point(id).history == ()
    assert measure(begun) == "done"


def test_a_point_of_a_former_generation_is_not_begun(tmp_path):
    search = toy_search(tmp_path)
    id = planned(search, 7e-5)[0]
    content = {"schema": 1, "mode": "rerun", "code_hash": search.code_hash(), "t": 0.0, "host": "h"}
    assert exclusive_files.create(search.folder / "contexts" / "0001.json", content)
    with pytest.raises(ConfigError, match=r"point 0 is of generation 0 of the sweep .* \(generation 1\)"):
        measure(task(search, id))
    assert search.ledger().point(id).history == ()


def test_a_run_directory_that_is_gone_means_a_fresh_start(tmp_path, monkeypatch):
    search = toy_search(tmp_path)
    id = planned(search, 7e-5)[0]
    with search.ledger().claim(id, job=None) as claim:
        claim.opened(str(tmp_path / "gone"))
    seen = []
    monkeypatch.setattr(toy_objective, "run", lambda work: seen.append(work.resume) or {"score": 1.0})
    assert measured(search, id)[0] == "done"
    assert seen == [None]


def test_a_lost_lease_writes_nothing(tmp_path, monkeypatch, capfd):
    search = toy_search(tmp_path)
    id = planned(search, 7e-5)[0]

    def robbed(work):
        work.claim._heartbeat.lost.set()
        work.claim.check()

    monkeypatch.setattr(toy_objective, "run", robbed)
    kind, view = measured(search, id)
    assert kind == "lost"
    assert [event.kind for event in view.history] == ["running"]
    assert "was taken for dead" in capfd.readouterr().err


def test_a_signal_while_the_result_is_written_does_not_lose_it():
    with stoppable() as stop:
        with pytest.raises(RunInterrupted, match="stopped by SIGINT"):
            signal.raise_signal(signal.SIGINT)
        stop.closing = True
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("name", ["tests.fabricate.toy_objective.walk", "tests.fabricate.nothing.run"])
def test_an_objective_that_is_not_there_is_named(name):
    with pytest.raises(ConfigError, match=f"hydra.sweeper.objective {name} cannot be imported"):
        resolve_objective(name)
