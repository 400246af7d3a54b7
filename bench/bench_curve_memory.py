"""Memory and time of a large set of patterns with curves: building its store, grouping, folds, an epoch of batches.

The two .npy files have the specified format and full length (200,000 samples are 4 GB); a block of smooth patterns is
repeated, each with its own number in its first row and column, so that no two are alike. Each measured part runs in a
fresh process. "Anonymous" is memory that is backed by no file (RssAnon, proc(5)): the kernel can drop mapped pages of
the store at any time, and they are no cost. Its peak is sampled every 10 ms.

`python -m bench.bench_curve_memory --samples 200000` for the size that the figures of the documentation are about.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from bench.record import Record, run_benchmark

NUM_SAMPLES, SIDE_PX, BLOCK = 20_000, 128, 500
BATCH_SIZE, FIRST_READING = 400, 8
SHARES = {"train": 0.8, "val": 0.08, "accept": 0.04, "calibrate": 0.04, "test": 0.04}
MB = 1e6

Found = list[tuple[str, float, str]]


def measure(record: Record, num_samples: int) -> None:
    """Write the files, then measure in processes that have seen none of that."""
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), num_samples)
        for part in (measure_building, measure_epoch):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                for what, value, unit in pool.submit(part, Path(folder)).result():
                    record.add(f"{num_samples} samples, {what}", value, unit)


def measure_building(folder: Path) -> Found:
    """Read the files into a store; then the two steps that follow once more, on their own."""
    from projects.spectra.data.pairs_store import pairs_store
    from projects.spectra.symmetry import pattern_groups
    from shared.splits import split_groups

    before = resident_mb("RssAnon")
    began = time.perf_counter()
    with peak_of("RssAnon") as peak:
        store, index, _ = pairs_store(*files(folder), **settings(folder))
    found = [
        ("store built", time.perf_counter() - began, "s"),
        ("store built: peak of anonymous memory above the imports", peak[0] - before, "MB"),
        ("store and index: anonymous memory that stays", resident_mb("RssAnon") - before, "MB"),
    ]
    assert len(index.group_names) == len(index)
    for what, step in (
        ("pattern_groups", lambda: pattern_groups(store.bits, SIDE_PX)),
        ("split_groups", lambda: split_groups(index.label, index.group, SHARES, 0)),
    ):
        began = time.process_time()
        step()
        found.append((f"{what}, processor time", time.process_time() - began, "s"))
    return found


def measure_epoch(folder: Path) -> Found:
    """Open the store that is there and make each batch of an epoch, samples varied by all 32 variants."""
    from projects.spectra.data.dataset import CurveDataset
    from projects.spectra.data.pairs_store import pairs_store
    from shared.sampler import SampleKey

    before = resident_mb("RssAnon")
    store, index, _ = pairs_store(*files(folder), **settings(folder))
    num = len(store)
    dataset = CurveDataset(store, index, np.arange(num), variants="full", train=True)
    order = np.random.default_rng(0).permutation(num).tolist()
    readings, began = [], 0.0
    for number, start in enumerate(range(0, num, BATCH_SIZE), 1):
        dataset.__getitems__([SampleKey(row, start + place) for place, row in enumerate(order[start:][:BATCH_SIZE])])
        if number == FIRST_READING:
            readings.append(resident_mb("RssAnon"))
            began = time.process_time()
    spent, batches = time.process_time() - began, -(-num // BATCH_SIZE) - FIRST_READING
    return [
        (f"epoch: anonymous memory above the imports after {FIRST_READING} batches", readings[0] - before, "MB"),
        ("epoch: its growth until the end", resident_mb("RssAnon") - readings[0], "MB"),
        ("epoch: mapped pages at the end", resident_mb("RssFile"), "MB"),
        (f"batch of {BATCH_SIZE}, processor time", 1000 * spent / batches, "ms"),
    ]


def files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The pair of files."""
    return [folder / "struct_0.npy"], [folder / "spectra_0.npy"]


def settings(folder: Path) -> dict[str, Any]:
    """The other arguments of `pairs_store`."""
    return {
        "root": folder / "indices", "sign": "auto", "allow_asymmetric": False, "num_wavelengths": 30,
        "source": "stand-in",
    }  # fmt: skip


def write_files(folder: Path, num: int) -> None:
    """Write a pair of `num` samples, block by block through memory maps."""
    from projects.spectra.standin import StandinConfig
    from projects.spectra.standin.patterns import random_patterns

    patterns = random_patterns(0, 0, BLOCK, StandinConfig(side_px=SIDE_PX))
    curves = -np.random.default_rng(0).random((BLOCK, 3, 301), dtype=np.float32) - np.float32(0.01)
    (structures_path,), (spectra_path,) = files(folder)
    structures = open_memmap(structures_path, "w+", np.uint8, (num, 1, SIDE_PX, SIDE_PX))
    spectra = open_memmap(spectra_path, "w+", np.float32, (num, 3, 301))
    for start in range(0, num, BLOCK):
        rows = np.arange(start, min(start + BLOCK, num))
        part = patterns[: len(rows)].copy()
        digits = (rows[:, None] >> np.arange(20)) & 1  # (rows, 20)
        part[:, 0, 1:21] = part[:, 1:21, 0] = digits
        structures[rows[0] : rows[-1] + 1, 0] = part * np.uint8(255)
        spectra[rows[0] : rows[-1] + 1] = curves[: len(rows)]


def resident_mb(name: str) -> float:
    """One line of /proc/self/status (Linux), in MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024 / MB


@contextmanager
def peak_of(name: str) -> Iterator[list[float]]:
    """Yield a list whose one entry follows the largest value of a line of the status."""
    peak, stop = [resident_mb(name)], threading.Event()

    def follow() -> None:
        while not stop.wait(0.01):
            peak[0] = max(peak[0], resident_mb(name))

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def main(arguments: Sequence[str]) -> None:
    """Read --samples; the rest is as for the other benchmarks."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--samples", type=int, default=NUM_SAMPLES)
    options, rest = parser.parse_known_args(arguments)
    run_benchmark("bench_curve_memory", lambda record: measure(record, options.samples), rest)


if __name__ == "__main__":
    main(sys.argv[1:])
