"""Finds run directories below an outputs folder: whatever holds a status.json or an events.jsonl."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from shared.live.mirror import MIRRORS

EVENTS_FILE, STATUS_FILE = "events.jsonl", "status.json"
MAX_DEPTH = 6
MAX_FOLDERS = 50_000


@dataclass(frozen=True)
class Found:
    """One run directory.

    Attributes:
        id: Twelve hexadecimal digits made of its place below the root; the same after a restart of the hub.
        path: The directory.
        place: Its parts below the root.
        changed: When its newest file was made or removed, seconds since the epoch.
    """

    id: str
    path: Path
    place: tuple[str, ...]
    changed: float


def find_runs(root: Path, limit: int) -> tuple[list[Found], int]:
    """Look for run directories; what stands inside one is not looked through, links are not followed.

    Args:
        root: Outputs folder.
        limit: Runs at most; the newest are kept.

    Returns:
        Runs, newest first, and how many were left out.
    """
    found: list[Found] = []
    folders: list[tuple[Path, tuple[str, ...]]] = [(root, ())]
    looked = 0
    while folders and looked < MAX_FOLDERS:
        folder, place = folders.pop()
        looked += 1
        try:
            with os.scandir(folder) as entries:
                listed = list(entries)
        except OSError:  # removed meanwhile, or not ours to read
            continue
        if place and {EVENTS_FILE, STATUS_FILE} & {entry.name for entry in listed}:
            found.append(_found(folder, place))
        elif len(place) < MAX_DEPTH:
            folders += [(folder / entry.name, (*place, entry.name)) for entry in listed if _is_room(entry)]
    found.sort(key=lambda run: run.changed, reverse=True)
    return found[:limit], max(0, len(found) - limit)


def run_id(place: tuple[str, ...]) -> str:
    """The id of the run at that place below the root."""
    return hashlib.sha256("/".join(place).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _found(folder: Path, place: tuple[str, ...]) -> Found:
    try:
        changed = folder.stat().st_mtime
    except OSError:
        changed = 0.0
    return Found(run_id(place), folder, place, changed)


def _is_room(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir(follow_symlinks=False) and (not entry.name.startswith(".") or entry.name == MIRRORS)
    except OSError:
        return False
