"""The server as a process: how it starts, what it loads, and how it ends."""

import contextlib
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from projects.pillsnap import serve
from projects.pillsnap.onnx_export.certificate import certificate_path
from tests.fabricate.pill_model import write_tiny_model
from tests.fabricate.pill_server import PillServer, plain_photo

GREY = plain_photo((0.5, 0.5, 0.5), (64, 64))
HEAVY = ("torch", "lightning", "pytorch_lightning", "hydra", "timm", "albumentations", "onnx", "pandas", "sklearn")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def start():
    """Start servers that end with the test."""
    started = []

    def start_(*arguments):
        started.append(PillServer(*arguments))
        return started[-1]

    yield start_
    for server in started:
        server.stop()


def test_neither_server_nor_worker_loads_torch_or_lightning(start, model):
    server = start(model).wait()
    assert server.predict(GREY)[0] == 200
    for process in (psutil.Process(server.process.pid), *server.workers):
        libraries = {Path(entry.path).name for entry in process.memory_maps()}
        assert libraries, "the system tells no libraries"
        assert not [name for name in libraries if name.startswith(("libtorch", "libc10"))]
    code = "import sys\nimport projects.pillsnap.serve as s, projects.pillsnap.server.worker\n"
    code += "from pathlib import Path\nfrom projects.pillsnap.server.service import Service\n"
    code += f"s.create_app(Service(s.Settings(Path('x'))))\nprint([n for n in {HEAVY} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_sigterm_answers_what_was_accepted_takes_nothing_more_and_exits_with_0(start, model):
    server = start(model, "--workers", 1, "--max-batch", 1).wait()
    worker = server.stall()
    results = []
    threads = [threading.Thread(target=lambda: results.append(server.predict(GREY))) for _ in range(3)]
    for thread in threads:
        thread.start()
    server.await_metrics(working_photos=1, queue_photos=2)
    server.process.terminate()
    wait_until_closed(server)
    worker.resume()
    for thread in threads:
        thread.join()
    assert [status for status, _, _ in results] == [200, 200, 200]
    assert server.process.wait(15) == 0
    assert not worker.is_running()


def wait_until_closed(server):
    """Wait until the server takes no new connections."""
    deadline = time.monotonic() + 5
    with contextlib.suppress(OSError):
        while True:
            server.ask("GET", "/healthz")
            assert time.monotonic() < deadline


def test_what_is_not_done_in_the_time_to_end_is_refused_and_the_exit_code_is_0(start, model):
    server = start(model, "--workers", 1, "--max-batch", 1, "--drain-s", 1).wait()
    server.stall()
    results = []
    thread = threading.Thread(target=lambda: results.append(server.predict(GREY)))
    thread.start()
    server.await_metrics(working_photos=1)
    server.process.terminate()
    wait_until_closed(server)
    server.process.terminate()  # once more, while it waits, changes nothing
    assert server.process.wait(15) == 0
    thread.join()
    assert results[0][0] == 503
    assert results[0][2]["error"] == "draining"


def test_workers_end_with_a_server_that_is_killed(start, model):
    server = start(model).wait()
    workers = server.workers
    assert workers
    server.process.kill()
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert alive == []


def vanish(model):
    """The whole export is deleted."""
    model.unlink()
    certificate_path(model).unlink()


def replace(model):
    """An export in the same place, as a later training run makes it."""
    write_tiny_model(model.parent, version="tiny-2")


def break_it(model):
    """Caught in the middle of an export: the certificate is of other bytes."""
    model.write_bytes(b"half")


def turn_link(model):
    """`latest` points to another run."""
    write_tiny_model(model.parents[1] / "other", version="tiny-2")
    model.parent.unlink()
    model.parent.symlink_to("other")


