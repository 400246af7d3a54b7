"""The command line: tables, JSON, exit codes, and nothing is started without the user's word."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from shared.advise import __main__ as command
from shared.errors import ConfigError
from tests.fabricate.loss_curves import log_text
from tests.fabricate.past_run import past_run

T = np.arange(30.0)
HEALTHY = 1 + np.exp(-T / 5)
FALLING = 0.2 + np.exp(-T / 20)


@pytest.fixture
def started(monkeypatch):
    calls = []
    answer = SimpleNamespace(returncode=3)
    monkeypatch.setattr(command.subprocess, "run", lambda arguments, check: calls.append(arguments) or answer)
    return calls


def test_a_healthy_run_needs_nothing(tmp_path, capsys, started):
    assert command.main([str(past_run(tmp_path, "a", HEALTHY, HEALTHY))]) == 0
    shown = capsys.readouterr().out
    assert "Nothing needs doing" in shown
    assert "to start the first" not in shown
    with pytest.raises(ConfigError, match="--start: there is no suggestion that can be started"):
        command.main([str(tmp_path), "--start"])
    assert started == []


def test_the_first_suggestion_is_shown_and_started_only_on_request(tmp_path, capsys, started):
    folder = past_run(tmp_path, "a", FALLING, FALLING, "optimizer.lr=0.01")
    assert command.main([str(folder), "--json", str(tmp_path / "a.json")]) == 0
    shown = capsys.readouterr().out
    line = shown.splitlines()[-1]
    assert line.startswith("python -m projects.battery.train optimizer.lr=0.01")
    assert line.endswith("trainer.max_epochs=60")
    assert "because underfit in a, epochs" in shown
    assert started == []
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["suggestions"][0]["command"] == line.split()[1:]
    assert content["suggestions"][0]["receipt"]["rule"] == "underfit"
    assert command.main([str(folder), "--start"]) == 3  # the child's exit code
    assert started == [[sys.executable, *line.split()[1:]]]


@pytest.mark.parametrize(("typed", "starts"), [("y", 1), ("", 0), ("n", 0), (EOFError, 0)])
def test_somebody_at_a_terminal_is_asked(tmp_path, monkeypatch, started, typed, starts):
    def answered(prompt):
        if typed is EOFError:
            raise EOFError
        return typed

    monkeypatch.setattr("builtins.input", answered)
    for stream in ("stdin", "stdout"):
        monkeypatch.setattr(getattr(sys, stream), "isatty", lambda: True)
    command.main([str(past_run(tmp_path, "a", FALLING, FALLING))])
    assert len(started) == starts


def test_a_name_is_never_read_as_markup(tmp_path, capsys):
    folder = tmp_path / "[red]evil[" / "[link=x]"
    folder.mkdir(parents=True)
    (folder / "train_log.txt").write_text(log_text(HEALTHY, HEALTHY, HEALTHY))
    assert command.main([str(tmp_path)]) == 0
    assert "[link=x]/train_log.txt" in capsys.readouterr().out


def test_wrong_usage_ends_with_two_and_one_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "shared.advise", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: no run in {tmp_path}")
    assert len(done.stderr.splitlines()) == 1
