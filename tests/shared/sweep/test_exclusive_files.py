import errno
import os
import signal
import subprocess
import threading
import time

import pytest

from shared.sweep import exclusive_files
from shared.sweep.exclusive_files import create, is_leftover, read, remove_leftovers, replace, set_aside
from shared.sweep.machine import machine_tag

A, B = {"who": "a", "text": "ß" * 1000}, {"who": "b"}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["with links", "without links"])
def file_system(request, monkeypatch):
    """A file system that has links, and one that refuses them as FAT and some network mounts do."""
    if request.param == "without links":

        def refuse(*args, **kwargs):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    return request.param


def test_the_first_wins_and_the_second_changes_nothing(tmp_path, file_system):
    path = tmp_path / "new" / "e.json"
    assert create(path, A)
    assert not create(path, B)
    assert read(path) == A
    assert names(path.parent) == ["e.json"]


def test_of_many_threads_exactly_one_wins(tmp_path, file_system):
    wins, barrier = [], threading.Barrier(8)

    def compete(number):
        barrier.wait()
        for turn in range(20):
            if create(tmp_path / f"{turn}.json", {"who": number}):
                wins.append((f"{turn}.json", number))

    threads = [threading.Thread(target=compete, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for name, _ in wins) == sorted(f"{turn}.json" for turn in range(20))
    assert all(read(tmp_path / name) == {"who": number} for name, number in wins)
    assert len(names(tmp_path)) == 20


@pytest.mark.parametrize("number", [errno.EEXIST, errno.EIO, errno.ETIMEDOUT])
def test_a_link_whose_answer_got_lost_was_made(tmp_path, monkeypatch, number):
    link = os.link

    def lose_the_answer(source, target):
        link(source, target)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", lose_the_answer)
    assert create(tmp_path / "e.json", A)
    assert read(tmp_path / "e.json") == A
    assert names(tmp_path) == ["e.json"]


def test_another_error_of_link_is_raised_and_nothing_stays(tmp_path, monkeypatch):
    def fail(source, target):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(OSError, match="Input/output error"):
        create(tmp_path / "e.json", A)
    assert names(tmp_path) == []


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, file_system):
    def full(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        create(tmp_path / "e.json", A)
    assert names(tmp_path) == []


def test_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    done, link, fsync = [], os.link, os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (done.append("sync"), fsync(descriptor)))
    monkeypatch.setattr(os, "link", lambda source, target: (done.append("link"), link(source, target)))
    create(tmp_path / "e.json", A)
    assert done == ["sync", "link", "sync"]


def test_a_short_write_goes_on(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    assert create(tmp_path / "e.json", A)
    assert read(tmp_path / "e.json") == A


@pytest.mark.parametrize("content", [{"a": float("nan")}, {"a": [float("inf")]}, {"a": {1, 2}}])
def test_what_is_no_json_is_refused_and_nothing_stays(tmp_path, content):
    with pytest.raises(ValueError, match="only finite numbers, text, truth values, null, lists and mappings fit"):
        create(tmp_path / "e.json", content)
    assert names(tmp_path) == []


def test_every_truncation_and_foreign_content_is_damaged(tmp_path):
    path = tmp_path / "e.json"
    create(path, {"n": 12, "k": "ü"})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert read(path) is None, whole[:length]
    for other in (b"[1]\n", b"12\n", b"\0" * 40 + b"\n", b"\xff\xfe\n", whole.replace(b"\xc3\xbc", b"\xc3")):
        path.write_bytes(other)
        assert read(path) is None, other
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.json")


def test_a_damaged_file_is_set_aside_once_and_its_name_is_free(tmp_path):
    path = tmp_path / "e.json"
    path.write_bytes(b'{"who": "a')
    aside = set_aside(path)
    assert aside.name.startswith("e.json.damaged-")
    assert aside.read_bytes() == b'{"who": "a'
    assert set_aside(path) is None
    assert create(path, B)


def test_a_file_that_was_finished_meanwhile_gets_its_name_back(tmp_path):
    create(tmp_path / "e.json", A)
    assert set_aside(tmp_path / "e.json") is None
    assert names(tmp_path) == ["e.json"]
    assert read(tmp_path / "e.json") == A


def test_without_links_a_writer_whose_file_was_set_aside_has_not_won(tmp_path, monkeypatch):
    path = tmp_path / "e.json"
    fsync = os.fsync

    def taken_meanwhile(descriptor):
        if path.exists():
            path.rename(tmp_path / "aside")
        fsync(descriptor)

    monkeypatch.setattr(exclusive_files, "_link", lambda temporary, target: None)
    monkeypatch.setattr(os, "fsync", taken_meanwhile)
    assert not create(path, A)
    assert not path.exists()


def test_replace_shows_old_or_new_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "beats" / "b.json"
    replace(path, {"k": 0})
    stop, torn = threading.Event(), []

    def look():
        while not stop.is_set():
            if read(path) is None:
                torn.append(1)

    thread = threading.Thread(target=look)
    thread.start()
    for k in range(300):
        replace(path, {"k": k, "text": "x" * k})
    stop.set()
    thread.join()
    assert not torn
    assert names(path.parent) == ["b.json"]


def test_leftovers_of_killed_processes_go_and_those_of_others_stay(tmp_path):
    child = subprocess.Popen(["sleep", "60"])
    try:
        own = tmp_path / f".e.json.{machine_tag()}-{child.pid}-0123abcd.tmp"
        far = tmp_path / f".e.json.00000000-{child.pid}-0123abcd.tmp"
        for path in (own, far, tmp_path / ".other.tmp"):
            path.write_bytes(b"half")
        remove_leftovers(tmp_path)
        assert own.exists()
    finally:
        child.send_signal(signal.SIGKILL)
        time.sleep(0.05)
        assert is_leftover(own.name)  # a zombie until it is waited for
        child.wait()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted([".other.tmp", far.name])
    remove_leftovers(tmp_path / "none")
