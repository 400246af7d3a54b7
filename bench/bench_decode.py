"""What one training image costs on one core, stage by stage, and how long a training step waits for its data.

Stages are timed apart from each other over the same images, file cache warm, in processor time, which a busy machine
changes little; `whole sample` is the dataset's own `__getitem__`, so what it adds to the sum of its stages is the rest
of Python. The wait is measured in the hand-written loop with 0, 1 and 2 loader processes in turn, each after a few
steps that empty what it had read ahead while it stood.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

from bench.demo import HandLoop, demo_data, demo_module, demo_settings
from bench.record import Record, run_benchmark
from projects.battery.data.datamodule import CtDataModule
from projects.battery.data.dataset import SliceDataset, normalise
from projects.battery.data.decode import decode_grey, resize_square
from shared.sampler import SampleKey
from shared.seeding import derive_seed

NUM_IMAGES = 64  # of 512 px there are 17 MB then: more than the processor's caches hold
SAMPLE_ROUNDS = 7
WORKERS = (0, 1, 2)
WAIT_ROUNDS, SETTLE_STEPS, WAIT_STEPS = 5, 4, 8


def measure(record: Record) -> None:
    """Both sizes stage by stage, then the wait."""
    settings = demo_settings()
    torch.set_num_threads(1)
    measure_stages(record, "128 -> 96 px", demo_data(settings))
    with tempfile.TemporaryDirectory() as folder:
        large = demo_settings(
            "data.image_size_px=512", "data.standin.size_px=512", "data.standin.num_batteries=16",
            f"data.standin.num_slices={NUM_IMAGES}", f"paths.cache={folder}",
        )  # fmt: skip
        measure_stages(record, "512 -> 512 px", demo_data(large))
    measure_wait(record)


def measure_stages(record: Record, size: str, datamodule: CtDataModule) -> None:
    """Microseconds an image of each stage, and images a second of the whole."""
    dataset = datamodule.build_dataset("train", np.arange(NUM_IMAGES))
    assert isinstance(dataset, SliceDataset)
    transform = dataset.transform
    assert transform is not None
    side, batch_size = dataset.image_size_px, datamodule.batch_size
    ids = [datamodule.index.ids[row] for row in range(NUM_IMAGES)]
    keys = [SampleKey(place, place) for place in range(NUM_IMAGES)]
    files = [dataset.reader.read(name) for name in ids]
    images = [decode_grey(content, "") for content in files]
    squares = [resize_square(image, side) for image in images]
    seeds = [derive_seed(0, draw) for draw in range(NUM_IMAGES)]
    batch = [dataset[key] for key in keys[:batch_size]]
    stages: dict[str, tuple[Callable[[Any], Any], Sequence[Any], int]] = {
        "read": (dataset.reader.read, ids, 1),
        "decode": (lambda content: decode_grey(content, ""), files, 1),
        "resize": (lambda image: resize_square(image, side), images, 1),
        "seeding": (lambda draw: derive_seed(0, draw), range(NUM_IMAGES), 1),
        "augment": (lambda pair: transform(*pair), list(zip(squares, seeds, strict=True)), 1),
        "normalise": (normalise, squares, 1),
        "collate": (default_collate, [batch] * 4, len(batch)),
        "whole sample": (dataset.__getitem__, keys, 1),
    }
    times = {name: stage_us(*stage) for name, stage in stages.items()}
    for name, values in times.items():
        record.add_samples(f"{size}: {name}", values, "us/image")
    whole = [1e6 / (a + b) for a, b in zip(times["whole sample"], times["collate"], strict=True)]
    record.add_samples(f"{size}: whole sample and collate, one core", whole, "images/s")


def stage_us(function: Callable[[Any], Any], inputs: Sequence[Any], images_each: int) -> list[float]:
    """Microseconds of processor time an image in each round; the first round warms up."""
    rounds = []
    for _ in range(1 + SAMPLE_ROUNDS):
        began = time.thread_time()
        for item in inputs:
            function(item)
        rounds.append(1e6 * (time.thread_time() - began) / (len(inputs) * images_each))
    return rounds[1:]


def measure_wait(record: Record) -> None:
    """Share of the step spent in the loader, and what further processes bring or cost altogether."""
    loops = {}
    for workers in WORKERS:
        settings = demo_settings(f"data.num_workers={workers}")
        datamodule = demo_data(settings)
        loops[workers] = HandLoop(demo_module(settings, datamodule), datamodule, settings)
    seconds: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    shares: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    for _ in range(WAIT_ROUNDS):
        for workers, loop in loops.items():
            loop.run(SETTLE_STEPS)
            loop.waited_s = 0.0
            seconds[workers].append(loop.run(WAIT_STEPS))
            shares[workers].append(100 * loop.waited_s / seconds[workers][-1])
    for workers, loop in loops.items():
        loop.close()
        record.add_samples(f"{workers} workers: step", [1000 * s / WAIT_STEPS for s in seconds[workers]], "ms")
        record.add_samples(f"{workers} workers: waiting for data", shares[workers], "% of a step")
        ratios = [base / s for base, s in zip(seconds[WORKERS[0]], seconds[workers], strict=True)]
        if workers:
            record.add_samples(f"{workers} workers: speed / without workers", ratios, "ratio")


if __name__ == "__main__":
    run_benchmark("bench_decode", measure)
