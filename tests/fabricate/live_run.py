"""A run directory whose events look like those of a real fit, written at once or bit by bit."""

import base64
import json
import math
import os
import socket
import time

import numpy as np
import psutil

from shared.events import EventWriter

CHANNELS = ["B", "G upper right", "G lower left", "R"]
SIDE = 32
FORMULA = (
    r"\mathcal{L} = w_\mathrm{mse}\,\frac{1}{L}\sum_{\lambda}(\hat{T}_\lambda - T_\lambda)^2"
    r" + w_\mathrm{corr}\,(1 - \rho(\hat{T}, T))"
)
MODEL = {"class": "SpectraRegressor", "network": "spectra_cnn_xattn", "parameters": "3,412,164"}


class LiveRun:
    """Writes one run.

    Args:
        folder: Its directory, made here.
        max_epochs: Epochs of the fit.
        batches: Batches an epoch; each becomes a step event.
        seed: Of its curves.
    """

    def __init__(self, folder, *, max_epochs=10, batches=20, seed=0):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.max_epochs, self.batches = folder, max_epochs, batches
        self.rng = np.random.default_rng(seed)
        self.pace = self.rng.uniform(0.5, 1.5)
        self.events = EventWriter(folder / "events.jsonl", folder.name)
        self.step = self.epoch = 0
        self.status("running")

    def status(self, state, **more):
        """Write status.json like the engine."""
        content = {
            "schema": 1, "state": state, "stage": "fit", "epoch": self.epoch, "heartbeat": time.time(), "stages": {},
            "started": getattr(self, "started", time.time()), "pid": os.getpid(), "host": socket.gethostname(),
            "started_by": psutil.Process().create_time(), "parents": [],
        }  # fmt: skip
        self.started = content["started"]
        (self.folder / "status.json").write_text(json.dumps(content | more))

    def start(self):
        """The stages before the fit and its start."""
        for name in ("check", "audit"):
            self.events.write("stage", 0, 0, stage=name, state="start")
            self.events.write("stage", 0, 0, stage=name, state="done")
        self.events.write("stage", 0, 0, stage="fit", state="start")
        self.events.write(
            "start", self.step, self.epoch, max_epochs=self.max_epochs, batches_per_epoch=self.batches,
            monitor="val/loss", formula=FORMULA, model=MODEL,
        )  # fmt: skip

    def loss(self):
        """The training loss at this step."""
        progress = self.step / (self.max_epochs * self.batches)
        return 0.02 + 0.6 * math.exp(-4 * self.pace * progress) * (1 + 0.15 * self.rng.normal())

    def train_step(self):
        """One step event."""
        batch = self.step % self.batches
        self.step += 1
        rate = 1e-3 * 0.5 * (1 + math.cos(math.pi * self.step / (self.max_epochs * self.batches)))
        self.events.write("step", self.step, self.epoch, loss=self.loss(), lr=rate, batch=batch)

    def end_epoch(self, num_samples=2):
        """Validation samples and the epoch's row."""
        for index in range(num_samples):
            self.sample(index)
        loss = self.loss()
        r2 = max(0.0, 1 - loss)
        self.events.write(
            "epoch", self.step, self.epoch,
            **{"train/loss": loss, "val/loss": loss * 1.15, "val/r2": r2, "val/pearson": r2**0.5, "lr": 1e-3},
        )  # fmt: skip
        self.epoch += 1
        self.status("running")

    def sample(self, index):
        """One fixed validation sample: a blob on the diagonal, smooth curves, a prediction that gets better."""
        y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
        waves = np.random.default_rng(100 + index)
        orders = [(a, b, phase) for a in range(3) for b in range(3) for phase in (0, 1.6)]
        field = sum(waves.normal() * np.cos(2 * np.pi * (a * x + b * y) + phase) for a, b, phase in orders)
        bits = np.packbits((field + field.T > 0).astype(np.uint8))
        nm = np.linspace(400, 700, 30)
        target = [0.25 + 0.2 * np.exp(-(((nm - centre - 10 * index) / 55) ** 2)) for centre in (450, 545, 545, 630)]
        wrong = 0.25 * math.exp(-0.4 * self.epoch)
        drift = np.cumsum(waves.normal(size=(4, 30)), axis=1) / 8
        self.events.write(
            "sample", self.step, self.epoch, index=index, channels=CHANNELS,
            image={"side": SIDE, "bits": base64.b64encode(bits.tobytes()).decode()},
            axis={"name": "wavelength", "unit": "nm", "values": [round(float(v), 2) for v in nm]},
            target=[[round(float(v), 4) for v in curve] for curve in target],
            prediction=[[round(float(v), 4) for v in curve + wrong * drift[k]] for k, curve in enumerate(target)],
        )  # fmt: skip

    def train(self, epochs, pause=0.0):
        """Some epochs."""
        for _ in range(epochs):
            for _ in range(self.batches):
                self.train_step()
                time.sleep(pause)
            self.end_epoch()

    def resume(self, step):
        """Go on from a checkpoint at `step`, as after a kill: events past it are superseded."""
        self.step, self.epoch = step, step // self.batches
        self.events = EventWriter(self.folder / "events.jsonl", self.folder.name)
        self.events.write("start", step, self.epoch, max_epochs=self.max_epochs, batches_per_epoch=self.batches)

    def finish(self):
        """The end."""
        self.events.write("stage", self.step, self.epoch, stage="fit", state="done")
        self.events.write("end", self.step, self.epoch, state="done")
        self.status("done", stage="report")
