"""Memory of a data set of 200,000 images: scan, folds, leak guard and ledger, then an epoch through two loader workers.

The files are real ones, an image of 8 x 8 pixels and a label each, written to a temporary folder (0.4 million inodes
and 1.6 GB while it runs). The measured process is a fresh one. Its peak is the kernel's high-water mark of resident
memory above what it held after the imports. A worker's own memory is the unique set size (USS): pages that it shares
with nobody. A leak would make it grow in both halves of the epoch.
"""

import gc
import json
import struct
import tempfile
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, set_start_method
from pathlib import Path
from typing import Any

import psutil
from torch.utils.data import DataLoader

from bench.demo import demo_data, demo_settings
from bench.record import Record, run_benchmark
from projects.battery.data.datamodule import CtDataModule
from projects.battery.data.png import END_CHUNK, SIGNATURE
from shared.leakage import check_leakage
from shared.ledger import Ledger
from shared.splits import check_folds, write_splits

NUM_IMAGES, NUM_BATTERIES, SIDE_PX = 200_000, 320, 8
BATCH_SIZE = 256  # an epoch, so that every row is touched, in some 390 batches
FIRST_READING = 8  # batches until a worker has filled its own caches
MB = 1e6


def measure(record: Record) -> None:
    """Write the files, then measure in a process that has seen none of that."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        write_images(Path(folder) / "data")
        print(f"wrote {NUM_IMAGES} images and labels in {time.perf_counter() - began:.0f} s", flush=True)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            for what, value, unit in pool.submit(measure_process, Path(folder)).result():
                record.add(what, value, unit)


def measure_process(folder: Path) -> list[tuple[str, float, str]]:
    """All values, from a process of their own."""
    set_start_method("fork", force=True)  # a spawned process would spawn the loader workers too, unlike a run
    imports = psutil.Process().memory_info().rss / MB
    found = [("memory after the imports", imports, "MB")]
    datamodule = large_data(folder)

    def stage(what: str, began: float) -> None:
        found.append((f"peak above the imports: {what}", peak_mb() - imports, "MB"))
        found.append((f"time: {what}", time.perf_counter() - began, "s"))

    reset_peak()
    began = time.perf_counter()
    index = datamodule.index
    stage("listing, scan, index", began)
    reset_peak()
    began = time.perf_counter()
    check_folds(index, datamodule.fold)
    check_leakage(index, datamodule.fold)
    splits_hash = write_splits(folder / "splits.csv", index, datamodule.fold)
    datamodule.ledger = Ledger(folder)
    datamodule.ledger.bind(index, datamodule.fold, splits_hash)
    stage("folds, leak guard, splits.csv, ledger", began)
    gc.collect()
    found.append(("kept above the imports", psutil.Process().memory_info().rss / MB - imports, "MB"))
    reset_peak()
    began = time.perf_counter()
    loader = datamodule.train_dataloader()
    found += worker_growth("workers", loader)
    stage("an epoch of loading, main process", began)
    return found


def large_data(folder: Path) -> CtDataModule:
    """The demo's datamodule over the large folder."""
    return demo_data(
        demo_settings(
            f"data.root={folder / 'data'}", f"paths.cache={folder / 'cache'}", f"data.image_size_px={SIDE_PX}",
            "data.num_workers=2", f"data.batch_size={BATCH_SIZE}",
        )
    )  # fmt: skip


def worker_growth(what: str, loader: DataLoader[Any]) -> list[tuple[str, float, str]]:
    """Unique memory of the larger of the workers: at the start of an epoch, and how it grows in either half."""
    known = {child.pid for child in psutil.Process().children()}
    readings: list[float] = []
    for done, _ in enumerate(loader, 1):
        if done in (FIRST_READING, len(loader) // 2, len(loader)):
            workers = [child for child in psutil.Process().children() if child.pid not in known]
            readings.append(max(worker.memory_full_info().uss for worker in workers) / MB)
    early, middle, late = readings
    return [
        (f"{what}: unique memory of one, after {FIRST_READING} batches", early, "MB"),
        (f"{what}: growth in the first half of {len(loader)} batches", middle - early, "MB"),
        (f"{what}: growth in the second half", late - middle, "MB"),
    ]


def write_images(root: Path) -> None:
    """Write the images and labels of `NUM_BATTERIES` batteries into two flat folders, as in the stand-in data."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for row, (stem, defect) in enumerate(slices()):
        (root / "images" / f"{stem}.png").write_bytes(tiny_png(row))
        label = {
            "file_name": f"{stem}.png",
            "width": SIDE_PX,
            "height": SIDE_PX,
            "is_normal": defect is None,
            "defects": None if defect is None else [{"class": defect, "box": [1, 1, 4, 4]}],
            "battery_outline": [[0, 0], [7, 0], [7, 7], [0, 7]],
        }
        (root / "labels" / f"{stem}.json").write_text(json.dumps(label))


def slices() -> Iterator[tuple[str, str | None]]:
    """Name and defect of every slice; half of the batteries are modules, and each class stands in many of them."""
    for row in range(NUM_IMAGES):
        battery, place = row % NUM_BATTERIES, row // NUM_BATTERIES
        kind, axis = ("cell", "module")[battery % 2], "xyz"[place % 3]
        defect = None
        if axis != "x" and place % 2:
            defect = "resin_overflow" if kind == "module" and battery % 8 == 1 else "porosity"
        yield f"CT_{kind}_pouch_{battery:04d}_{axis}_{place:04d}", defect


def tiny_png(number: int) -> bytes:
    """A valid 8-bit grey PNG whose first eight pixels are `number`: equal files in two folds would be a leak."""
    pixels = number.to_bytes(SIDE_PX, "little") + bytes(SIDE_PX * (SIDE_PX - 1))
    lines = b"".join(b"\0" + pixels[first : first + SIDE_PX] for first in range(0, len(pixels), SIDE_PX))
    header = struct.pack(">IIBBBBB", SIDE_PX, SIDE_PX, 8, 0, 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(lines, 1)) + END_CHUNK


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def reset_peak() -> None:
    """Let the kernel's high-water mark of this process begin anew (Linux, proc(5): clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """The kernel's high-water mark of resident memory since `reset_peak`."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / MB


if __name__ == "__main__":
    run_benchmark("bench_index_memory", measure)
