from pathlib import Path

import pytest

from projects.pillsnap import evaluate as command
from projects.pillsnap.evaluation.procedure import EvaluationSettings
from shared.errors import CheckpointError


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Return what the command asks for, in place of doing it."""
    asked: list[tuple] = []

    def own(run: Path, settings: EvaluationSettings, console: object) -> tuple[Path, dict]:
        asked.append((run, settings))
        return run / "evaluation", {}

    def other(project: str, run: Path, overrides: list[str]) -> Path:
        asked.append((project, run, overrides))
        return Path("elsewhere")

    monkeypatch.setattr(command, "evaluate_run", own)
    monkeypatch.setattr(command, "evaluate", other)
    monkeypatch.setattr(command, "verdicts", lambda content: ["Top-1 is 1."])
    return asked


def test_without_overrides_the_runs_own_test_fold_is_evaluated(calls: list[tuple], capsys) -> None:
    command.main(["runs/a", "--base-rate", "0.3", "--device", "cpu"])
    assert calls == [(Path("runs/a"), EvaluationSettings(base_rate=0.3, device="cpu"))]
    assert capsys.readouterr().out.splitlines() == ["Top-1 is 1.", "evaluation: runs/a/evaluation"]


def test_with_overrides_another_data_set_is_tested(calls: list[tuple], capsys) -> None:
    command.main(["runs/a", "data.root=photos"])
    assert calls == [("pillsnap", Path("runs/a"), ["data.root=photos"])]
    assert capsys.readouterr().out == "run: elsewhere\n"


def test_options_beside_overrides_are_refused(calls: list[tuple], capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        command.main(["runs/a", "data.root=photos", "--draws", "500", "--base-rate", "0.2"])
    assert stop.value.code == 2
    assert "--base-rate, --draws are for the run's own test fold; leave them out" in capsys.readouterr().err
    assert calls == []


def test_errors_become_one_sentence_and_an_exit_code(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def refused(*arguments: object) -> None:
        raise CheckpointError("runs/a has not been tested; resume it first")

    monkeypatch.setattr(command, "evaluate_run", refused)
    with pytest.raises(SystemExit) as stop:
        command.main(["runs/a"])
    assert stop.value.code == 1
    assert capsys.readouterr().err == "error: runs/a has not been tested; resume it first\n"


def test_options_out_of_range_are_refused(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        command.main(["runs/a", "--base-rate", "1.5"])
    assert stop.value.code == 2
    assert "--base-rate is 1.5" in capsys.readouterr().err
