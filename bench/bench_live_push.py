"""What the live page costs a training: the seconds in its hooks, and the steps with and without it.

By counter: what `LivePush` does with each event in the training thread, against no hub, a hub that closes, one that
accepts and never reads, a real hub while a thousand events a second are written, and a real hub with 50 viewers; and
the samples, once an epoch; and all hooks of `LivePush` together in a short Lightning fit.
By comparison: training on one core, hub and viewers on another, blocks of steps with and without pushing, in turn; the
sending thread has sent everything and ended before a block without it begins.
"""

import json
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from torch.utils.data import DataLoader
from websockets.sync.client import connect

from bench.record import Record, run_benchmark
from shared.callbacks.live_push import LivePush, sample_data
from shared.events import EventWriter
from shared.live.push import Pusher, Target

STEP_SIDE = 700
NUM_STEPS = 120
NUM_VIEWERS = 50
EVENTS_PER_S = 1000
BLOCKS = 40
BLOCK_STEPS = 25
RESAMPLES = 2000
CONNECT_S = 30.0
FIT_EPOCHS, FIT_SAMPLES, FIT_BATCH = 3, 1024, 32


class Training:
    """A run whose steps are matrix products, and which writes step events as `RunLog` does, at most ten a second."""

    def __init__(self, folder: Path, url: str | None) -> None:
        folder.mkdir(parents=True)
        self.events = EventWriter(folder / "events.jsonl", folder.name)
        self.pusher = None if url is None else Pusher(self.events, Target(url, None, False, folder.parent), 1000)
        if self.pusher is not None:
            self.events.subscribe(self.pusher.listen)
            self.pusher.begin()
        generator = torch.Generator().manual_seed(0)
        self.matrix = torch.randn(STEP_SIDE, STEP_SIDE, generator=generator)
        self.count = 0

    def steps(self, number: int, events_per_step: int | None = None) -> float:
        """Seconds that so many steps took; `events_per_step` writes that many instead of ten a second."""
        began = time.perf_counter()
        for _ in range(number):
            self.count += 1
            loss = float((self.matrix @ self.matrix).mean())
            due = int(self.events.step_is_due()) if events_per_step is None else events_per_step
            for _ in range(due):
                self.events.write("step", self.count, 0, loss=loss, lr=1e-3, batch=self.count)
        return time.perf_counter() - began

    def open(self) -> None:
        """Start the sending thread and wait until it is connected."""
        assert self.pusher is not None
        self.pusher.begin()
        deadline = time.monotonic() + CONNECT_S
        while not self.pusher.connected:
            assert time.monotonic() < deadline, "no connection to the hub"
            time.sleep(0.01)

    def close(self) -> None:
        """Have the sending thread send what is left, and end."""
        if self.pusher is not None:
            self.pusher.leave()
            assert not any(thread.name == "live-push" for thread in threading.enumerate())


class CurveFit(LightningModule):
    """Learns four curves of 30 points from pictures of 128 px: noise, for only the time counts.

    Attributes:
        fit_s: Seconds from the first batch to the end of the last epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.images = (torch.rand(FIT_SAMPLES, 1, 128, 128, generator=generator) > 0.5).to(torch.uint8)
        self.targets = torch.rand(FIT_SAMPLES, 4, 30, generator=generator)
        self.network = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(128 * 128, 256), torch.nn.GELU(), torch.nn.Linear(256, 120)
        )
        self.fit_s = 0.0

    def loader(self) -> DataLoader[dict[str, torch.Tensor]]:
        """The same samples for training and validation."""
        samples = [{"image": image, "target": self.targets[k]} for k, image in enumerate(self.images)]
        return DataLoader(samples, batch_size=FIT_BATCH)  # type: ignore[arg-type]

    def curve_axes(self) -> dict[str, Any]:
        """As `BaseModule.curve_axes`."""
        return {"channels": list("BGGR"), "axis": {"name": "wavelength", "unit": "nm", "values": list(range(30))}}

    def on_train_start(self) -> None:
        """Begin to count."""
        self.fit_s = -time.perf_counter()

    def on_train_end(self) -> None:
        """Stop counting."""
        self.fit_s += time.perf_counter()

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Mean squared error."""
        return self._prediction_and_loss(batch)[1]

    def validation_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> dict[str, torch.Tensor]:
        """What LivePush shows."""
        prediction, loss = self._prediction_and_loss(batch)
        self.log("val/loss", loss)
        return {"prediction": prediction, "target": batch["target"]}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain gradient descent."""
        return torch.optim.SGD(self.parameters(), lr=1e-3)

    def _prediction_and_loss(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        prediction = self.network(batch["image"].float()).view(-1, 4, 30)
        return prediction, torch.nn.functional.mse_loss(prediction, batch["target"])


@contextmanager
def hub(outputs: Path, core: int | None = None) -> Iterator[str]:
    """A real hub as a process of its own, pinned to a core; yields its address."""
    command = [sys.executable, "-m", "shared.live", "--outputs", str(outputs), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if core is not None:
        os.sched_setaffinity(process.pid, {core})
    found = re.search(r"http://\S+?:\d+", process.stdout.readline())
    assert found is not None
    try:
        yield found.group()
    finally:
        process.terminate()
        process.wait()


@contextmanager
def dead_hub() -> Iterator[str]:
    """A hub that closes each connection."""
    with peer(close=True) as url:
        yield url


@contextmanager
def peer(close: bool = False) -> Iterator[str]:
    """Something that accepts connections and never reads, or closes them at once; on a thread that only waits."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    link, _ = listener.accept()
                except OSError:
                    return
                kept.append(link)
                if close:
                    link.close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for link in kept:
            link.close()


