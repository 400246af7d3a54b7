"""The pill server under load on the loopback address: latency, throughput, memory, and what overload leaves of it.

Three measurements, each against fresh servers, with the clients in a process of their own:
one at a time   the same server with one worker, batches of one, and one client that sends the next photo when it has
                the answer: decoding, model and HTTP in sequence
saturation      as many clients as the queue takes, so that hardly any photo is refused: the most the server can do
overload        many clients at once, each of which honours Retry-After; its goodput is compared with saturation

Each is compared with its target. The exit code is 1 if a request got another status than 200 or 503, or no answer.
Without --model a network of random weights at 128 px serves.
"""

import argparse
import asyncio
import io
import json
import multiprocessing
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from bench.pill_convnet import write_convnet
from bench.record import Record, run_benchmark

NUM_PHOTOS = 16
WARM_UP_S = 1.0
SAMPLE_S = 0.5
AFTER_A_LOST_CONNECTION_S = 0.1
ONLY_200_AND_503 = "only 200 and 503"
LEAST_SATURATION, LEAST_GOODPUT, MOST_MEMORY = 1.3, 0.9, 1.05


@dataclass
class Load:
    """What the clients saw.

    Attributes:
        latencies_ms: Of the answered photos.
        statuses: How often each status came; 0: the connection was lost.
        seconds: How long it went on.
        rss_mb: Memory of the server and of its workers together, over time, the warm-up left out.
    """

    latencies_ms: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0
    rss_mb: list[float] = field(default_factory=list)

    @property
    def per_s(self) -> float:
        """Answered photos a second."""
        return self.statuses[200] / self.seconds

    def memory_mb(self) -> tuple[float, float]:
        """Mean memory in the first and in the last third of the time."""
        third = max(1, len(self.rss_mb) // 3)
        return float(np.mean(self.rss_mb[:third])), float(np.mean(self.rss_mb[-third:]))


@dataclass(frozen=True)
class Verdict:
    """One target and what was found.

    Attributes:
        target: The target in words.
        found: What was measured.
        met: Whether it is met.
    """

    target: str
    found: str
    met: bool

    def __str__(self) -> str:
        return f"{'met' if self.met else 'NOT MET'}: {self.target}; found {self.found}"


def strange_statuses(loads: Sequence[Load]) -> dict[str, int]:
    """How often something else came than 200 and 503."""
    together = sum((load.statuses for load in loads), Counter[int]())
    return {str(status or "connection lost"): n for status, n in sorted(together.items()) if status not in (200, 503)}


def judge(alone: Sequence[Load], full: Sequence[Load], crowded: Sequence[Load], overload: Load) -> list[Verdict]:
    """Compare with the targets.

    Args:
        alone: One at a time, a load for each round.
        full: Saturation, in the same rounds.
        crowded: Overload, in the same rounds.
        overload: The long overload.
    """
    saturation, goodput = float(np.median(ratios(full, alone))), float(np.median(ratios(crowded, full)))
    strange = strange_statuses([*alone, *full, *crowded, overload])
    first, last = overload.memory_mb()
    return [
        Verdict(
            f"saturation >= {LEAST_SATURATION}x one at a time", f"{saturation:.2f}x", saturation >= LEAST_SATURATION
        ),
        Verdict(f"goodput under overload >= {LEAST_GOODPUT} of saturation", f"{goodput:.2f}", goodput >= LEAST_GOODPUT),
        Verdict(ONLY_200_AND_503, str(strange) if strange else "nothing else", not strange),
        Verdict(
            f"memory flat (last third <= first third + {MOST_MEMORY - 1:.0%})",
            f"{first:.0f} MB, then {last:.0f} MB",
            last <= MOST_MEMORY * first,
        ),
    ]


def ratios(ours: Sequence[Load], theirs: Sequence[Load]) -> list[float]:
    """Photos a second over those of the same round."""
    return [mine.per_s / other.per_s for mine, other in zip(ours, theirs, strict=True)]


def photos() -> list[bytes]:
    """JPEGs as the client page sends them: 512 px, quality 85."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(NUM_PHOTOS):
        small = Image.fromarray(rng.integers(60, 200, (48, 48, 3)).astype(np.uint8))
        buffer = io.BytesIO()
        small.resize((512, 512), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
        made.append(buffer.getvalue())
    return made


async def _client(port: int, requests: list[bytes], number: int, until: float, load: Load) -> None:
    """Send a photo, read the answer, send the next; after a 503 wait as long as the server says."""
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    while time.monotonic() < until:
        number += 1
        try:
            if reader is None or writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            start = time.monotonic()
            writer.write(requests[number % len(requests)])
            status, headers = await _answer(reader)
        except (OSError, asyncio.IncompleteReadError):
            load.statuses[0] += 1
            writer = None
            await asyncio.sleep(AFTER_A_LOST_CONNECTION_S)
            continue
        load.statuses[status] += 1
        if status == 200:
            load.latencies_ms.append(1000 * (time.monotonic() - start))
        if b"connection: close" in headers:
            writer = None
        if status == 503:
            wait = re.search(rb"retry-after: (\d+)", headers)
            await asyncio.sleep(min(float(wait.group(1)) if wait else 1.0, max(0.0, until - time.monotonic())))
    if writer is not None:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = re.search(rb"content-length: (\d+)", head)
    await reader.readexactly(int(length.group(1)) if length else 0)
    return int(head.split(b" ", 2)[1]), head


def _drive(port: int, num_clients: int, seconds: float, begun: Any, answers: Any) -> None:
    """The clients' process: warms up, then measures."""
    requests = [
        b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b"
        % (len(photo), photo)
        for photo in photos()
    ]

    async def drive(length_s: float) -> Load:
        load = Load()
        start = time.monotonic()
        until = start + length_s
        await asyncio.gather(*(_client(port, requests, number, until, load) for number in range(num_clients)))
        load.seconds = time.monotonic() - start
        return load

    asyncio.run(drive(WARM_UP_S))
    begun.set()
    answers.put(asyncio.run(drive(seconds)))


@contextmanager
def served(model: Path, *options: object) -> Iterator[tuple[int, psutil.Process]]:
    """A server on a free port; ends with the block, and must end with code 0."""
    command = [sys.executable, "-m", "projects.pillsnap.serve", "--model", str(model), "--port", "0"]
    process = subprocess.Popen([*command, *map(str, options)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r":(\d+)/", line)
        if found is None:
            raise SystemExit(f"the server did not start: {line or 'see above'}")
        yield int(found.group(1)), psutil.Process(process.pid)
    finally:
        process.terminate()
        code = process.wait(60)
        process.stdout.close()
    if code:
        raise SystemExit(f"the server ended with code {code}")


def measure(model: Path, num_clients: int, seconds: float, *options: object) -> Load:
    """Load on a fresh server."""
    context = multiprocessing.get_context("spawn")
    begun, answers = context.Event(), context.Queue()
    with served(model, *options) as (port, server):
        clients = context.Process(target=_drive, args=(port, num_clients, seconds, begun, answers))
        clients.start()
        ended = threading.Event()
        memory: list[float] = []
        watcher = threading.Thread(target=_watch, args=(server, begun, ended, memory))
        watcher.start()
        try:
            load: Load = answers.get(timeout=seconds + 120)
        finally:
            ended.set()
            watcher.join()
            clients.join()
    load.rss_mb = memory
    if not load.statuses[200]:
        raise SystemExit(f"{num_clients} clients got no answer in {seconds:g} s, but {dict(load.statuses)}")
    print(f"{num_clients} clients: {load.per_s:.1f}/s, {dict(load.statuses)}", file=sys.stderr, flush=True)
    return load


def _watch(server: psutil.Process, begun: Any, ended: threading.Event, memory: list[float]) -> None:
    """Sample from the end of the warm-up on: what a server allocates once is no growth."""
    while not begun.is_set():
        if ended.wait(SAMPLE_S / 10):
            return
    while True:
        with suppress(psutil.NoSuchProcess):  # a worker that is being replaced
            family = [server, *server.children(recursive=True)]
            memory.append(sum(process.memory_info().rss for process in family) / 1e6)
        if ended.wait(SAMPLE_S):
            return


def add(record: Record, name: str, load: Load) -> None:
    """Rows of one load."""
    record.add(f"{name}: photos answered", load.per_s, "1/s")
    for percent, value in zip((50, 95, 99), np.percentile(load.latencies_ms, (50, 95, 99)), strict=True):
        record.add(f"{name}: p{percent}", float(value), "ms")
    for status, count in sorted(load.statuses.items()):
        record.add(f"{name}: status {status or 'none (connection lost)'}", count, "answers")
    for third, value in zip(("first", "last"), load.memory_mb(), strict=True):
        record.add(f"{name}: memory, {third} third", value, "MB")


def bench(record: Record, options: argparse.Namespace) -> list[Verdict]:
    """All three in turn for the ratios, since other programs may share the machine; then the long overload."""
    short = options.seconds / 4 if options.short_seconds is None else options.short_seconds
    print(f"{options.rounds} rounds of three loads of {short:g} s, then overload for {options.seconds:g} s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or write_convnet(Path(folder))
        own = ["--workers", options.workers, "--max-batch", options.max_batch, "--queue", options.queue]
        alone, full, crowded = [], [], []
        for _ in range(options.rounds):
            alone.append(measure(model, 1, short, "--workers", 1, "--max-batch", 1, "--max-wait-ms", 0))
            full.append(measure(model, options.queue // 2, short, *own))
            crowded.append(measure(model, options.clients, short, *own))
        overload = measure(model, options.clients, options.seconds, *own)
    add(record, "one at a time", alone[-1])
    add(record, f"{options.queue // 2} clients", full[-1])
    add(record, f"{options.clients} clients", overload)
    record.add_samples("saturation over one at a time", ratios(full, alone), "ratio")
    record.add_samples("goodput under overload over saturation", ratios(crowded, full), "ratio")
    record.add("workers", options.workers, "processes")
    print(json.dumps({"model": model.name, "clients": options.clients, "seconds": options.seconds}), flush=True)
    return judge(alone, full, crowded, overload)


def main() -> None:
    """Read the options; those of `bench.record` may stand beside them."""
    parser = argparse.ArgumentParser(prog="python -m bench.bench_pill_server", description=__doc__)
    parser.add_argument("--model", type=Path, help="certified ONNX file; none: a network of random weights")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the overload")
    parser.add_argument("--short-seconds", type=float, help="length of each of the others; default: a quarter of it")
    parser.add_argument("--rounds", type=int, default=3, help="how often the three are compared")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--max-batch", type=int, default=4)
    parser.add_argument("--queue", type=int, default=64)
    options, rest = parser.parse_known_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no server is left behind
    verdicts: list[Verdict] = []
    run_benchmark("bench_pill_server", lambda record: verdicts.extend(bench(record, options)), rest)
    print(*verdicts, sep="\n", flush=True)
    if not all(verdict.met for verdict in verdicts if verdict.target == ONLY_200_AND_503):
        sys.exit(1)


if __name__ == "__main__":
    main()
