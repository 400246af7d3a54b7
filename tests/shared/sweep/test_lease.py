import os
import subprocess
import threading
import time

import pytest

from shared.errors import DataError
from shared.sweep import exclusive_files, machine
from shared.sweep import lease as leases
from shared.sweep.exclusive_files import read, replace
from shared.sweep.lease import Heartbeat, LeaseWatch, beat_path
from shared.sweep.machine import machine_identity, process_birth
from shared.sweep.states import Lease

POINT = "0" * 12


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def make(pid=1, born=1.0, host="far", machine="other", event=0, token="t"):
    return Lease(event, token, host, machine, pid, born, None, None, 0.0)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def watch(tmp_path, clock):
    return LeaseWatch(tmp_path, "here", 90.0, clock)


def test_an_unchanged_heartbeat_makes_void_by_the_observers_clock_only(watch, clock, tmp_path):
    replace(beat_path(tmp_path, POINT, 0), {"beat": 1, "t": 4e9})  # the writer's clock is decades ahead
    for clock.now in (0.0, 40.0, 80.0, 89.0):
        assert watch.why_void(POINT, make()) is None
    clock.now = 91.0
    assert watch.why_void(POINT, make()) == "no heartbeat from process 1 on far for 90 s"


def test_a_heartbeat_renews_whatever_its_writer_thinks_the_time_is(watch, clock, tmp_path):
    for k in range(10):
        clock.now = 60.0 * k
        replace(beat_path(tmp_path, POINT, 0), {"beat": k, "t": 0.0})
        assert watch.why_void(POINT, make()) is None


def test_a_lease_without_any_heartbeat_ends_too_and_a_new_lease_counts_from_its_first_look(watch, clock):
    for clock.now in (0.0, 45.0):
        assert watch.why_void(POINT, make()) is None
    clock.now = 90.0
    assert watch.why_void(POINT, make()) is not None
    assert watch.why_void(POINT, make(event=2, token="u")) is None


def test_an_observer_that_was_paused_itself_takes_nobody_for_dead(watch, clock, tmp_path):
    replace(beat_path(tmp_path, POINT, 0), {"beat": 1})
    watch.why_void(POINT, make())
    clock.now = 10_000.0
    assert watch.why_void(POINT, make()) is None


def test_a_process_of_this_machine_that_is_gone_or_a_zombie_is_void_at_once(watch):
    child = subprocess.Popen(["sleep", "60"])
    lease = make(child.pid, process_birth(child.pid), "here", machine_identity())
    assert watch.why_void(POINT, lease) is None
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and nobody has taken its exit code
    assert watch.why_void(POINT, lease) == f"process {child.pid} on here is gone"
    child.wait()
    assert watch.why_void(POINT, lease) == f"process {child.pid} on here is gone"


def test_a_reused_process_number_is_another_process(watch):
    lease = make(os.getpid(), process_birth(os.getpid()) - 1, "here", machine_identity())
    assert watch.why_void(POINT, lease) == f"process {os.getpid()} on here is gone"


def test_another_machine_of_the_same_name_is_not_judged_by_process_numbers(watch):
    assert watch.why_void(POINT, make(2**22 + 1, 1.0, "here", "another boot")) is None


def test_a_process_that_does_not_tell_counts_as_alive(watch, monkeypatch):
    def hide(pid):
        raise PermissionError("hidden")

    monkeypatch.setattr(leases, "process_birth", hide)
    assert watch.why_void(POINT, make(1, 1.0, "here", machine_identity())) is None


def test_birth_agrees_with_psutil_and_of_no_process_is_none():
    import psutil

    ticks = os.sysconf("SC_CLK_TCK")
    other = process_birth(1) / ticks - psutil.Process(1).create_time()
    own = process_birth(os.getpid()) / ticks - psutil.Process().create_time()
    assert own == pytest.approx(other, abs=0.05)
    assert process_birth(2**22 + 1) is None
    assert not machine.is_alive(2**22 + 1)
    assert machine.is_alive(os.getpid())


def test_the_heartbeat_thread_beats_notes_and_removes_its_file(tmp_path):
    heartbeat = Heartbeat(tmp_path / "b.json", 0.01, lambda: False)
    heartbeat.start()
    heartbeat.note = {"epoch": 7}
    wait_for(lambda: (read(tmp_path / "b.json") or {}).get("beat", 0) > 5)
    assert read(tmp_path / "b.json")["epoch"] == 7
    heartbeat.stop()
    assert list(tmp_path.iterdir()) == []
    assert not any(thread.name.startswith("lease-") for thread in threading.enumerate())


def test_errors_of_the_file_system_do_not_end_the_heartbeat(tmp_path, monkeypatch):
    broken, real = threading.Event(), exclusive_files.replace

    def flaky(path, content):
        if broken.is_set():
            raise OSError(5, "Input/output error")
        real(path, content)

    def is_lost():
        if broken.is_set():
            raise OSError(116, "Stale file handle")
        return False

    monkeypatch.setattr(exclusive_files, "replace", flaky)
    heartbeat = Heartbeat(tmp_path / "b.json", 0.01, is_lost)
    heartbeat.start()
    broken.set()
    wait_for(lambda: heartbeat.num_errors > 5)
    before = read(tmp_path / "b.json")["beat"]
    broken.clear()
    wait_for(lambda: read(tmp_path / "b.json")["beat"] > before)
    assert not heartbeat.lost.is_set()
    heartbeat.stop()


def test_an_event_that_this_version_cannot_read_does_not_end_the_heartbeat(tmp_path):
    def is_lost():
        raise DataError("a.0003.json has schema 2, and this version reads up to 1")

    heartbeat = Heartbeat(tmp_path / "b.json", 0.01, is_lost)
    heartbeat.start()
    wait_for(lambda: heartbeat.num_errors > 3 and (read(tmp_path / "b.json") or {}).get("beat", 0) > 3)
    assert not heartbeat.lost.is_set()
    heartbeat.stop()


def test_a_lost_lease_is_told_and_the_thread_ends(tmp_path):
    heartbeat = Heartbeat(tmp_path / "b.json", 0.01, lambda: True)
    heartbeat.start()
    assert heartbeat.lost.wait(5)
    heartbeat.stop()


def wait_for(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
