import json
import os
import time

import pytest

from shared.live import mirror as mirror_module
from shared.live.mirror import Mirror, MirrorError

WHENCE = {"host": "far", "path": "/x/p/e/run/events.jsonl", "head": "1", "place": ["p", "e", "run"]}


def event(seq):
    return {
        "v": 1,
        "seq": seq,
        "t": 1.0,
        "run": "r",
        "kind": "warning",
        "step": 0,
        "epoch": 0,
        "data": {"sentence": "ä"},
    }


def test_a_torn_copy_goes_on_where_it_is_whole(tmp_path):
    first = Mirror(tmp_path, WHENCE)
    first.append([event(0), event(1)])
    with (first.path / "events.jsonl").open("ab") as stream:
        stream.write(b'{"v": 1, "seq": 2')  # the hub was killed here
    again = Mirror(tmp_path, WHENCE)
    assert again.path == first.path
    assert again.next_seq == 2
    again.append([event(2)])
    assert [json.loads(line)["seq"] for line in (again.path / "events.jsonl").read_bytes().splitlines()] == [0, 1, 2]


def test_another_host_has_another_copy(tmp_path):
    assert Mirror(tmp_path, WHENCE).path != Mirror(tmp_path, WHENCE | {"host": "near"}).path


def test_what_is_no_event_is_left_out(tmp_path):
    mirror = Mirror(tmp_path, WHENCE)
    mirror.append([{"seq": 0}, event(0) | {"kind": "x"}, event(0), event(True)])
    assert mirror.next_seq == 1


def test_size_and_number_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(mirror_module, "MAX_BYTES", 300)
    mirror = Mirror(tmp_path, WHENCE)
    mirror.append([event(0)])
    with pytest.raises(MirrorError, match="would exceed 300 bytes"):
        mirror.append([event(1), event(2), event(3)])
    assert mirror.next_seq == 1
    monkeypatch.setattr(mirror_module, "MAX_MIRRORS", 1)
    Mirror(tmp_path, WHENCE)
    with pytest.raises(MirrorError, match="keeps copies of 1 unfinished runs already"):
        Mirror(tmp_path, WHENCE | {"head": "2"})


def grown(root, head, age_s, *, ended):
    """A copy that was written to so long ago, with its last event."""
    mirror = Mirror(root, WHENCE | {"head": head})
    mirror.append([event(0), event(1) | ({"kind": "end"} if ended else {})])
    then = time.time() - age_s
    os.utime(mirror.path / "events.jsonl", (then, then))
    return mirror


def test_the_oldest_finished_copies_make_room(tmp_path, monkeypatch):
    going, old, newer, silent = (
        grown(tmp_path, "1", 3000, ended=False), grown(tmp_path, "2", 200, ended=True),
        grown(tmp_path, "3", 100, ended=True), grown(tmp_path, "4", 4000, ended=False),
    )  # fmt: skip
    size = (old.path / "events.jsonl").stat().st_size
    monkeypatch.setattr(mirror_module, "MAX_TOTAL_BYTES", 2 * size + 50)
    own = Mirror(tmp_path, WHENCE | {"head": "5"})
    assert [one.path.exists() for one in (going, old, newer, silent)] == [True, False, True, False]
    monkeypatch.setattr(mirror_module, "CHECK_BYTES", 1)
    own.append([event(0), event(1) | {"kind": "end"}])
    assert [one.path.exists() for one in (going, newer, own)] == [True, False, True]
    monkeypatch.setattr(mirror_module, "MAX_TOTAL_BYTES", size)
    with pytest.raises(MirrorError, match=f"copies of unfinished runs fill {size} bytes already"):
        own.append([event(2)])
    assert own.path.exists()  # its own stays


def test_the_number_of_copies_is_kept_by_the_same_rule(tmp_path, monkeypatch):
    monkeypatch.setattr(mirror_module, "MAX_MIRRORS", 2)
    first, second = grown(tmp_path, "1", 10, ended=False), grown(tmp_path, "2", 5, ended=True)
    third = Mirror(tmp_path, WHENCE | {"head": "3"})
    assert [one.path.exists() for one in (first, second, third)] == [True, False, True]
