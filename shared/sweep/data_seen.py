"""Which data a sweep's points have seen: hashes left by the points, and what the sweeper can tell without reading them.

The first point of a generation leaves what it has read in `data.<generation>.json`, and how the data's files looked
(names, sizes, times) in `files.<generation>.json`. What `on_change=keep` lets stand beside it gets a file of its own,
`data.<generation>.<n>.json` and `files.<generation>.<n>.json` with n from 1.
"""

import hashlib
import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shared.sweep import exclusive_files
from shared.sweep.objective import DATA_CHANGED, DataChangedError

SCHEMA = 1
DATA_KEYS = ("data", "seed", "experiment")
"""Roots that the data depend on; with one of these swept, data of points may differ."""
PATH_KEY = re.compile(r"(.*_)?(root|roots|file|files|csv|path|paths|folder|folders|dir)")
"""Keys below `data` whose values name files or folders."""


def check_data(folder: Path, generation: int, values: Mapping[str, Any], facts: Mapping[str, Any], keep: bool) -> None:
    """Compare what a point has read with what the points before it have read.

    Args:
        folder: Of the sweep.
        generation: Of the sweep.
        values: Swept keys and the point's values.
        facts: `data_hash` and `fingerprint` of the point; a fingerprint may be None.
        keep: Whether results on other data may stand beside each other, marked by their hash.

    Raises:
        DataChangedError: They differ, and no swept key can change them.
    """
    if _may_differ(values):
        return
    known = seen(folder, "data", generation)
    if not known and leave(folder, "data", generation, facts):
        return
    known = known or seen(folder, "data", generation)
    if any(all(found.get(key) == value for key, value in facts.items()) for found in known):
        return
    if keep:
        leave(folder, "data", generation, facts)
        return
    changed = [key for key, value in facts.items() if not known or known[-1].get(key) != value]
    first = folder / f"data.{generation}.json"
    raise DataChangedError(
        f"{DATA_CHANGED} {first} tells of ({', '.join(changed)} differ), so the point cannot "
        "be compared with those before it: give hydra.sweeper.on_change=rerun to measure all points anew, or keep"
    )


def note_files(folder: Path, generation: int, values: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Leave how the data's files look, once the generation's first point has read them.

    Args:
        folder: Of the sweep.
        generation: Of the sweep.
        values: Swept keys and the point's values.
        data: The configuration's `data`, resolved.
    """
    if not _may_differ(values) and not seen(folder, "files", generation):
        leave(folder, "files", generation, look(data))


def have_files_changed(folder: Path, generation: int, data: Mapping[str, Any]) -> bool:
    """Whether the data's files look otherwise than any that the sweep goes by; False where nothing is known of them.

    On another machine than the one that left it only names and sizes are compared: a copy has other times.
    """
    known = seen(folder, "files", generation)
    if not known:
        return False
    now = look(data)
    return not any(
        found.get("sizes") == now["sizes"] and (found.get("host") != now["host"] or found.get("times") == now["times"])
        for found in known
    )


def look(data: Mapping[str, Any]) -> dict[str, Any]:
    """Hashes of the names and sizes, and of the times, of all files that the configuration of the data names."""
    sizes, times = hashlib.sha256(), hashlib.sha256()
    for named in sorted(set(_named_paths(data))):
        for name, status in _files(Path(named)):
            sizes.update(f"{named}\0{name}\0{status.st_size}\n".encode())
            times.update(f"{status.st_mtime_ns}\n".encode())
    return {"sizes": sizes.hexdigest(), "times": times.hexdigest(), "host": socket.gethostname()}


def seen(folder: Path, kind: str, generation: int) -> list[dict[str, Any]]:
    """What is accepted by a generation, the oldest first; a damaged file is left out."""
    first = folder / f"{kind}.{generation}.json"
    later = re.compile(rf"{kind}\.{generation}\.(\d+)\.json")
    names = [(int(match[1]), path) for path in folder.iterdir() if (match := later.fullmatch(path.name))]
    paths = [*([first] if first.is_file() else []), *(path for _, path in sorted(names))]
    return [content for path in paths if (content := exclusive_files.read(path)) is not None]


def leave(folder: Path, kind: str, generation: int, content: Mapping[str, Any]) -> bool:
    """Add what a generation accepts; False where it was the first and another process was quicker."""
    first = folder / f"{kind}.{generation}.json"
    if first.is_file() and exclusive_files.read(first) is None:
        exclusive_files.set_aside(first)
    plain, number = {"schema": SCHEMA, **content}, 0
    is_first = not seen(folder, kind, generation)
    while not exclusive_files.create(first if number == 0 else first.with_suffix(f".{number}.json"), plain):
        if is_first:
            return False
        number += 1
    return True


def _may_differ(values: Mapping[str, Any]) -> bool:
    return any(_root(key) in DATA_KEYS for key in values)


def _named_paths(node: Any, key: str = "") -> Iterator[str]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _named_paths(value, str(name))
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _named_paths(value, key)
    elif isinstance(node, str) and PATH_KEY.fullmatch(key):
        yield node


def _files(path: Path) -> Iterator[tuple[str, os.stat_result]]:
    """A file, or all files below a folder in order, without hidden ones; nothing where there is none."""
    if path.is_file():
        yield "", path.stat()
        return
    for parent, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        for name in sorted(names):
            found = Path(parent, name)
            if not name.startswith(".") and found.exists():
                yield found.relative_to(path).as_posix(), found.stat()


def _root(key: str) -> str:
    return key.lstrip("+~").split(".")[0].split("/")[0].split("@")[0]
