"""The command line: answers at once, wrong words are one sentence and exit code 2, errors never a stack trace."""

import subprocess
import sys

import pytest

from shared.entry import sentence
from shared.errors import DataError
from tests.fabricate.battery_run import TINY


def run(*arguments, timeout=120, cwd=None):
    command = [sys.executable, "-m", "projects.battery.train", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=cwd)


@pytest.mark.parametrize("arguments", [("--help",), ("--cfg", "job"), ("--cfg", "job", "+experiment=late_fusion")])
def test_help_and_config_answer_without_heavy_imports(arguments):
    script = (
        "import runpy, sys\n"
        f"sys.argv = ['train', *{list(arguments)!r}]\n"
        "try:\n    runpy.run_module('projects.battery.train', run_name='__main__')\n"
        "finally:\n    heavy = {'torch', 'lightning', 'sklearn', 'cv2', 'matplotlib'} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "late_fusion" in done.stdout


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("trainer.max_epoch=3", "unknown config key trainer.max_epoch; the nearest is trainer.max_epochs"),
        ("optimiser.lr=3", "unknown config key optimiser.lr; the nearest is optimizer.lr"),
        ("sede=3", "unknown config key sede; the nearest is seed"),
        ("model=battery_resnet19", "battery_resnet18"),
        ("+experiment=late_fusoin", "late_fusion"),
    ],
)
def test_wrong_words_are_named_and_exit_with_2(override, words, tmp_path):
    done = run(override, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_errors_of_the_run_are_one_sentence(tmp_path):
    missing = run("data=battery_ct", f"data.root={tmp_path}/none", f"paths.outputs={tmp_path}/o")
    assert missing.returncode == 1
    assert missing.stderr.splitlines()[-1].startswith(f"error: data folder {tmp_path}/none is not a folder")
    assert "Traceback" not in missing.stderr
    unset = run("data=battery_ct", f"paths.outputs={tmp_path}/o")
    assert unset.returncode == 2
    assert "data.root" in unset.stderr.splitlines()[-1]


def test_the_environment_is_set_before_torch_can_read_it():
    script = "import os; os.environ.pop('OMP_WAIT_POLICY', None); import projects; print(os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "PASSIVE"


def test_a_workers_error_loses_its_stack():
    text = (
        "Caught DataError in DataLoader worker process 0.\nTraceback:\n  ...\nshared.errors.DataError: a.png is cut off"
    )
    assert sentence(DataError(text)) == "a.png is cut off"
    assert sentence(DataError("plain")) == "plain"


@pytest.mark.slow
def test_the_last_line_is_the_run_directory(tmp_path):
    done = run("+experiment=late_fusion", *TINY, f"paths.outputs={tmp_path}/o", f"paths.cache={tmp_path}/c")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"run: {tmp_path}/o/battery/late_fusion/")
