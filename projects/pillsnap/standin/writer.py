"""The files of a stand-in set of pill photographs: layout, names, resuming, and the marker that says it is complete.

Layout below the root::

    top_100_drugs.json                     the classes: kcode, name, manufacturer, form, weight, shape, colors, imprint
    studio/<kcode>/<sitting>_<nn>.jpg      plain background, even light
    real/<kcode>/<sitting>_<nn>.jpg        consumer scenes
    others/<kcode>/<sitting>_<nn>.jpg      drugs that are no class, in consumer scenes
    SOURCE.txt                             what this is
    standin.json                           configuration, counts, look-alike pairs, the other drugs, `complete`

A sitting is one specimen of the pill in one scene. A photo appears whole or not at all and depends on its names only,
so a photo that is there is done. A drug in a domain is the unit of work.
"""

import fcntl
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from projects.pillsnap.standin.config import DOMAINS, FORMAT_VERSION, StandinConfig, photo_name
from projects.pillsnap.standin.drugs import Catalogue, plan_drugs
from projects.pillsnap.standin.photos import photo_bytes
from shared.atomic import write_bytes, write_json, write_text
from shared.errors import ConfigError, DataError

MARKER = "standin.json"
DRUGS = "top_100_drugs.json"
PLAIN_WEIGHT, LOOK_ALIKE_WEIGHT = 1.0, 1.5
_SOURCE = """Rendered pills: the stand-in data of pillsnap. No photograph, no real drug, no real company.
Made by python -m projects.pillsnap.make_standin with the configuration in standin.json; the same configuration gives
the same bytes. Classes stand in top_100_drugs.json; the drugs below others/ are no classes.
"""


@dataclass(frozen=True)
class Block:
    """The photos of one drug in one domain."""

    domain: str
    kcode: str
    photos: tuple[tuple[str, int], ...]

    @property
    def folder(self) -> str:
        """Return its folder below the root."""
        return f"{self.domain}/{self.kcode}"


def plan_blocks(config: StandinConfig) -> list[Block]:
    """Return all units of work of a set, domain by domain, with the (sitting, shot) of each photo."""
    catalogue = plan_drugs(config)
    blocks = []
    for domain in DOMAINS:
        shots = range(config.per_sitting(domain))
        photos = tuple((sitting, shot) for sitting in config.sittings(domain) for shot in shots)
        drugs = catalogue.unknown if domain == "others" else catalogue.known
        blocks += [Block(domain, drug.kcode, photos) for drug in drugs if photos]
    return blocks


