"""Names of the chain's files, and how they are read, hashed, checked and written.

Each step writes one file and names in it, by sha256, the files that it was made from. So a step, or a reader, can tell
that an earlier step ran again since, and say which command to run.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from shared.atomic import write_bytes
from shared.errors import DataError

RENDERED = "standin.json"
"""Beside the roots of rendered photos, see `standin.writer`."""

MAPPING, CAPTURES, STATS = "class_mapping.json", "captures.csv", "integration_stats.json"
SPLITS, MANIFEST = "splits.json", "manifest.json"
COMBINED, OTHERS = "combined", "others"

COMMANDS = {MAPPING: "map_classes", CAPTURES: "integrate", STATS: "integrate", SPLITS: "split", MANIFEST: "manifest"}
"""File -> the command `python -m projects.pillsnap.<command>` that writes it."""

Progress = Callable[[int, int], None]

_KCODE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?")


def command(name: str) -> str:
    """Return how to run the step that writes the file `name`.

    Example:
        >>> command("splits.json")
        'python -m projects.pillsnap.split'
    """
    return f"python -m projects.pillsnap.{COMMANDS[name]}"


def is_kcode(text: str) -> bool:
    """Tell whether `text` can be a code: letters, digits, '.', '_', '-', at most 64, and the name of a folder."""
    return _KCODE.fullmatch(text) is not None and ".." not in text


def json_bytes(content: Any) -> bytes:
    """Return indented UTF-8 JSON; the order of keys is the caller's and part of what two equal runs share."""
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def sha256_bytes(content: bytes) -> str:
    """Return the sha256 of `content` in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sha256_files(paths: Iterable[Path], on_progress: Progress | None = None) -> list[tuple[str, int]]:
    """Hash files in two threads, links followed.

    Returns:
        (sha256 in hexadecimal, bytes) of each, in the order given.

    Raises:
        DataError: One cannot be read; the sentence names it.
    """
    found: list[tuple[str, int]] = []
    todo = list(paths)
    # hashlib lets other threads run only from 2 kB on, so more threads than that gain nothing on small photos.
    with ThreadPoolExecutor(2) as pool:
        for one in pool.map(_sha256_file, todo):
            found.append(one)
            if on_progress is not None:
                on_progress(len(found), len(todo))
    return found


def _sha256_file(path: Path) -> tuple[str, int]:
    content = read_bytes(path)
    return sha256_bytes(content), len(content)


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error


def read_step(dataset: Path, name: str) -> bytes:
    """Return the bytes of one of the chain's own files.

    Raises:
        DataError: It is missing; the sentence says which command writes it.
    """
    path = dataset / name
    if not path.is_file():
        raise DataError(f"{path} does not exist; run `{command(name)}` first, or again if it was interrupted.")
    return read_bytes(path)


def parse_json(path: Path, content: bytes) -> Any:
    """Parse JSON in UTF-8 that comes from `path`; a key that stands twice in an object is refused.

    Raises:
        DataError: It is no such JSON.
    """
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise DataError(f"{path} is no readable JSON in UTF-8 ({error}).") from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return content


def check_sources(dataset: Path, name: str, sources: Any, found: dict[str, str]) -> None:
    """Refuse a file of the chain that was made from other files than those beside it now.

    Args:
        dataset: Folder of the data set.
        name: The file that was made.
        sources: What it says of its sources: file name -> sha256.
        found: The sha256 of the sources that are there now.

    Raises:
        DataError: Names the source, what was found and expected, and the commands to run.
    """
    for source, sha256 in found.items():
        expected = sources.get(source) if isinstance(sources, dict) else None
        if expected != sha256:
            raise DataError(
                f"{dataset / source} has sha256 {sha256[:12]}, but {name} was made from {str(expected)[:12]}: "
                f"it changed since; run {_from_step(source)} again if the change is meant."
            )


def _from_step(source: str) -> str:
    """Name the commands after the one that writes `source`, in their order."""
    order = ["map_classes", "integrate", "split", "manifest"]
    after = order[order.index(COMMANDS[source]) + 1 :]
    return "`python -m projects.pillsnap." + "`, `".join([after[0], *after[1:]]) + "`"


def checked_path(text: Any, where: str) -> str:
    """Return `text` if it is the path of a photo below the data set: `combined/<kcode>/<name>` or `others/...`.

    Raises:
        DataError: It is absolute, climbs with '..', or has another form; `where` says in which file it stands.
    """
    parts = PurePosixPath(text).parts if isinstance(text, str) else ()
    sound = len(parts) == 3 and parts[0] in (COMBINED, OTHERS) and is_kcode(parts[1]) and "/".join(parts) == text
    if not sound or parts[2] in (".", ".."):
        raise DataError(
            f"{where} names the photo {text!r}; allowed are {COMBINED}/<kcode>/<name> and {OTHERS}/<kcode>/<name>."
        )
    return str(text)


def write_if_changed(path: Path, content: bytes) -> bool:
    """Write `content` to `path` atomically unless it stands there already; return whether it was written."""
    if path.is_file() and path.read_bytes() == content:
        return False
    write_bytes(path, content)
    return True
