"""A pill server as a process of its own on a free port of the loopback address, ended by its pid; photos to send it."""

import http.client
import io
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
from PIL import Image

from projects.pillsnap.evaluation.open_set import NoneOfThese
from tests.fabricate.pill_model import TEMPERATURE, colours

CAREFUL = NoneOfThese("msp", slope=4.0, offset=-3.0, threshold=0.3)
"""Decides for none of these where the highest probability is below 0.59."""


class PillServer:
    """`python -m projects.pillsnap.serve`; `wait` returns once the model is loaded."""

    def __init__(self, model, *arguments):
        command = [sys.executable, "-m", "projects.pillsnap.serve", "--model", str(model), "--port", "0"]
        command += map(str, arguments)
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        self.lines, self.output = queue.Queue(), []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def wait(self, timeout_s=30.0):
        deadline = time.monotonic() + timeout_s
        while True:
            line = self.lines.get(timeout=max(0.01, deadline - time.monotonic()))
            assert line is not None, "".join(self.output)
            if found := re.search(r"pill server: http://127\.0\.0\.1:(\d+)/", line):
                self.port = int(found.group(1))
                return self

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def workers(self):
        return psutil.Process(self.process.pid).children()

    def ask(self, method, path, body=None, headers=None, timeout=20):
        """Status, headers and body of one request; JSON decoded."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        is_json = response.getheader("Content-Type", "").startswith("application/json")
        return response.status, response.headers, json.loads(content) if is_json else content

    def predict(self, photo, kind="image/jpeg"):
        return self.ask("POST", "/predict", photo, {"Content-Type": kind})

    def stall(self):
        """Stop the one worker, so that what is sent now stays; returns it, to be resumed."""
        (worker,) = self.workers
        worker.suspend()
        return worker

    def await_metrics(self, timeout_s=10.0, **values):
        """Wait until metrics have these values."""
        deadline = time.monotonic() + timeout_s
        while (found := {name: self.metric(f"pillsnap_{name}") for name in values}) != values:
            assert time.monotonic() < deadline, found
            time.sleep(0.01)

    def metric(self, name):
        """Sum of a metric over its labels."""
        text = self.ask("GET", "/metrics")[2].decode()
        found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    def stop(self, number=signal.SIGTERM, timeout_s=15.0):
        """Send a signal, wait, and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = None
        self._reader.join()
        self.process.stdout.close()
        return code

    def _read(self):
        for line in self.process.stdout:
            self.output.append(line)
            self.lines.put(line)
        self.lines.put(None)


def encoded(image, kind="JPEG", **options):
    """An image array as the bytes of a file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def plain_photo(colour, size=(512, 512), kind="JPEG", **options):
    """A photo of one colour, (R, G, B) in [0, 1]."""
    pixels = np.full((*size, 3), np.round(np.asarray(colour) * 255), np.uint8)
    return encoded(pixels, kind, **options)


def strange_colour(num_classes):
    """The colour of a grid over which the tiny model is least sure, and its highest probability there."""
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 11)] * 3), axis=-1).reshape(-1, 3)
    logits = -40 * ((grid[:, None] - colours(num_classes)) ** 2).sum(axis=2) / TEMPERATURE
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    highest = 1 / odds.sum(axis=1)
    return grid[highest.argmin()], highest.min()


def form(parts, boundary="frontier"):
    """Body and headers of a multipart form; parts are (field, filename or None, content)."""
    pieces = []
    for field, filename, content in parts:
        name = "" if filename is None else f'; filename="{filename}"'
        pieces.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"{name}\r\n\r\n'.encode())
        pieces.append(content + b"\r\n")
    pieces.append(f"--{boundary}--\r\n".encode())
    return b"".join(pieces), {"Content-Type": f"multipart/form-data; boundary={boundary}"}
