"""The hub's application, through starlette's test client."""

import json

import pytest
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from shared.live import hub as hub_module
from shared.live.hub import STATIC, create_app
from shared.live.security import Access
from shared.live.viewer import MAX_UNCONFIRMED
from tests.fabricate.live_run import LiveRun

TOKEN = "correct horse battery staple"
OWN = {"host": "127.0.0.1:8600"}


@pytest.fixture
def outputs(tmp_path):
    run = LiveRun(tmp_path / "outputs" / "p" / "e" / "a")
    run.start()
    run.train(2)
    return tmp_path / "outputs"


@pytest.fixture
def client(outputs):
    with TestClient(create_app(outputs, Access("127.0.0.1", None)), base_url="http://127.0.0.1:8600") as client:
        yield client


class Viewer:
    """A viewer that confirms what it reads, as the page does."""

    def __init__(self, socket, token=None):
        self.socket = socket
        socket.send_json({"type": "hello", "token": token, "select": []})
        assert socket.receive_json()["type"] == "welcome"

    def until(self, kind):
        while True:
            message = self.socket.receive_json()
            self.socket.send_json({"type": "ack"})
            if message["type"] == kind:
                return message

    def select(self, *ids):
        self.socket.send_json({"type": "select", "select": list(ids)})


def test_a_viewer_gets_the_list_then_the_history_then_what_comes(client, outputs):
    with client.websocket_connect("/view", headers=OWN) as socket:
        viewer = Viewer(socket)
        (row,) = viewer.until("runs")["runs"]
        assert row["state"] == "running"
        viewer.select(row["id"])
        (first,) = viewer.until("frame")["runs"]
        assert first["steps"]["count"] == 40
        assert first["since"] == 0
        run = LiveRun(outputs / "p" / "e" / "a")
        run.step, run.epoch = 40, 2
        run.train_step()
        (second,) = viewer.until("frame")["runs"]
        assert second["steps"]["from"] == 40
        assert [line[0] for line in second["steps"]["rows"]] == [41]
        assert "facts" not in second


def test_a_viewer_that_confirms_nothing_gets_no_more(client, outputs):
    with client.websocket_connect("/view", headers=OWN) as socket:
        socket.send_json({"type": "hello", "select": [client.app.state.hub.store.rows()[1][0]["id"]]})
        kinds = [socket.receive_json()["type"] for _ in range(1 + MAX_UNCONFIRMED - 1)]
        assert kinds == ["welcome", "runs", "frame"]
        run = LiveRun(outputs / "p" / "e" / "a")
        run.step, run.epoch = 40, 2
        for _ in range(30):
            run.train_step()
        steps = socket.receive_json()["runs"][0]["steps"]  # the last that it may have
        for _ in range(3):
            socket.send_json({"type": "ack"})
        while steps["count"] < 70:  # everything in the end, in fewer frames
            message = socket.receive_json()
            socket.send_json({"type": "ack"})
            steps = message["runs"][0]["steps"] if message["type"] == "frame" else steps


@pytest.mark.parametrize("path", ["/view", "/push"])
@pytest.mark.parametrize(
    "headers", [{"host": "evil.example"}, {**OWN, "origin": "http://evil.example"}, {**OWN, "origin": "null"}]
)
def test_another_host_or_origin_is_refused_before_the_connection_is_made(client, path, headers):
    with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect(path, headers=headers):
        pass
    assert refused.value.code == 4403


def test_own_origin_is_served(client):
    with client.websocket_connect("/view", headers={**OWN, "origin": "http://127.0.0.1:8600"}) as socket:
        Viewer(socket).until("runs")


@pytest.mark.parametrize("hello", ["{}", '{"token": "wrong"}', '{"token": null}', '{"token": 7, "proof": 7}', "[]"])
@pytest.mark.parametrize("path", ["/view", "/push"])
def test_a_wrong_token_sees_nothing(outputs, path, hello):
    with (
        TestClient(create_app(outputs, Access("0.0.0.0", TOKEN)), base_url="http://127.0.0.1:8600") as client,
        client.websocket_connect(path, headers=OWN) as socket,
    ):
        if path == "/push":
            assert len(socket.receive_json()["nonce"]) == 32
        socket.send_text(hello)
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
        assert closed.value.code == 4401


def test_the_token_opens(outputs):
    with (
        TestClient(create_app(outputs, Access("0.0.0.0", TOKEN)), base_url="http://127.0.0.1:8600") as client,
        client.websocket_connect("/view", headers=OWN) as socket,
    ):
        assert Viewer(socket, TOKEN).until("runs")["runs"]


@pytest.mark.parametrize(
    "text", ["", "nonsense", "[" * 100_000, '{"select": 7}', '{"select": [{}, 7, null, "x"]}', '"x"']
)
def test_a_strange_viewer_harms_nobody(client, text):
    with client.websocket_connect("/view", headers=OWN) as socket:
        Viewer(socket)
        socket.send_text(text)
    with client.websocket_connect("/view", headers=OWN) as socket:
        assert Viewer(socket).until("runs")["runs"]


