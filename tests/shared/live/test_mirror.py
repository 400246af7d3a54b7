import json

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
    with pytest.raises(MirrorError, match="keeps copies of 1 runs already"):
        Mirror(tmp_path, WHENCE | {"head": "2"})
