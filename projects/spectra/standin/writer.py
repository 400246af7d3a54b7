"""The files of a stand-in set: layout, blocks of rows, resuming, and the marker that says it is complete.

Layout below the root::

    struct_<k>.npy     (n, 1, side, side) uint8, 0 and 255, [row, 1, y, x]
    spectra_<k>.npy    (n, 3, 301) float32, R, G, B, 400..700 nm in steps of 1 nm, stored NEGATIVE
    STANDIN.json       configuration, counts, `complete`
    journal.txt        only until the set is complete: a line for each block of rows that is written

B is the power in the upper left quadrant of the cell, R in the lower right one, G the mean of the two others. Padding
rows have a pattern and an all-zero spectrum. Row r of file k is sample number (rows of the files before) + r.

The files are made at full length first, so that a full disk is an error there and not a bus error while a mapped page
is written. A block is the unit of work: it is written through the memory map, then its line goes into the journal with
the checksums of its rows. On resuming each line is checked against the rows, so nothing depends on the order in which
pages reached the disk, and a block without a true line is written again.
"""

import fcntl
import json
import multiprocessing
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from projects.spectra.standin.config import FORMAT_VERSION, PADDING_STREAM, WAVELENGTHS_NM, StandinConfig
from projects.spectra.standin.diffraction import quadrant_power
from projects.spectra.standin.patterns import random_patterns
from shared.atomic import replacing, write_json, write_text
from shared.errors import ConfigError, DataError

MARKER, JOURNAL = "STANDIN.json", "journal.txt"
BLOCK_ROWS = 256  # about 5 MB of files and 40 ms of work


@dataclass(frozen=True)
class Block:
    """Consecutive rows of one pair of files.

    Attributes:
        number: Place in the whole plan; the journal's name for it.
        file: Number of the pair.
        row: Its first row in the files.
        sample: Its first row's sample number.
        count: Rows.
    """

    number: int
    file: int
    row: int
    sample: int
    count: int

    @property
    def rows(self) -> slice:
        """The rows in the files."""
        return slice(self.row, self.row + self.count)