def generate_standin(
    root: Path, config: StandinConfig, *, workers: int = 2, on_progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write the set below `root` and return `root`; a complete one returns at once, a half-made one is resumed.

    The files do not depend on `workers`. With more than one, processes are spawned, so a calling script needs the usual
    `if __name__ == "__main__":`. A second call on the same folder waits for the first.

    Args:
        root: Folder to fill; made where missing.
        config: What to make.
        workers: Processes, at least 1; 1 works in this process.
        on_progress: Called with (photos done, photos in all), first with what an earlier run left.

    Raises:
        ConfigError: `workers` is below 1.
        DataError: `root` holds another data set or one made with another configuration, or a worker process died.
    """
    if workers < 1:
        raise ConfigError(f"standin.workers is {workers}; allowed: 1 or more.")
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root):
        if not _is_complete(root, config):
            _fill(root, config, workers, on_progress or _no_progress)
    return root


def read_config(root: Path) -> StandinConfig:
    """Return the configuration that a stand-in set was made with.

    Raises:
        DataError: The marker is missing or broken, or of another format.
    """
    found = _read_marker(root / MARKER)
    try:
        return StandinConfig(**found["config"])
    except (TypeError, ConfigError) as error:
        raise DataError(f"{root / MARKER}: its configuration cannot be used ({error}).") from error


def _no_progress(done: int, total: int) -> None:
    """Ignore progress."""


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the folder's lock; the system lets go of it when the process ends, however it ends."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read_marker(marker: Path) -> dict[str, Any]:
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
        version, _, _ = found["format_version"], found["config"].items(), found["complete"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{marker} cannot be read ({error}); remove the folder to make it anew.") from error
    if version != FORMAT_VERSION:
        raise DataError(f"{marker}: format_version is {version}; this code writes {FORMAT_VERSION}.")
    return dict(found)


def _is_complete(root: Path, config: StandinConfig) -> bool:
    """Return whether `root` holds this set, complete.

    Raises:
        DataError: The folder is not a stand-in set, or of another configuration or format.
    """
    marker = root / MARKER
    if not marker.exists():
        if any(not path.name.startswith(".standin-") for path in root.iterdir()):
            raise DataError(f"{root} is not empty and has no {MARKER}; give an empty or a new folder.")
        return False
    found = _read_marker(marker)
    stored, wanted = found["config"], config.as_dict()
    differing = [key for key in sorted({*wanted, *stored}) if wanted.get(key) != stored.get(key)]
    if differing:
        pairs = ", ".join(f"{key} is {stored.get(key)!r}, asked for {wanted.get(key)!r}" for key in differing)
        raise DataError(f"{marker}: made with another configuration ({pairs}); give another folder.")
    return bool(found["complete"])


def _marker(config: StandinConfig, catalogue: Catalogue, *, complete: bool) -> dict[str, Any]:
    counts = dict.fromkeys(DOMAINS, 0)
    for block in plan_blocks(config):
        counts[block.domain] += len(block.photos)
    return {
        "format_version": FORMAT_VERSION,
        "complete": complete,
        "config": config.as_dict(),
        "counts": counts,
        "look_alikes": [list(pair) for pair in catalogue.pairs],
        "others": [drug.as_row(PLAIN_WEIGHT) for drug in catalogue.unknown],
    }


def _fill(root: Path, config: StandinConfig, workers: int, report: Callable[[int, int], None]) -> None:
    """Claim the folder, remove what a killed run left half written, and write what is missing."""
    catalogue, blocks = plan_drugs(config), plan_blocks(config)
    write_json(root / MARKER, _marker(config, catalogue, complete=False))
    paired = {kcode for pair in catalogue.pairs for kcode in pair}
    weights = [LOOK_ALIKE_WEIGHT if drug.kcode in paired else PLAIN_WEIGHT for drug in catalogue.known]
    rows = [drug.as_row(weight) for drug, weight in zip(catalogue.known, weights, strict=True)]
    write_json(root / DRUGS, rows)
    write_text(root / "SOURCE.txt", _SOURCE)
    for leftover in [*root.glob(".*"), *root.glob("*/*/.*")]:
        leftover.unlink()
    total = sum(len(block.photos) for block in blocks)
    todo = [block for block in blocks if _missing(root, block)]
    done = total - sum(len(_missing(root, block)) for block in todo)
    report(done, total)
    for count in _run(root, todo, config, workers):
        done += count
        report(done, total)
    write_json(root / MARKER, _marker(config, catalogue, complete=True))


def _missing(root: Path, block: Block) -> list[tuple[str, int]]:
    """Return the photos of a block that are not there."""
    folder = root / block.folder
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set[str]()
    return [photo for photo in block.photos if photo_name(*photo) not in there]


def _run(root: Path, blocks: list[Block], config: StandinConfig, workers: int) -> Iterator[int]:
    """Yield the number of photos written for each block as it is finished."""
    if workers == 1 or len(blocks) <= 1:
        for block in blocks:
            yield _write_block(root, block, config)
        return
    # Spawned, not forked: the caller may hold torch's or OpenMP's threads, which do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker) as pool:
        try:
            for future in as_completed([pool.submit(_write_block, root, block, config) for block in blocks]):
                yield future.result()
        except BrokenProcessPool as error:
            raise DataError(f"A worker process died while writing {root}; the same call resumes it.") from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _begin_worker() -> None:
    """Keep to one thread, since the processes already fill the cores, and do not outlive the process that asked."""
    cv2.setNumThreads(1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Wait for the parent's end, also by SIGKILL; the pool alone would leave its workers waiting for ever."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _write_block(root: Path, block: Block, config: StandinConfig) -> int:
    """Write the missing photos of a block and return their number."""
    missing = _missing(root, block)
    for sitting, shot in missing:
        data = photo_bytes(config, block.domain, block.kcode, sitting, shot)
        write_bytes(root / block.folder / photo_name(sitting, shot), data)
    return len(missing)
