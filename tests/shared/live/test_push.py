"""The sending side, against a real hub and against peers that are no good."""

import json
import socket
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from shared.events import EventWriter
from shared.live import push as push_module
from shared.live.push import Pusher, Target


@pytest.fixture
def make_pusher(tmp_path):
    """Pushers of one run; all are ended with the test."""
    made = []

    def make(url, *, token=None, queue_size=1000, folder=tmp_path / "far" / "p" / "e" / "run"):
        folder.mkdir(parents=True, exist_ok=True)
        events = EventWriter(folder / "events.jsonl", "run")
        pusher = Pusher(events, Target(url, token, False, tmp_path / "far"), queue_size)
        events.subscribe(pusher.listen)
        made.append(pusher)
        return pusher

    yield make
    for pusher in made:
        pusher.leave()


def seqs(path):
    return [json.loads(line)["seq"] for line in path.read_bytes().splitlines()] if path.exists() else []


def copied(hub, pusher):
    """Numbers of the events in the hub's copy of a run; None where it has none."""
    with pusher.events.path.open("rb") as stream:
        first = stream.readline()
    for path in (hub.outputs / ".live").glob("*/events.jsonl"):
        if path.read_bytes().startswith(first):
            return seqs(path)
    return None


def write(pusher, number):
    for _ in range(number):
        pusher.events.write("warning", 0, 0, sentence="text " * 20)


def test_everything_arrives_though_the_queue_holds_ten(lasting_hub, make_pusher, eventually):
    hub = lasting_hub
    pusher = make_pusher(hub.url, queue_size=10)
    pusher.begin()
    write(pusher, 3000)
    assert pusher.dropped > 0
    eventually(lambda: copied(hub, pusher) == list(range(3000)))


def test_a_hub_killed_and_started_again_lacks_nothing(start_hub, make_pusher, eventually):
    hub = start_hub()
    pusher = make_pusher(hub.url)
    pusher.begin()
    write(pusher, 500)
    eventually(lambda: pusher.connected)
    hub.kill()
    write(pusher, 500)
    hub.start()
    write(pusher, 500)
    eventually(lambda: copied(hub, pusher) == list(range(1500)))


def test_a_run_below_the_hubs_folder_is_not_copied(lasting_hub, make_pusher, eventually):
    hub = lasting_hub
    pusher = make_pusher(hub.url, folder=hub.outputs / "p" / "e" / "run")
    write(pusher, 5)
    pusher.begin()
    eventually(lambda: pusher.connected)
    write(pusher, 5)
    time.sleep(0.3)
    assert pusher.connected
    assert copied(hub, pusher) is None


def test_a_wrong_token_is_said_once_and_ends_the_thread(start_hub, make_pusher, eventually, capfd):
    hub = start_hub(None, environment={"SWEETSPOT_LIVE_TOKEN": "correct horse battery staple"})
    pusher = make_pusher(hub.url, token="wrong")
    pusher.begin()
    write(pusher, 1)
    eventually(lambda: pusher.errors == 1 and not live_threads())
    write(pusher, 10)
    assert not live_threads()
    assert capfd.readouterr().err.count("refuses this run's token") == 1


def live_threads():
    return [thread for thread in threading.enumerate() if thread.name == "live-push"]


def test_after_the_fit_the_thread_ends_by_itself_and_comes_back_for_an_event(lasting_hub, make_pusher, eventually):
    hub = lasting_hub
    pusher = make_pusher(hub.url)
    pusher.begin()
    write(pusher, 3)
    pusher.release()
    eventually(lambda: not live_threads())
    assert copied(hub, pusher) == [0, 1, 2]
    pusher.events.write("end", 0, 0, state="done")
    pusher.leave()
    assert not live_threads()
    assert copied(hub, pusher) == [0, 1, 2, 3]


def test_without_a_hub_the_thread_tries_again_and_leaves_at_once(make_pusher, eventually):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    pusher = make_pusher(f"http://127.0.0.1:{port}")
    pusher.begin()
    write(pusher, 1)
    eventually(lambda: pusher.errors >= 2)
    began = time.monotonic()
    pusher.leave()
    assert time.monotonic() - began < 1
    assert not live_threads()


@pytest.mark.parametrize("manner", ["accepts and never reads", "closes at once", "speaks nonsense"])
def test_a_bad_peer_holds_nobody_up(make_pusher, eventually, monkeypatch, manner):
    monkeypatch.setattr(push_module, "OPEN_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        accepted = []

        def peer():
            while True:
                try:
                    link, _ = listener.accept()
                except OSError:
                    return
                accepted.append(link)
                if manner == "closes at once":
                    link.close()
                elif manner == "speaks nonsense":
                    link.sendall(b"\x00\xff" * 5000)

        thread = threading.Thread(target=peer)
        thread.start()
        pusher = make_pusher(f"http://127.0.0.1:{listener.getsockname()[1]}")
        pusher.begin()
        began = time.perf_counter()
        write(pusher, 2000)
        assert time.perf_counter() - began < 2  # the disk alone
        assert pusher.hook_s < 0.2
        eventually(lambda: pusher.errors >= 1)
        pusher.leave()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for link in accepted:
            link.close()
    assert seqs(pusher.events.path) == list(range(2000))


def test_a_silent_fit_says_that_it_is_alive(make_pusher, eventually, monkeypatch):
    monkeypatch.setattr(push_module, "HEARTBEAT_S", 0.2)
    pusher = make_pusher("http://127.0.0.1:9")
    write(pusher, 1)
    pusher.begin()
    eventually(lambda: len(seqs(pusher.events.path)) >= 3)
    pusher.leave()
    kinds = [json.loads(line)["kind"] for line in pusher.events.path.read_text().splitlines()]
    assert kinds[0] == "warning"
    assert set(kinds[1:]) == {"heartbeat"}
    assert seqs(pusher.events.path) == list(range(len(kinds)))


def test_a_line_too_long_for_the_hub_keeps_its_number(lasting_hub, make_pusher, eventually):
    hub = lasting_hub
    pusher = make_pusher(hub.url)
    pusher.begin()
    for sentence in ("short", "x" * 400_000, "short"):
        pusher.events.write("warning", 0, 0, sentence=sentence)
    eventually(lambda: copied(hub, pusher) == [0, 1, 2])


@pytest.mark.parametrize("path", ["/view", "/push"])
def test_a_message_above_a_mebibyte_ends_the_connection(lasting_hub, path):
    with connect(lasting_hub.url.replace("http", "ws") + path, proxy=None) as link:
        link.send(json.dumps({"type": "hello", "pad": "x" * (2 << 20)}))
        with pytest.raises(ConnectionClosed) as closed:
            all(iter(lambda: link.recv(timeout=10), None))
    assert closed.value.rcvd.code == 1009
