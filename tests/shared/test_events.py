import json
import threading

from shared.events import EventWriter, read_events


def test_numbers_run_on_over_a_resume_and_a_torn_line_is_cut_off(tmp_path):
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path, "r")
    writer.write("start", 0, 0)
    writer.write("epoch", 10, 0, loss=1.0)
    with path.open("a") as stream:
        stream.write('{"v": 1, "seq": 2, "t"')  # killed here
    again = EventWriter(path, "r")
    again.write("start", 10, 1)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["seq"] for line in lines] == [0, 1, 2]
    assert set(lines[0]) == {"v", "seq", "t", "run", "kind", "step", "epoch", "data"}


def test_events_past_a_later_start_are_superseded(tmp_path):
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path, "r")
    for kind, step in (("start", 0), ("epoch", 10), ("epoch", 20), ("start", 10), ("epoch", 20)):
        writer.write(kind, step, step // 10)
    kept = read_events(path)
    assert [(event["kind"], event["step"]) for event in kept] == [
        ("start", 0),
        ("epoch", 10),
        ("start", 10),
        ("epoch", 20),
    ]
    assert kept[-1]["seq"] == 4


def test_step_events_are_due_ten_times_a_second(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("shared.events.time.time", lambda: now[0])
    writer = EventWriter(tmp_path / "e.jsonl", "r")
    written = 0
    for _ in range(200):  # two seconds of 10 ms steps
        now[0] += 0.01
        if writer.step_is_due():
            writer.write("step", 0, 0)
            written += 1
    assert 18 <= written <= 20


def test_listeners_hear_of_an_event_when_it_is_on_disk(tmp_path):
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path, "r")
    heard = []
    writer.subscribe(lambda seq, line: heard.append((seq, line, path.read_text().endswith(line + "\n"))))
    writer.write("start", 0, 0)
    writer.write("warning", 0, 0, sentence="ä")
    assert [seq for seq, _, _ in heard] == [0, 1]
    assert all(on_disk for _, _, on_disk in heard)
    assert json.loads(heard[1][1])["data"] == {"sentence": "ä"}


def test_threads_that_write_at_once_leave_no_gap(tmp_path):
    writer = EventWriter(tmp_path / "events.jsonl", "r")
    heard = []
    writer.subscribe(lambda seq, line: heard.append(seq))
    threads = [threading.Thread(target=lambda: [writer.write("heartbeat", 0, 0) for _ in range(300)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event["seq"] for event in read_events(writer.path)] == heard == list(range(1200))


def test_the_end_carries_what_callbacks_have_left_for_it(tmp_path):
    writer = EventWriter(tmp_path / "events.jsonl", "r")
    writer.closing["cost"] = {"hook_s": 0.5}
    writer.write("epoch", 0, 0)
    writer.write("end", 0, 0, state="done")
    assert [event["data"] for event in read_events(writer.path)] == [{}, {"state": "done", "cost": {"hook_s": 0.5}}]


def test_a_line_separator_in_a_sentence_is_no_end_of_a_line(tmp_path):
    writer = EventWriter(tmp_path / "events.jsonl", "r")
    writer.write("warning", 0, 0, sentence="a\u2028b\x85c")
    assert read_events(writer.path)[0]["data"]["sentence"] == "a\u2028b\x85c"