def test_a_viewer_that_floods_is_let_go(client):
    with client.websocket_connect("/view", headers=OWN) as socket:
        Viewer(socket)
        for _ in range(500):
            socket.send_text("{}")
        with pytest.raises(WebSocketDisconnect):
            all(iter(socket.receive_text, None))


def test_the_number_of_viewers_is_bounded(client, monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_VIEWERS", 1)
    with client.websocket_connect("/view", headers=OWN) as first:
        Viewer(first)
        with client.websocket_connect("/view", headers=OWN) as second:
            second.send_json({"type": "hello"})
            with pytest.raises(WebSocketDisconnect) as closed:
                second.receive_text()
            assert closed.value.code == 4429


def test_every_answer_forbids_foreign_scripts(client):
    for path in ("/", "/app.js", "/nothing-here", "/health"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"


def test_a_malformed_origin_is_refused_and_no_error(client):
    assert client.get("/health", headers={"origin": "http://["}).status_code == 403


def test_http_from_another_host_or_origin_is_refused(client):
    assert client.get("/", headers={"host": "evil.example"}).status_code == 403
    assert client.post("/", headers={"origin": "http://evil.example"}).status_code == 403
    assert client.post("/").status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "/../hub.py",
        "/%2e%2e/hub.py",
        "/..%2fhub.py",
        "//etc/passwd",
        "/static/../../hub.py",
        "/vendor/..%5c..%5chub.py",
    ],
)
def test_only_the_packages_own_files_are_served(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert b"WebSocket" not in answer.content


def test_every_file_of_the_page_is_served_as_what_it_is(client):
    kinds = {
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".css": "text/css",
        ".html": "text/html",
        ".svg": "image/svg+xml",
        ".woff2": "font/woff2",
    }
    files = [path for path in STATIC.rglob("*") if path.suffix in kinds]
    assert len(files) > 30
    for path in files:
        answer = client.get("/" + path.relative_to(STATIC).as_posix())
        assert answer.status_code == 200, path
        assert answer.headers["content-type"].split(";")[0] == kinds[path.suffix], path


def test_the_page_never_makes_markup_of_data():
    for path in STATIC.glob("*.js"):
        text = path.read_text(encoding="utf-8")
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert word not in text, f"{path.name} uses {word}"


def push(client, **hello):
    return client.websocket_connect("/push", headers=OWN), {
        "host": "far",
        "path": "/x/outputs/p/e/run/events.jsonl",
        "head": "1",
        "place": ["p", "e", "run"],
        **hello,
    }


def greet(socket, hello):
    """As a run does that has no token."""
    assert socket.receive_json()["nonce"]
    socket.send_json({"nonce": "0", "proof": None})
    assert socket.receive_json() == {"proof": None}
    socket.send_json(hello)


def lines(*seqs):
    return "\n".join(
        json.dumps(
            {
                "v": 1,
                "seq": seq,
                "t": 1.0 + seq,
                "run": "r",
                "kind": "step",
                "step": seq,
                "epoch": 0,
                "data": {"loss": 1.0},
            }
        )
        for seq in seqs
    )


def test_a_run_elsewhere_is_copied_without_gaps_and_stays(client, outputs):
    connection, hello = push(client)
    with connection as socket:
        greet(socket, hello)
        assert socket.receive_json() == {"have": 0, "visible": False}
        for text, have in (
            (lines(0, 1), 2),
            (lines(1, 2), 3),
            (lines(5, 6), 3),
            ("nonsense\n[]", 3),
            (lines(3, 4, 5), 6),
        ):
            socket.send_text(text)
            assert socket.receive_json() == {"have": have, "visible": False}
    connection, hello = push(client)
    with connection as socket:  # it comes back
        greet(socket, hello)
        assert socket.receive_json() == {"have": 6, "visible": False}
    (copy,) = (outputs / ".live").glob("*/events.jsonl")
    assert [json.loads(line)["seq"] for line in copy.read_text().splitlines()] == list(range(6))
    with client.websocket_connect("/view", headers=OWN) as socket:
        viewer = Viewer(socket)
        rows = viewer.until("runs")["runs"]
        while len(rows) < 2:
            rows = viewer.until("runs")["runs"]
        (row,) = [row for row in rows if row["host"]]
        assert (row["host"], row["project"], row["experiment"], row["name"]) == ("far", "p", "e", "run")


def test_a_path_that_a_run_sends_leads_nowhere_else(client, outputs):
    for path in (
        "/etc/passwd",
        "../../x/events.jsonl",
        str(outputs / ".." / "x" / "events.jsonl"),
        "\x00",
        "a" * 10_000,
        7,
    ):
        connection, hello = push(client, path=path, host="../..", head="../../..")
        with connection as socket:
            greet(socket, hello)
            assert socket.receive_json()["visible"] is False
    assert {path.name for path in outputs.parent.iterdir()} == {"outputs"}
    assert all(len(path.name) == 16 for path in (outputs / ".live").iterdir())
