"""What every test gets: a fixed environment and fixed seeds before it, and a check of what it left behind after it."""
# ruff: noqa: E402 - native libraries read the environment while they load, so it is set before the imports

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
UNDER_XDIST = "PYTEST_XDIST_WORKER" in os.environ
if UNDER_XDIST:
    os.environ["OMP_NUM_THREADS"] = "1"  # two workers with two threads each slow each other down on two cores

import importlib
import multiprocessing
import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")

SEED = 20_240_229
# Daemons that a library starts once per process and never stops.
KNOWN_DAEMONS = ("tqdm_monitor", "ThreadPoolExecutor-pytest", "pytest_timeout", "execnet")
GRACE_S = 2.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks for the real data carries the marker, so that `-m "not realdata"` cannot miss one."""
    for item in items:
        if "real_data" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.realdata)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs an accelerator where there is none."""
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs an accelerator, and torch sees none")


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """Return the top folder of the checkout."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data(repo_root: Path) -> Path:
    """Return the folder of the real data sets beside the checkout; skip, naming the path, where there is none."""
    folder = repo_root.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"REAL DATA MISSING: there is no folder {folder}; put the data sets there to run this test")
    return folder


@pytest.fixture(scope="session")
def battery_ct() -> ModuleType:
    """Return the writer of fabricated CT files."""
    return importlib.import_module("tests.fabricate.battery_ct")


@pytest.fixture(autouse=True)
def restored_process() -> Iterator[None]:
    """Give the next test the environment variables, folder and torch switches that this one found."""
    environ, folder = dict(os.environ), Path.cwd()
    torch = sys.modules.get("torch")
    if torch:
        num_threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
        deterministic, grad = torch.are_deterministic_algorithms_enabled(), torch.is_grad_enabled()
    yield
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    if torch:
        torch.set_num_threads(num_threads)
        torch.set_default_dtype(dtype)
        torch.use_deterministic_algorithms(deterministic)
        torch.set_grad_enabled(grad)


@pytest.fixture(autouse=True)
def seeded(restored_process: None) -> None:
    """Seed every global generator; torch only where something imported it, which keeps the light tests light."""
    random.seed(SEED)
    np.random.seed(SEED)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(SEED)
        if UNDER_XDIST:
            torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def nothing_left_running(restored_process: None) -> Iterator[None]:
    """Fail a test that leaves a thread or a child process behind."""
    threads, children = set(threading.enumerate()), set(multiprocessing.active_children())
    yield
    deadline = time.monotonic() + GRACE_S
    while (left := _left_behind(threads, children)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left, f"the test left running: {', '.join(left)}"


def _left_behind(threads: set[threading.Thread], children: set[multiprocessing.process.BaseProcess]) -> list[str]:
    """Name the live threads and child processes that are in neither set."""
    new_threads = (thread for thread in threading.enumerate() if thread not in threads)
    strays = [f"thread {thread.name}" for thread in new_threads if not thread.name.startswith(KNOWN_DAEMONS)]
    return strays + [f"process {child.name}" for child in multiprocessing.active_children() if child not in children]
