"""A hub as a process of its own, on a free port of the loopback address, ended by its pid."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest


class HubProcess:
    """`python -m shared.live`, started, killed and started again on the same port."""

    def __init__(self, outputs, *arguments, environment=None):
        self.outputs, self.arguments, self.port, self.process = outputs, arguments, 0, None
        self.environment = {**os.environ, **(environment or {})}
        self.environment.pop("PYTEST_CURRENT_TEST", None)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        command = [sys.executable, "-m", "shared.live", "--outputs", str(self.outputs), "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, *self.arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
        )
        line = self.process.stdout.readline()
        found = re.search(r"live page: http://127\.0\.0\.1:(\d+)/", line)
        assert found, line + self.process.stdout.read()
        self.port = int(found.group(1))
        return self

    def kill(self):
        """SIGKILL: nothing can be tidied up."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                self.kill()


@pytest.fixture
def start_hub(tmp_path):
    """Start hubs; all end with the test."""
    started = []

    def start(outputs=None, *arguments, environment=None):
        hub = HubProcess(outputs or tmp_path / "outputs", *arguments, environment=environment)
        started.append(hub)
        return hub.start()

    yield start
    for hub in started:
        hub.stop()


@pytest.fixture(scope="module")
def lasting_hub(tmp_path_factory):
    """One hub for the tests of a module that do not mind each other's runs."""
    hub = HubProcess(tmp_path_factory.mktemp("outputs")).start()
    yield hub
    hub.stop()


@pytest.fixture
def eventually():
    """Wait until a condition holds, half a minute at most."""

    def wait(condition, timeout_s=30.0):
        deadline = time.monotonic() + timeout_s
        while not (value := condition()):
            assert time.monotonic() < deadline, f"still {value!r}"
            time.sleep(0.02)
        return value

    return wait