def generate_standin(
    root: Path, config: StandinConfig, *, workers: int = 2, on_progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write the set below `root` and return `root`; a complete one returns at once, a half-made one is resumed.

    The files do not depend on `workers` or on interruptions. With more than one, processes are spawned, so a calling
    script needs the usual `if __name__ == "__main__":`. A second call for the same folder waits for the first.

    Args:
        root: Folder to fill; made where missing.
        config: What to make.
        workers: Processes, at least 1; 1 works in this process.
        on_progress: Called with (rows done, rows in all), first with what an earlier run left.

    Raises:
        ConfigError: `workers` is below 1, or the physics needs too many diffraction orders.
        DataError: `root` holds another set or one made with another configuration, a file of a complete set is gone, or
            a worker process died.
        OSError: A file cannot be written (full disk, no permission); the same call resumes.
    """
    if workers < 1:
        raise ConfigError(f"standin.workers is {workers}; allowed: 1 or more.")
    if _is_complete(root, config):
        return root
    quadrant_power(np.zeros((0, config.side_px, config.side_px), np.uint8), config, WAVELENGTHS_NM)  # refuses early
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root):
        if not _is_complete(root, config):  # another process may have made it meanwhile
            _fill(root, config, workers, on_progress or _no_progress)
    return root


def file_rows(config: StandinConfig) -> list[int]:
    """Return the number of rows of each pair of files; the first ones take what does not divide."""
    each, more = divmod(config.num_samples, config.num_files)
    return [each + (number < more) for number in range(config.num_files)]


def plan_blocks(config: StandinConfig) -> list[Block]:
    """Return all blocks in the order of the rows; they depend on `num_samples` and `num_files` only."""
    blocks: list[Block] = []
    sample = 0
    for file, rows in enumerate(file_rows(config)):
        for row in range(0, rows, BLOCK_ROWS):
            blocks.append(Block(len(blocks), file, row, sample + row, min(BLOCK_ROWS, rows - row)))
        sample += rows
    return blocks


def padding_samples(config: StandinConfig) -> NDArray[np.int64]:
    """Return the sorted numbers of the samples whose spectrum is all zero."""
    count = round(config.padding_share * config.num_samples)
    generator = np.random.default_rng((PADDING_STREAM, config.seed))
    return np.sort(generator.choice(config.num_samples, count, replace=False))


def _no_progress(done: int, total: int) -> None:
    """Ignore progress."""


def _layout(root: Path, config: StandinConfig) -> Iterator[tuple[Path, tuple[int, ...], type[np.generic]]]:
    """Yield (path, shape, dtype) of every array file."""
    for number, rows in enumerate(file_rows(config)):
        yield root / f"struct_{number}.npy", (rows, 1, config.side_px, config.side_px), np.uint8
        yield root / f"spectra_{number}.npy", (rows, 3, len(WAVELENGTHS_NM)), np.float32


def _is_complete(root: Path, config: StandinConfig) -> bool:
    """Return whether `root` holds this set, complete.

    Raises:
        DataError: The folder is not a stand-in set, is of another configuration or format, or has lost a file.
    """
    marker = root / MARKER
    if not marker.exists():
        if root.exists() and any(not path.name.startswith(".STANDIN-") for path in root.iterdir()):
            raise DataError(f"{root} is not empty and has no {MARKER}; give an empty or a new folder.")
        return False
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
        stored, version, complete = dict(found["config"]), found["format_version"], found["complete"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{marker} cannot be read ({error}); remove the folder to make it anew.") from error
    if version != FORMAT_VERSION:
        raise DataError(f"{marker}: format_version is {version}; this code writes {FORMAT_VERSION}.")
    wanted = config.as_dict()
    differing = [key for key in sorted({*wanted, *stored}) if wanted.get(key) != stored.get(key)]
    if differing:
        pairs = ", ".join(f"{key} is {stored.get(key)!r}, asked for {wanted.get(key)!r}" for key in differing)
        raise DataError(f"{marker}: made with another configuration ({pairs}); give another folder.")
    for path, shape, dtype in _layout(root, config) if complete else ():
        if not _fits(path, shape, dtype):
            raise DataError(f"{path} is missing or not {shape}, though {MARKER} says complete; remove the folder.")
    return bool(complete)


def _fits(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> bool:
    """Return whether the file is there at full length with this header."""
    try:
        array = open_memmap(path, mode="r")
    except (OSError, ValueError):
        return False
    return array.shape == shape and array.dtype == dtype


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the folder's lock; the system lets go of it when the process ends, however it ends."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _fill(root: Path, config: StandinConfig, workers: int, report: Callable[[int, int], None]) -> None:
    """Write what is missing."""
    blocks = plan_blocks(config)
    _begin(root, config)
    lines = _true_lines(root, blocks)
    write_text(root / JOURNAL, "".join(lines.values()))
    todo = [block for block in blocks if block.number not in lines]
    done = config.num_samples - sum(block.count for block in todo)
    report(done, config.num_samples)
    with (root / JOURNAL).open("a", encoding="utf-8") as journal:
        for block, line in _run(root, todo, config, workers):
            journal.write(line)
            journal.flush()
            done += block.count
            report(done, config.num_samples)
    for path, _, _ in _layout(root, config):
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    write_json(root / MARKER, _marker(config, complete=True))
    (root / JOURNAL).unlink()


def _marker(config: StandinConfig, *, complete: bool) -> dict[str, Any]:
    counts = {"samples": config.num_samples, "padding_rows": len(padding_samples(config)), "rows": file_rows(config)}
    return {"format_version": FORMAT_VERSION, "complete": complete, "config": config.as_dict(), "counts": counts}


def _begin(root: Path, config: StandinConfig) -> None:
    """Claim the folder, remove what a killed run left half made, and make the files at full length."""
    write_json(root / MARKER, _marker(config, complete=False))
    for leftover in (path for pattern in (".*.npy", ".*.json", ".*.txt") for path in root.glob(pattern)):
        leftover.unlink()
    for path, shape, dtype in _layout(root, config):
        if not _fits(path, shape, dtype):
            with replacing(path) as temporary:
                open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
                with temporary.open("r+b") as stream:
                    os.posix_fallocate(stream.fileno(), 0, temporary.stat().st_size)


def _true_lines(root: Path, blocks: list[Block]) -> dict[int, str]:
    """Return the journal's lines, by block, that agree with what the files hold."""
    journal = root / JOURNAL
    text = journal.read_text(encoding="utf-8", errors="replace") if journal.exists() else ""
    claimed = set(text.splitlines(keepends=True))  # a torn last line equals no whole one
    named = {line.split(" ", 1)[0] for line in claimed}
    lines = {block.number: _line(root, block) for block in blocks if str(block.number) in named}
    return {number: line for number, line in lines.items() if line in claimed}


def _line(root: Path, block: Block) -> str:
    """Return the journal's line for the rows of a block as the files hold them."""
    sums = (zlib.crc32(array[block.rows].tobytes()) for array in _arrays(root, block, "r"))
    return " ".join((str(block.number), *(f"{value:08x}" for value in sums))) + "\n"


def _arrays(root: Path, block: Block, mode: str) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the mapped patterns and spectra of the block's pair of files."""
    names = f"struct_{block.file}.npy", f"spectra_{block.file}.npy"
    patterns, spectra = (open_memmap(root / name, mode=mode) for name in names)
    return patterns, spectra


def _run(root: Path, blocks: list[Block], config: StandinConfig, workers: int) -> Iterator[tuple[Block, str]]:
    """Yield each block with its line as it is written."""
    if workers == 1 or len(blocks) <= 1:
        for block in blocks:
            yield block, _write_block(root, block, config)
        return
    # Spawned, not forked: the caller may hold torch's or OpenMP's threads, which do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(blocks)), mp_context=context, initializer=_begin_worker) as pool:
        try:
            futures = {pool.submit(_write_block, root, block, config): block for block in blocks}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise DataError(f"A worker process died while writing {root}; the same call resumes it.") from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _begin_worker() -> None:
    """Have this process end with its parent, however that ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """Wait for the parent's end and leave at once: a worker would otherwise wait for work for ever."""
    wait([sentinel])
    os._exit(1)


def _write_block(root: Path, block: Block, config: StandinConfig) -> str:
    """Write the rows of a block and return its line for the journal."""
    with threadpool_limits(1):  # the processes fill the cores, and rounding may depend on the number of threads
        patterns = random_patterns(config.seed, block.sample, block.count, config)
        power = quadrant_power(patterns, config, WAVELENGTHS_NM)
    green = (power[:, 0, 1] + power[:, 1, 0]) / 2
    rows = -np.stack([power[:, 1, 1], green, power[:, 0, 0]], axis=1)
    padding = padding_samples(config) - block.sample
    rows[padding[(padding >= 0) & (padding < block.count)]] = 0
    stored_patterns, stored_spectra = _arrays(root, block, "r+")
    stored_patterns[block.rows, 0] = patterns * np.uint8(255)
    stored_spectra[block.rows] = rows
    return _line(root, block)
