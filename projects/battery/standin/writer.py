"""The files of a stand-in data set: layout, names, resuming, and the marker that says it is complete.

Layout below the root::

    images/CT_<kind>_<form>_<battery id>_<axis>_<slice>.png     8-bit grey, one a slice
    labels/<the same stem>.json                                 one a slice
    STANDIN.json                                                configuration, counts, `complete`

`kind` is cell or module; `form` pouch, cylindrical or prismatic; the battery id has four digits and is unique over both
kinds; `axis` is x, y or z; the slice has four digits. A label holds exactly these keys::

    {"file_name": "CT_cell_pouch_0109_y_0123.png", "width": 128, "height": 128,
     "is_normal": false,
     "defects": [{"class": "porosity", "box": [x, y, width, height]}],
     "battery_outline": [[x, y], ...]}

`defects` is null for a normal slice. `class` is porosity or resin_overflow; the two never share an image. Boxes and
outline are whole pixels of the original image, x to the right and y down. An x slice runs y across and z down, a y
slice x and z, a z slice x and y.

A battery is the unit of work. A label is written after its image, so a battery whose labels are all there is done.
"""

import json
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import cv2

from projects.battery.standin.config import FORMAT_VERSION, StandinConfig
from projects.battery.standin.plan import BatteryPlan, class_counts, plan_batteries
from projects.battery.standin.render import render_battery
from shared.atomic import write_bytes, write_json
from shared.errors import ConfigError, DataError

MARKER = "STANDIN.json"


def generate_standin(
    root: Path, config: StandinConfig, *, workers: int = 2, on_progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write the data set below `root` and return `root`; a complete one returns at once, a half-made one is resumed.

    The files do not depend on `workers`. With more than one, processes are spawned, so a calling script needs the usual
    `if __name__ == "__main__":`.

    Args:
        root: Folder to fill; made where missing.
        config: What to make.
        workers: Processes, at least 1; 1 works in this process.
        on_progress: Called with (slices done, slices in all), first with what an earlier run left.

    Raises:
        ConfigError: `workers` is below 1.
        DataError: `root` holds another data set or one made with another configuration, or a worker process died.
    """
    if workers < 1:
        raise ConfigError(f"standin.workers is {workers}; allowed: 1 or more.")
    if _is_complete(root, config):
        return root
    plans = plan_batteries(config)
    _begin(root, config)
    written = Counter(path.name.split("_")[3] for path in (root / "labels").glob("CT_*.json"))
    todo = [plan for plan in plans if written[f"{plan.battery_id:04d}"] != plan.num_slices]
    total = sum(plan.num_slices for plan in plans)
    done = total - sum(plan.num_slices for plan in todo)
    report = on_progress or _no_progress
    report(done, total)
    for count in _run(root, todo, config, workers):
        done += count
        report(done, total)
    write_json(root / MARKER, _marker(config, complete=True, plans=plans))
    return root


def _no_progress(done: int, total: int) -> None:
    """Ignore progress."""


def _is_complete(root: Path, config: StandinConfig) -> bool:
    """Return whether `root` holds this data set, complete.

    Raises:
        DataError: The folder is not a stand-in data set, or of another configuration or format.
    """
    marker = root / MARKER
    if not marker.exists():
        if root.exists() and any(root.iterdir()):
            raise DataError(f"{root} is not empty and has no {MARKER}; give an empty or a new folder.")
        return False
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
        stored, version, complete = found["config"], found["format_version"], found["complete"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{marker} cannot be read ({error}); remove the folder to make it anew.") from error
    if version != FORMAT_VERSION:
        raise DataError(f"{marker}: format_version is {version}; this code writes {FORMAT_VERSION}.")
    wanted = config.as_dict()
    differing = [key for key in sorted({*wanted, *stored}) if wanted.get(key) != stored.get(key)]
    if differing:
        pairs = ", ".join(f"{key} is {stored.get(key)!r}, asked for {wanted.get(key)!r}" for key in differing)
        raise DataError(f"{marker}: made with another configuration ({pairs}); give another folder.")
    return bool(complete)


def _marker(config: StandinConfig, *, complete: bool, plans: list[BatteryPlan]) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "complete": complete,
        "config": config.as_dict(),
        "counts": {
            "slices": sum(plan.num_slices for plan in plans),
            "batteries": len(plans),
            "batteries_with_porosity": sum(any(plan.porous.values()) for plan in plans),
            "batteries_with_resin_overflow": sum(any(plan.overflow.values()) for plan in plans),
            "classes": class_counts(plans),
        },
    }


def _begin(root: Path, config: StandinConfig) -> None:
    """Make the folders, claim them for this configuration and remove what a killed run left half written."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for leftover in (root / folder).glob(".*"):
            leftover.unlink()
    write_json(root / MARKER, _marker(config, complete=False, plans=[]))


def _run(root: Path, plans: list[BatteryPlan], config: StandinConfig, workers: int) -> Iterator[int]:
    """Yield the number of slices of each battery as it is finished."""
    if workers == 1 or len(plans) <= 1:
        for plan in plans:
            yield _write_battery(root, plan, config)
        return
    # Spawned, not forked: the caller may hold torch's or OpenMP's threads, which do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_limit_threads) as pool:
        try:
            for future in as_completed([pool.submit(_write_battery, root, plan, config) for plan in plans]):
                yield future.result()
        except BrokenProcessPool as error:
            raise DataError(f"A worker process died while writing {root}; the same call resumes it.") from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _limit_threads() -> None:
    """One thread a process: the processes already fill the cores."""
    cv2.setNumThreads(1)


def _write_battery(root: Path, plan: BatteryPlan, config: StandinConfig) -> int:
    """Write all files of a battery and return the number of its slices."""
    for item in render_battery(plan, config):
        encoded, png = cv2.imencode(".png", item.image, [cv2.IMWRITE_PNG_COMPRESSION, 3])
        if not encoded:
            raise DataError(f"{item.stem}.png could not be encoded.")
        write_bytes(root / "images" / f"{item.stem}.png", png.tobytes())
        text = json.dumps(item.label, separators=(", ", ": "))
        write_bytes(root / "labels" / f"{item.stem}.json", text.encode())
    return plan.num_slices
