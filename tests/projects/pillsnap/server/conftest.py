import pytest

from tests.fabricate.pill_model import write_tiny_model
from tests.fabricate.pill_server import CAREFUL, PillServer

STRICT = ("--header-s", 0.4, "--body-s", 3, "--grace-s", 0.4, "--min-rate", 100_000, "--max-connections", 20)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"), none_of_these=CAREFUL)


@pytest.fixture(scope="module")
def server(tiny_model):
    """A server with short limits, for the tests of a module; none of them may end it or a worker of it."""
    server = PillServer(tiny_model, *STRICT).wait()
    workers = [worker.pid for worker in server.workers]
    yield server
    assert [worker.pid for worker in server.workers] == workers, "".join(server.output)
    assert server.stop() == 0
    assert "Traceback" not in "".join(server.output)


@pytest.fixture
def start_server():
    """Start servers that end with the test."""
    started = []

    def start(model, *arguments):
        started.append(PillServer(model, *arguments))
        return started[-1]

    yield start
    for server in started:
        server.stop()
