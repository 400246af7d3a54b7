import json

from shared.live.tail import CHUNK_BYTES, MAX_LINE_BYTES, Tail


def everything(tail):
    found, more = [], True
    while more:
        events, more = tail.poll()
        found += events
    return found


def test_a_line_without_its_newline_waits(tmp_path):
    path = tmp_path / "events.jsonl"
    tail = Tail(path)
    assert tail.poll() == ([], False)  # no file yet
    path.write_bytes(b'{"seq": 0}\n{"seq"')
    assert tail.poll() == ([{"seq": 0}], False)
    assert tail.poll() == ([], False)
    with path.open("ab") as stream:
        stream.write(b": 1}\n")
    assert tail.poll() == ([{"seq": 1}], False)
    assert tail.skipped == 0


def test_what_is_no_object_is_passed_over_and_counted(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"seq": 0}\nnonsense\n\xff\xfe\x00\n[1, 2]\n\n' + b"[" * 100_000 + b'\n{"seq": 1}\n')
    tail = Tail(path)
    assert everything(tail) == [{"seq": 0}, {"seq": 1}]
    assert tail.skipped == 5


def test_a_long_line_is_passed_over_in_bounded_memory(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(
        b'{"a": "' + b"x" * (3 * CHUNK_BYTES) + b'"}\n' + b'{"b": "' + b"y" * MAX_LINE_BYTES + b'"}\n{"seq": 7}\n'
    )
    tail = Tail(path)
    assert everything(tail) == [{"seq": 7}]
    assert tail.skipped == 2


def test_a_long_file_comes_in_chunks_and_whole(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps({"seq": n, "pad": "-" * 90}) + "\n" for n in range(25_000)))
    tail = Tail(path)
    first, more = tail.poll()
    assert more
    assert len(first) < 25_000
    assert [event["seq"] for event in first + everything(tail)] == list(range(25_000))


def test_a_file_that_is_another_one_is_read_anew(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"seq": 0}\n{"seq": 1}\n')
    tail = Tail(path)
    tail.poll()
    other = tmp_path / "other"
    other.write_text('{"seq": 5}\n{"seq": 6}\n{"seq": 7}\n')
    other.replace(path)
    assert tail.poll()[0] == [{"seq": 5}, {"seq": 6}, {"seq": 7}]
    path.write_text('{"seq": 9}\n')  # shorter now
    assert tail.poll()[0] == [{"seq": 9}]
    assert tail.restarts == 2