def watch(url: str, number: int, core: int | None, ready: "multiprocessing.synchronize.Event") -> None:
    """Be so many viewers of the newest run, in a process of their own, until it is ended."""
    if core is not None:
        os.sched_setaffinity(0, {core})

    def view() -> None:
        with connect(url.replace("http", "ws") + "/view", proxy=None, compression=None, max_size=None) as link:
            link.send(json.dumps({"type": "hello", "select": []}))
            while True:
                message = json.loads(link.recv())
                if message["type"] == "runs":
                    newest = [row["id"] for row in message["runs"][:1]]
                    link.send(json.dumps({"type": "ack", "select": newest}))
                elif message["type"] != "welcome":
                    link.send('{"type": "ack"}')

    for _ in range(number):
        threading.Thread(target=view, daemon=True).start()
    ready.set()
    time.sleep(3600)


@contextmanager
def viewers(url: str, number: int, core: int | None = None) -> Iterator[None]:
    """So many viewers for the block."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=watch, args=(url, number, core, ready), daemon=True)
    process.start()
    ready.wait(60)
    time.sleep(2.0)
    try:
        yield
    finally:
        process.kill()
        process.join()


def measure(record: Record) -> None:
    """By counter, then by comparison."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            nobody = f"http://127.0.0.1:{listener.getsockname()[1]}"
        record.add("hooks' share of the step: no hub", hook_share(root / "a" / "run", nobody), "%")
        with dead_hub() as url:
            record.add("hooks' share of the step: dead hub", hook_share(root / "b" / "run", url), "%")
        with peer() as url:
            record.add("hooks' share of the step: hub never reads", hook_share(root / "c" / "run", url), "%")
        with hub(root / "d") as url:
            share = hook_share(root / "d" / "run", url, events_per_s=EVENTS_PER_S)
            record.add(f"hooks' share of the step: {EVENTS_PER_S} events/s", share, "%")
        with hub(root / "e") as url, viewers(url, NUM_VIEWERS):
            record.add(f"hooks' share of the step: {NUM_VIEWERS} viewers", hook_share(root / "e" / "run", url), "%")
        record.add("4 samples of 128 px made and written, once an epoch", samples_ms(root / "g" / "run"), "ms")
        with hub(root / "h") as url, viewers(url, NUM_VIEWERS):
            fit_hooks(record, root / "h" / "run", url)
        compare(record, root / "f")


def fit_hooks(record: Record, folder: Path, url: str) -> None:
    """All hooks of LivePush in a Lightning fit of our own making, the event listener among them."""
    module, push = CurveFit(), LivePush(url, start_hub=False, dirpath=str(folder))
    trainer = Trainer(
        max_epochs=FIT_EPOCHS, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, num_sanity_val_steps=0, callbacks=[push], default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(module, module.loader(), module.loader())
    assert push.pusher is not None
    push.pusher.leave()
    record.add(f"all hooks in a Lightning fit, {NUM_VIEWERS} viewers", push.hook_s, "s")
    record.add("  their share of the fit", 100 * push.hook_s / module.fit_s, "%")


def samples_ms(folder: Path) -> float:
    """Milliseconds that the samples of one validation take in the training thread."""
    training = Training(folder, None)
    generator = np.random.default_rng(0)
    image, curve = generator.integers(0, 2, (1, 128, 128)), generator.random((2, 2, 30))
    axes = {"channels": list("BGGR"), "axis": {"name": "wavelength", "unit": "nm", "values": list(range(30))}}
    began = time.perf_counter()
    for index in range(4):
        training.events.write("sample", 0, 0, **sample_data(index, image, curve, curve, axes))
    return 1000 * (time.perf_counter() - began)


def hook_share(folder: Path, url: str, events_per_s: int | None = None) -> float:
    """Seconds in the event listener, in per cent of the training's."""
    training = Training(folder, url)
    assert training.pusher is not None
    step_s = training.steps(20) / 20
    per_step = None if events_per_s is None else max(1, round(events_per_s * step_s))
    before = training.pusher.hook_s
    spent = training.steps(NUM_STEPS, per_step)
    share = 100 * (training.pusher.hook_s - before) / spent
    training.close()
    return share


def compare(record: Record, root: Path) -> None:
    """Steps that are pushed to a hub with viewers over steps that are only written, block by block in turn."""
    cores = sorted(os.sched_getaffinity(0))
    first, second = cores[0], cores[-1]
    with hub(root, second) as url, viewers(url, NUM_VIEWERS, second):
        os.sched_setaffinity(0, {first})
        try:
            plain, pushed = Training(root / "p" / "plain", None), Training(root / "p" / "pushed", url)
            ratios = []
            pushed.close()
            for number in range(BLOCKS + 2):
                spent = {}
                for training in [plain, pushed] if number % 2 else [pushed, plain]:
                    if training is pushed:
                        pushed.open()
                    spent[training] = training.steps(BLOCK_STEPS)
                    pushed.close()
                if number >= 2:
                    ratios.append(spent[pushed] / spent[plain])
        finally:
            os.sched_setaffinity(0, set(cores))
    record.add_samples(f"step pushed, {NUM_VIEWERS} viewers / step only written", ratios, "ratio")
    draws = np.random.default_rng(0).choice(ratios, size=(RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), (2.5, 97.5))
    record.add("  its median: 95 % interval from", low, "ratio")
    record.add("  its median: 95 % interval to", high, "ratio")


if __name__ == "__main__":
    run_benchmark("bench_live_push", measure)
