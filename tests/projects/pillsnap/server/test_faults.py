"""Clients and workers that misbehave: each gets its status, and the server goes on."""

import contextlib
import json
import select
import socket
import struct
import threading
import time
import zlib

import numpy as np
import psutil
import pytest

from tests.fabricate.pill_model import colours, write_tiny_model
from tests.fabricate.pill_server import encoded, form, plain_photo


@contextlib.contextmanager
def connected(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as stream:
        yield stream


def read_all(stream):
    """Everything until the server closes, and the seconds that took."""
    start, received = time.monotonic(), b""
    with contextlib.suppress(ConnectionResetError):
        while data := stream.recv(65536):
            received += data
    return received, time.monotonic() - start


def problem(received):
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


def later(function, *arguments):
    """Run in a thread; returns the thread and the list that gets the result."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function(*arguments)))
    thread.start()
    return thread, results


def eventually(condition, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def bomb(side=30_000):
    """A PNG of a few kB that would be 2.7 GB of pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


PHOTO = encoded(np.random.default_rng(0).integers(0, 256, (200, 200, 3)).astype(np.uint8))
BAD = {
    "text": (b"hello, I am no photo", 415, "not_an_image"),
    "program": (b"\x7fELF" + bytes(500), 415, "not_an_image"),
    "cut off": (PHOTO[: len(PHOTO) // 2], 422, "bad_photo"),
    "cut off after the head": (PHOTO[:300], 422, "bad_photo"),
    "bomb": (bomb(), 413, "too_large"),
    "corrupt": (b"\x89PNG\r\n\x1a\n" + bytes(300), 422, "bad_photo"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_no_sound_photo_is_refused(server, name):
    content, status, error = BAD[name]
    body, headers = form([("file", "a.jpg", content)])
    found, _, answer = server.ask("POST", "/predict", body, headers)
    assert (found, answer["error"]) == (status, error)
    assert "Traceback" not in answer["detail"]
    assert "/" not in answer["detail"]


def test_the_photos_of_a_fuzzer_never_cost_more_than_themselves(server):
    rng = np.random.default_rng(5)
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"):
        good = encoded(rng.integers(0, 256, (60, 60, 3)).astype(np.uint8), kind)
        for _ in range(6):
            bad = bytearray(good)
            for place in rng.integers(0, len(bad), 20):
                bad[place] = rng.integers(0, 256)
            status, _, answer = server.predict(bytes(bad))
            assert status in {200, 413, 415, 422}
            assert status == 200 or set(answer) == {"error", "detail"}
    assert server.predict(PHOTO)[0] == 200


def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(server):
    with connected(server) as stream:
        stream.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n")
        stream.sendall(b"Content-Length: 999999999\r\n\r\n")
        received, seconds = read_all(stream)
    assert problem(received) == (413, "too_large")
    assert seconds < 2.5


CHUNKED = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
MEGABYTE = b"100000\r\n" + bytes(0x100000) + b"\r\n"


def test_a_client_that_sends_too_much_without_saying_so_gets_its_answer(server):
    with connected(server) as stream:
        stream.sendall(CHUNKED)
        sent = 0
        while not select.select([stream], [], [], 0)[0]:
            assert sent < 40, "the server reads on and says nothing"
            stream.sendall(MEGABYTE)
            sent += 1
        received, _ = read_all(stream)
    assert sent >= 10
    assert problem(received) == (413, "too_large")


def test_a_body_that_does_not_end_is_cut_off(server):
    with connected(server) as stream:
        stream.sendall(CHUNKED)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            stream.sendall(MEGABYTE * 100)
    assert server.metric("pillsnap_pending_upload_bytes") == 0
    assert psutil.Process(server.process.pid).memory_info().rss < 300e6


def test_one_photo_of_a_form_may_not_be_larger_than_allowed(server):
    body, headers = form([("files", "a.jpg", bytes(11 * 1024 * 1024))])
    status, _, answer = server.ask("POST", "/predict/batch", body, headers)
    assert (status, answer["error"]) == (413, "too_large")


@pytest.mark.parametrize("sent", [b"POST /pre", b"POST /predict HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_a_head_that_drips_is_given_up(server, sent):
    with connected(server) as stream:
        stream.sendall(sent)
        for _ in range(2):  # bytes that keep coming do not start the clock anew
            time.sleep(0.1)
            stream.sendall(b"x")
        received, seconds = read_all(stream)
    assert problem(received) == (408, "too_slow")
    assert seconds < 1


def test_a_connection_that_says_nothing_is_closed(server):
    with connected(server) as stream:
        received, seconds = read_all(stream)
    assert received == b""
    assert seconds < 2


def test_a_body_that_drips_is_given_up(server):
    with connected(server) as stream:
        stream.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n")
        stopped = threading.Event()

        def drip():
            with contextlib.suppress(OSError):
                while not stopped.wait(0.05):
                    stream.send(b"x")

        thread, _ = later(drip)
        received, seconds = read_all(stream)
        stopped.set()
        thread.join()
    assert problem(received) == (408, "too_slow")
    assert seconds < 2
    assert server.metric("pillsnap_pending_upload_bytes") == 0


def test_what_is_no_http_is_told_so_in_json(server):
    with connected(server) as stream:
        stream.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        received, _ = read_all(stream)
    assert problem(received) == (400, "bad_request")


def test_one_connection_too_many_is_turned_away_and_the_others_are_served(server):
    with contextlib.ExitStack() as stack:
        for _ in range(19):
            stack.enter_context(connected(server))
        last = stack.enter_context(connected(server))
        extra = stack.enter_context(connected(server))
        assert problem(read_all(extra)[0]) == (503, "busy")
        last.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert read_all(last)[0].startswith(b"HTTP/1.1 200")
    eventually(lambda: connects(server))


def connects(server):
    with contextlib.suppress(OSError):
        return server.ask("GET", "/healthz")[0] == 200


def test_a_full_queue_refuses_with_the_time_to_come_back(start_server, tiny_model):
    server = start_server(tiny_model, "--workers", 1, "--queue", 2, "--max-files", 2, "--max-batch", 1).wait()
    worker = server.stall()
    threads = []
    for working, waiting in ((1, 0), (1, 1), (1, 2)):
        threads.append(later(server.predict, PHOTO))
        server.await_metrics(working_photos=working, queue_photos=waiting)
    status, headers, answer = server.predict(PHOTO)
    assert (status, answer["error"]) == (503, "queue_full")
    assert 1 <= int(headers["Retry-After"]) <= 5
    body, kind = form([("files", "a", PHOTO), ("files", "b", PHOTO)])
    assert server.ask("POST", "/predict/batch", body, kind)[0] == 503
    worker.resume()
    for thread, _ in threads:
        thread.join()
    assert [results[0][0] for _, results in threads] == [200, 200, 200]
    assert server.metric("pillsnap_rejected_total") == 2
    assert server.ask("POST", "/predict/batch", body, kind)[0] == 200


def test_a_client_that_goes_costs_no_pass_through_the_model(start_server, tiny_model):
    server = start_server(tiny_model, "--workers", 1, "--max-batch", 1).wait()
    worker = server.stall()
    first, results = later(server.predict, PHOTO)
    server.await_metrics(working_photos=1)
    request = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
    with connected(server) as stream:
        stream.sendall(request % len(PHOTO) + PHOTO)
        server.await_metrics(queue_photos=1)
    server.await_metrics(pending_upload_bytes=len(PHOTO))
    worker.resume()
    first.join()
    assert results[0][0] == 200
    assert server.predict(PHOTO)[0] == 200
    assert server.metric("pillsnap_batch_photos_sum") == 2


def test_a_photo_whose_deadline_passed_is_refused_and_not_worked_on(start_server, tiny_model):
    server = start_server(tiny_model, "--workers", 1, "--max-batch", 1, "--deadline-s", 1).wait()
    worker = server.stall()
    threads = [later(server.predict, PHOTO) for _ in range(3)]
    for thread, results in threads:
        thread.join()
        status, headers, answer = results[0]
        assert (status, answer["error"], headers["Retry-After"]) == (503, "deadline", "1")
    assert server.metric("pillsnap_rejected_total") == 3
    worker.resume()
    server.await_metrics(working_photos=0)
    assert server.metric("pillsnap_batch_photos_sum") == 1  # the one that the worker had already


def test_a_killed_worker_is_replaced_and_its_photo_answered(start_server, tiny_model):
    server = start_server(tiny_model, "--workers", 1).wait()
    worker = server.stall()
    thread, results = later(server.predict, plain_photo(colours(5)[3]))
    server.await_metrics(working_photos=1)
    worker.kill()
    thread.join()
    assert results[0][0] == 200
    assert results[0][2]["candidates"][0]["kcode"] == "K-000003"
    assert server.metric("pillsnap_worker_restarts_total") == 1
    assert [other.pid for other in server.workers] != [worker.pid]


def test_an_idle_worker_that_is_killed_is_replaced_at_once(start_server, tiny_model):
    server = start_server(tiny_model, "--workers", 2).wait()
    eventually(lambda: server.ask("GET", "/readyz")[2].get("workers") == 2)
    server.workers[0].kill()
    eventually(lambda: server.metric("pillsnap_worker_restarts_total") == 1)
    assert server.predict(PHOTO)[0] == 200  # by the other one
    eventually(lambda: server.ask("GET", "/readyz")[2].get("workers") == 2)


def test_a_worker_that_hangs_is_killed_and_its_photo_answered_by_the_next(start_server, tiny_model):
    server = start_server(tiny_model, "--workers", 1, "--hang-s", 1).wait()
    stopped = server.stall()
    assert server.predict(PHOTO)[0] == 200
    assert not stopped.is_running()


def test_a_photo_on_which_the_model_fails_costs_its_neighbours_nothing(start_server, tmp_path):
    server = start_server(write_tiny_model(tmp_path, crash_on_black=True), "--workers", 1).wait()
    good = plain_photo(colours(5)[1])
    body, headers = form([("files", "a", good), ("files", "b", plain_photo((0, 0, 0))), ("files", "c", good)])
    status, _, answer = server.ask("POST", "/predict/batch", body, headers)
    assert status == 200
    assert [item["status"] for item in answer["answers"]] == [200, 500, 200]
    assert answer["answers"][1]["problem"]["error"] == "model_failed"
    assert server.metric("pillsnap_worker_restarts_total") == 0
