"""Which code a sweep's points were made with: `contexts/0000.json` and on, one file each time that it changed."""

import hashlib
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from shared.errors import ConfigError
from shared.sweep import exclusive_files

FOLDER = "contexts"
SCHEMA = 1
ROOT = Path(__file__).resolve().parents[2]
WATCHING = ("shared/advise", "shared/live", "shared/report", "shared/sweep", "shared/cross_validation")
"""Rooms that no fit of a point goes through: what is mended there makes no result another one."""
MEASURING = ("shared/sweep/scoring.py",)
"""What makes a score of a fit all the same."""


@dataclass(frozen=True)
class Context:
    """One file: `mode` is "first", "rerun" (a new generation of points begins) or "keep" (old results count)."""

    number: int
    mode: str
    code_hash: str
    host: str


def contexts(folder: Path) -> list[Context]:
    """All contexts of a sweep in order; damaged ones are left out."""
    found = []
    for path in sorted((folder / FOLDER).glob("[0-9]*.json")):
        content = exclusive_files.read(path)
        if content is None or not path.stem.isdigit() or not {"mode", "code_hash", "host"} <= content.keys():
            continue  # damaged; the ledger says so
        found.append(Context(int(path.stem), content["mode"], content["code_hash"], content["host"]))
    return found


def enter(
    folder: Path, code_hash: str, on_change: str, num_results: int, say: Callable[[str], None], num_begun: int = 0
) -> None:
    """Go on with this code: nothing happens where it is known, otherwise what `on_change` says.

    Args:
        folder: Of the sweep.
        code_hash: Of the code as it is now.
        on_change: "refuse", "rerun" or "keep".
        num_results: Points that are done by now; where there is none, there is nothing to refuse for.
        say: Told what was done.
        num_begun: Points that were begun and are to go on.

    Raises:
        ConfigError: The code has changed, and `on_change` is "refuse".
    """
    while True:
        known = contexts(folder)
        if known and is_known(known, code_hash):
            return
        mode = "first" if not known else on_change if (num_results or num_begun) and on_change != "refuse" else "keep"
        if known and num_results and on_change == "refuse":
            raise ConfigError(
                f"the code has changed since the sweep {folder} began, and {num_results} of its points are done; give "
                "hydra.sweeper.on_change=keep to let them count (they are marked), or =rerun to run all points again"
            )
        if _add(folder, known, mode, code_hash):
            if known and (num_results or num_begun):
                goes_on = "results of the old code count, marked" if num_results else ""
                goes_on = goes_on or f"{num_begun} points that were begun with the old code go on with the new one"
                say(f"the code has changed: {'all points are run again' if mode == 'rerun' else goes_on}")
            return


def begin_again(folder: Path, code_hash: str) -> None:
    """Begin a new generation of points for another reason than the code; one that another sweeper begins will do."""
    _add(folder, contexts(folder), "rerun", code_hash)


def _add(folder: Path, known: list[Context], mode: str, code_hash: str) -> bool:
    """Write the context after those that are known; False where another process was quicker."""
    number = known[-1].number + 1 if known else 0
    content = {"schema": SCHEMA, "mode": mode, "code_hash": code_hash, "t": time.time(), "host": socket.gethostname()}
    return exclusive_files.create(folder / FOLDER / f"{number:04d}.json", content)


def is_known(known: list[Context], code_hash: str) -> bool:
    """Whether points of the newest generation may be made with this code."""
    begins = max((context.number for context in known if context.mode == "rerun"), default=0)
    return any(context.code_hash == code_hash for context in known if context.number >= begins)


@cache
def code_hash(primary: str, objective: str) -> str:
    """`code_hash_now` when this process first asked: modules that it has loaded stay as they were."""
    return code_hash_now(primary, objective)


def code_hash_now(primary: str, objective: str) -> str:
    """Sha256 of the Python files that a point's result can depend on, as they are on the disk.

    These are `shared/` without the rooms in `WATCHING` but with `MEASURING`, the primary's project and the objective's
    own file. What stands in the configuration files is part of the configuration, which is compared by itself.

    Args:
        primary: Name of the primary configuration, which is that of its project.
        objective: Dotted name of the function that measures a point.
    """
    own = ROOT / Path(*objective.split(".")[:-1]).with_suffix(".py")
    files = {own, *ROOT.glob("shared/**/*.py"), *ROOT.glob(f"projects/{primary}/**/*.py")}
    digest = hashlib.sha256()
    for path in sorted(files):
        place = path.relative_to(ROOT).as_posix()
        if path.is_file() and (path == own or place in MEASURING or not place.startswith(WATCHING)):
            digest.update(f"{place}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
