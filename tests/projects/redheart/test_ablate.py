import os
import signal

import pytest

from projects.redheart import ablate as command_line
from projects.redheart.ablation import procedure


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_with_the_command_that_goes_on(monkeypatch, capsys, tmp_path, signum, code):
    asked = []

    def busy(path, **options):
        asked.append((path, options["epochs"], options["draws"]))
        os.kill(os.getpid(), signum)

    monkeypatch.setattr(procedure, "ablate", busy)
    run = tmp_path / "a run"
    with pytest.raises(SystemExit) as stop:
        command_line.main([str(run), "--retrain", "--epochs", "4", "--draws", "300"])
    assert stop.value.code == code
    again = f"python -m projects.redheart.ablate '{run}' --draws 300 --retrain --epochs 4"
    assert f"stopped; go on with: {again}" in capsys.readouterr().err
    assert asked == [(run, 4, 300)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "3"], "--epochs is 3 without --retrain"),
        (["--draws", "9"], "--draws is 9, allowed: 100 or more"),
    ],
)
def test_wrong_arguments_are_refused(capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        command_line.main(["run", *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
