"""The sending side, against a real hub and against peers that are no good."""

import json
import socket
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.frames import Close
from websockets.sync.client import ClientConnection, connect

from shared.events import EventWriter
from shared.live import push as push_module
from shared.live.push import Pusher, Target

TOKEN = "correct horse battery staple"


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
    """Of the whole lines; the last one may be half written yet."""
    content = path.read_bytes() if path.exists() else b""
    return [json.loads(line)["seq"] for line in content.rpartition(b"\n")[0].splitlines()]


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
    eventually(lambda: pusher.errors >= 1 and not live_threads())
    write(pusher, 10)
    assert not live_threads()
    assert capfd.readouterr().err.count("refuses this run: the token is missing or wrong") == 1
    sentences = [json.loads(line)["data"]["sentence"] for line in pusher.events.path.read_text().splitlines()]
    assert sum("refuses this run" in sentence for sentence in sentences) == 1


def test_the_right_token_opens_and_is_never_sent(start_hub, make_pusher, eventually, monkeypatch):
    said = []
    send = ClientConnection.send
    monkeypatch.setattr(ClientConnection, "send", lambda link, text: (said.append(text), send(link, text)))
    hub = start_hub(None, environment={"SWEETSPOT_LIVE_TOKEN": TOKEN})
    pusher = make_pusher(hub.url, token=TOKEN)
    pusher.begin()
    write(pusher, 3)
    eventually(lambda: copied(hub, pusher) == [0, 1, 2])
    assert len(said) >= 3
    assert TOKEN not in "".join(said)


def test_a_hub_that_does_not_know_the_token_gets_nothing(lasting_hub, make_pusher, eventually, capfd):
    pusher = make_pusher(lasting_hub.url, token=TOKEN)
    pusher.begin()
    write(pusher, 3)
    eventually(lambda: pusher.errors >= 1 and not live_threads())
    assert "refuses this run: it does not know this run's token" in capfd.readouterr().err
    assert copied(lasting_hub, pusher) is None


def test_another_users_program_gets_nothing(lasting_hub, make_pusher, eventually, capfd, monkeypatch):
    monkeypatch.setattr(push_module, "foreign_uid", lambda port: 4711)
    pusher = make_pusher(lasting_hub.url)
    pusher.begin()
    write(pusher, 3)
    eventually(lambda: pusher.errors >= 1 and not live_threads())
    assert "it belongs to another user (uid 4711); take another port, or a token" in capfd.readouterr().err
    assert copied(lasting_hub, pusher) is None


@pytest.mark.parametrize("code", [4403, 4413])
def test_a_hub_that_refuses_is_not_asked_again(make_pusher, eventually, capfd, monkeypatch, code):
    asked = []

    class Refused:
        def __init__(self, events, target):
            asked.append(1)
            raise ConnectionClosedError(Close(code, "no room\x1b[2J"), None)

    monkeypatch.setattr(push_module.launch, "hub_answers", lambda url, timeout_s: True)
    monkeypatch.setattr(push_module, "_Link", Refused)
    monkeypatch.setattr(push_module, "RETRY_S", (0.05,))
    pusher = make_pusher("http://127.0.0.1:9")
    pusher.begin()
    eventually(lambda: pusher.errors >= 1 and not live_threads())
    write(pusher, 5)
    pusher.leave()
    time.sleep(0.3)
    assert asked == [1]
    assert "refuses this run: no room[2J; the run's own files are complete" in capfd.readouterr().err


def test_an_event_written_while_the_thread_ends_is_sent(lasting_hub, make_pusher, eventually, monkeypatch):
    hub = lasting_hub
    pusher = make_pusher(hub.url)
    deciding = threading.Event()
    is_over = pusher._is_over

    def slowly():
        over = is_over()
        if over:
            deciding.set()
            time.sleep(0.5)
        return over

    pusher.begin()
    write(pusher, 3)
    eventually(lambda: copied(hub, pusher) == [0, 1, 2])
    monkeypatch.setattr(pusher, "_is_over", slowly)
    pusher.release()
    assert deciding.wait(10)
    pusher.events.write("end", 0, 0, state="done")  # nothing comes after it
    eventually(lambda: copied(hub, pusher) == [0, 1, 2, 3])
    eventually(lambda: not live_threads())


def test_what_no_hub_has_is_offered_once_more_at_the_end(start_hub, make_pusher, monkeypatch):
    monkeypatch.setattr(
        push_module, "LEAVE_S", 20.0
    )  # the machine may be busy; nothing is waited for that is not needed
    hub = start_hub()
    hub.kill()
    pusher = make_pusher(hub.url)
    write(pusher, 3)
    pusher.leave()
    assert copied(hub, pusher) is None
    hub.start()
    pusher.leave()
    assert copied(hub, pusher) == [0, 1, 2]


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
        link.send(json.dumps({"pad": "x" * (2 << 20)}))
        with pytest.raises(ConnectionClosed) as closed:
            all(iter(lambda: link.recv(timeout=10), None))
    assert closed.value.rcvd.code == 1009
