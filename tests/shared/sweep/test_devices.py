import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from shared.errors import ConfigError
from shared.sweep import devices
from shared.sweep.devices import HELD, VISIBLE, device_lease, visible_devices


@pytest.fixture(autouse=True)
def no_scheduler(monkeypatch):
    for name in (*devices.SLURM_SETS, HELD, VISIBLE, "SUBMITIT_EXECUTOR", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(devices, "_bound", None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0,1", ("0", "1")), ("GPU-7f, 3", ("GPU-7f", "3")), ("", ()), ("-1", ()), ("2,-1,3", ("2",))],
)
def test_the_environment_names_the_devices(value, expected):
    assert visible_devices({VISIBLE: value}) == expected


def test_without_it_the_device_files_are_counted(tmp_path):
    for name in ("nvidia0", "nvidia3", "nvidiactl", "nvidia-uvm", "nvidia-caps"):
        (tmp_path / name).touch()
    assert visible_devices({}, tmp_path) == ("0", "1")
    assert visible_devices({}, tmp_path / "nothing") == ()


def job(folder, number, count, log):
    """Hold a device for a moment; what is written tells who held which when."""
    with device_lease(count, folder=folder, poll_s=0.01) as names:
        began = time.monotonic()
        assert os.environ[VISIBLE] == ",".join(names)
        time.sleep(0.15)
        with (log / f"{number}.txt").open("w") as stream:
            stream.write(f"{began} {time.monotonic()} {','.join(names)}")
    assert os.environ[VISIBLE] == "A,B"


def run_jobs(tmp_path, monkeypatch, counts):
    monkeypatch.setenv(VISIBLE, "A,B")
    log = tmp_path / "log"
    log.mkdir()
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=job, args=(tmp_path / "locks", k, n, log)) for k, n in enumerate(counts)]
    for process in jobs:
        process.start()
    for process in jobs:
        process.join(20)
    assert [process.exitcode for process in jobs] == [0] * len(counts)
    rows = [path.read_text().split() for path in log.iterdir()]
    return [(float(began), float(ended), names.split(",")) for began, ended, names in rows]


def assert_never_two_on_one(rows):
    for name in ("A", "B"):
        held = sorted((began, ended) for began, ended, names in rows if name in names)
        assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(held)), held


def test_five_jobs_on_two_devices_all_run_and_never_two_on_one(tmp_path, monkeypatch):
    rows = run_jobs(tmp_path, monkeypatch, [1] * 5)
    assert len(rows) == 5
    assert {name for _, _, names in rows for name in names} == {"A", "B"}
    assert_never_two_on_one(rows)
    assert max(ended for _, ended, _ in rows) - min(began for began, _, _ in rows) >= 3 * 0.15  # so they did wait


def test_a_job_that_needs_both_is_served_among_those_that_need_one(tmp_path, monkeypatch):
    rows = run_jobs(tmp_path, monkeypatch, [1, 2, 1, 2, 1])
    assert sorted(len(names) for _, _, names in rows) == [1, 1, 1, 2, 2]
    assert_never_two_on_one(rows)


def test_more_devices_than_there_are_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv(VISIBLE, "A,B")
    with pytest.raises(ConfigError, match=r"needs 3 GPUs \(trainer.devices\) and 2 are visible \(A, B\)"):
        device_lease(3, folder=tmp_path).__enter__()


def test_a_killed_holder_gives_its_device_back(tmp_path, monkeypatch):
    monkeypatch.setenv(VISIBLE, "A")
    code = (
        "import pathlib, sys, time; from shared.sweep.devices import device_lease\n"
        "with device_lease(folder=pathlib.Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    descriptors = devices.ExitStack()
    assert not devices._try_lock(tmp_path / "device-A.lock", descriptors)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    with device_lease(folder=tmp_path, poll_s=0.01) as names:
        assert names == ("A",)


@pytest.mark.parametrize("name", [*devices.SLURM_SETS, HELD])
@pytest.mark.parametrize("visible", ["A", "A,B"])
def test_in_a_job_of_its_own_or_within_another_lease_nothing_is_touched(name, visible, tmp_path, monkeypatch):
    monkeypatch.setenv(VISIBLE, visible)
    monkeypatch.setenv(name, "1")
    if visible != "A":
        monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    with device_lease(folder=tmp_path / "locks") as names:
        assert names == ()
        assert os.environ[VISIBLE] == visible
    assert not (tmp_path / "locks").exists()


def test_jobs_that_share_an_allocation_share_out_its_devices(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_GPUS", "4,5")  # numbers of the node; the job sees them by others
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    rows = run_jobs(tmp_path, monkeypatch, [1] * 4)
    assert {name for _, _, names in rows for name in names} == {"A", "B"}
    assert_never_two_on_one(rows)


def test_an_allocation_of_four_gives_each_point_another_and_has_locks_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv(VISIBLE, "0,1,2,3")
    monkeypatch.setenv("SLURM_JOB_GPUS", "0,1,2,3")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    taken = devices.ExitStack()
    with device_lease(poll_s=0.01) as first:
        (folder,) = tmp_path.iterdir()
        assert folder.name.endswith("-77")
        assert not devices._try_lock(folder / "device-0.lock", taken)
        assert devices._try_lock(folder / "device-1.lock", taken)
        monkeypatch.delenv(HELD)  # as in another process
        monkeypatch.setenv(VISIBLE, "0,1,2,3")
        with device_lease(poll_s=0.01) as second:
            assert (first, second) == (("0",), ("2",))
        monkeypatch.setenv("SLURM_JOB_ID", "78")  # in its own numbers the first device is another one
        with device_lease(poll_s=0.01) as other:
            assert other == ("0",)
    taken.close()


def test_without_devices_nothing_is_touched(tmp_path, monkeypatch):
    monkeypatch.setenv(VISIBLE, "")
    with device_lease(folder=tmp_path / "locks") as names:
        assert names == ()
    assert not (tmp_path / "locks").exists()
    assert HELD not in os.environ


def test_a_process_whose_cuda_is_awake_waits_for_its_own_device(tmp_path, monkeypatch):
    import torch

    monkeypatch.setenv(VISIBLE, "A,B")
    taken = devices.ExitStack()
    assert devices._try_lock(tmp_path / "device-A.lock", taken)
    with device_lease(folder=tmp_path) as names:
        assert names == ("B",)
    taken.close()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with device_lease(folder=tmp_path) as names:
        assert names == ("B",)
