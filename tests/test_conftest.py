"""The guards of `conftest.py` act: shown on a small test run of its own, in a child process."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CASES = """
import multiprocessing, os, random, threading, time
from pathlib import Path

import numpy as np
import pytest

DRAWS = []

@pytest.mark.parametrize("turn", [0, 1])
def test_same_draws_each_time(turn):
    DRAWS.append((random.random(), np.random.rand()))
    assert DRAWS[0] == DRAWS[-1]

def test_changes_the_process():
    os.environ["LEFT_BEHIND"] = "1"
    del os.environ["MPLBACKEND"]
    os.chdir("/")

def test_finds_it_restored(tmp_path):
    assert "LEFT_BEHIND" not in os.environ
    assert os.environ["MPLBACKEND"] == "Agg"
    assert Path.cwd() != Path("/")

def test_leaves_a_thread():
    threading.Thread(target=time.sleep, args=(20,), daemon=True, name="stray-thread").start()

def test_leaves_a_process():
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(20,), daemon=True, name="stray-child").start()

def test_ends_its_thread_a_little_late():
    threading.Thread(target=time.sleep, args=(0.2,), name="late-thread").start()

def test_reads_real_data(real_data):
    pass
"""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> str:
    """Return what pytest printed about the cases, run with a copy of the conftest in a folder of its own."""
    folder = tmp_path_factory.mktemp("checkout") / "tests"
    folder.mkdir()
    shutil.copy(repo_root / "tests" / "conftest.py", folder)
    (folder / "test_cases.py").write_text(CASES, encoding="utf-8")
    options = ["-v", "-rs", "-p", "no:cacheprovider", "-c", str(repo_root / "pyproject.toml"), "--rootdir", str(folder)]
    command = [sys.executable, "-m", "pytest", *options, str(folder)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout


@pytest.mark.parametrize("stray", ["thread stray-thread", "process stray-child"])
def test_what_is_left_running_is_named(outcome: str, stray: str) -> None:
    assert f"the test left running: {stray}" in outcome


def test_real_data_are_missed_loudly(outcome: str) -> None:
    assert re.search(r"SKIPPED.*REAL DATA MISSING: there is no folder \S+/shared/data;", outcome), outcome


def test_everything_else_passes(outcome: str) -> None:
    assert re.search(r"= 7 passed, 1 skipped, 2 errors in ", outcome), outcome