def test_what_happens_to_the_file_does_not_disturb_a_running_server(start, tmp_path):
    write_tiny_model(tmp_path / "run")
    (tmp_path / "latest").symlink_to("run")
    model = tmp_path / "latest" / "model.onnx"
    server = start(model, "--workers", 1).wait()
    before = server.predict(GREY)[2]
    for restarts, happens in enumerate((replace, break_it, vanish, turn_link), 1):
        happens(model)
        server.workers[0].kill()
        await_restarts(server, restarts)
        status, _, after = server.predict(GREY)
        assert status == 200
        assert after["model"] == {"version": "tiny-1", "variant": "fp32"}
        assert after["candidates"] == before["candidates"]
    assert server.stop() == 0


def await_restarts(server, count):
    deadline = time.monotonic() + 20
    while server.metric("pillsnap_worker_restarts_total") != count or server.metric("pillsnap_workers_alive") != 1:
        assert time.monotonic() < deadline, "".join(server.output)
        time.sleep(0.02)


def test_no_copy_of_the_model_is_left_behind(start, monkeypatch, model, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    server = start(model, "--workers", 1).wait()
    assert list(tmp_path.glob("pillsnap-*")) == []  # onnxruntime keeps a file of its own there
    assert server.stop() == 0
    assert list(tmp_path.glob("pillsnap-*")) == []


def test_a_missing_model_is_refused_in_one_sentence(capfd, tmp_path):
    assert serve.main(["--model", str(tmp_path / "none.onnx"), "--port", "0"]) == 1
    expected = f"error: model file {tmp_path / 'none.onnx'} cannot be read: No such file or directory"
    assert capfd.readouterr().err.splitlines()[-1] == expected


def test_workers_that_cannot_start_end_the_server(monkeypatch, capfd, model):
    monkeypatch.setattr("projects.pillsnap.server.workers.COMMAND", (sys.executable, "-c", "import sys; sys.exit(3)"))
    monkeypatch.setattr("projects.pillsnap.server.workers.PAUSE_S", 0.01)
    assert serve.main(["--model", str(model), "--port", "0"]) == 1
    assert "3 workers in a row did not start" in capfd.readouterr().err


def test_a_model_without_its_certificate_is_refused_in_one_sentence(capfd, tmp_path):
    model = write_tiny_model(tmp_path)
    certificate_path(model).unlink()
    assert serve.main(["--model", str(model), "--port", "0"]) == 1
    told = capfd.readouterr().err.splitlines()[-1]
    assert told.startswith(f"error: {model} has no certificate (model.certificate.json is missing); ")


def test_a_model_that_is_not_the_certified_one_is_refused_by_its_own_name(capfd, tmp_path):
    model = write_tiny_model(tmp_path)
    model.write_bytes(model.read_bytes() + b"x")
    assert serve.main(["--model", str(model), "--port", "0"]) == 1
    assert capfd.readouterr().err.splitlines()[-1].startswith(f"error: {model} is not the file that was certified: ")


def test_a_port_that_is_taken_is_named(capfd, model):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert serve.main(["--model", str(model), "--port", str(port)]) == 2
    assert f"port {port} of 127.0.0.1 cannot be served" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "0"], "--workers is 0, allowed: a number from 1 on"),
        (["--deadline-s", "0"], "--deadline-s is 0.0, allowed: a number from 0.01 on"),
        (["--header-s", "nan"], "--header-s is nan"),
        (["--queue", "4"], "--max-files is 16, allowed: at most --queue, which is 4"),
    ],
)
def test_a_wrong_option_is_named(capfd, model, options, message):
    assert serve.main(["--model", str(model), "--port", "0", *options]) == 2
    assert message in capfd.readouterr().err


def test_an_address_that_others_can_reach_is_warned_about(monkeypatch, capfd, model):
    seen = []
    monkeypatch.setattr(serve, "serve", seen.append)
    assert serve.main(["--model", str(model), "--host", "0.0.0.0", "--name", "pills.example"]) == 0
    assert seen[0].host == "0.0.0.0"
    assert seen[0].names == ("pills.example",)
    assert "0.0.0.0 can be reached by others" in capfd.readouterr().err
    serve.main(["--model", str(model)])
    assert capfd.readouterr().err == ""
