"""How `sweep.json` is written once, read whole, and put right where it was damaged."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shared.errors import ConfigError, DataError
from shared.sweep import exclusive_files

SCHEMA = 1
COPY = "sweep.copy.json"
"""The same once more: without sweep.json nobody could tell whether points belong to today's search."""
NEEDED = {
    "sweeper": str, "primary": str, "overrides": list, "settings": dict, "objective": str, "direction": str,
    "score_name": str, "config": dict, "config_hash": str,
}  # fmt: skip


def write_once(path: Path, content: dict[str, Any], say: Callable[[str], None]) -> bool:
    """Create sweep.json; False where one is there that can be read.

    Raises:
        DataError: The folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        created = exclusive_files.create(path, content)
        if not created and not _is_readable(path):
            created = _mend(path, content, say)
        copy = path.with_name(COPY)
        if not copy.exists():
            exclusive_files.create(copy, exclusive_files.read(path) or content)
    except OSError as error:
        raise DataError(
            f"the sweep's folder {path.parent} cannot be written ({error.strerror}); make it writable, or give "
            "another paths.outputs"
        ) from error
    return created


def _is_readable(path: Path) -> bool:
    """Whether sweep.json is whole or at least of a version, which is refused later."""
    content = exclusive_files.read(path)
    return content is not None and (content.get("schema", SCHEMA) != SCHEMA or _is_whole(content))


def _mend(path: Path, content: dict[str, Any], say: Callable[[str], None]) -> bool:
    """Put a damaged sweep.json right; returns whether it is today's search that stands there now.

    Raises:
        ConfigError: There are points, and nothing says what they searched.
    """
    aside = exclusive_files.set_aside(path, _is_whole)
    if aside is None:
        return exclusive_files.create(path, content)
    copy = path.with_name(COPY)
    former = exclusive_files.read(copy) if copy.is_file() else None
    if _is_whole(former):
        assert former is not None
        say(f"{path} was damaged and is restored from {COPY}; the old one is kept as {aside.name}")
        exclusive_files.create(path, former)
        return False
    if any((path.parent / "plans").glob("*.json")):
        raise ConfigError(
            f"{path} was damaged (kept as {aside.name}), and without it nobody can tell whether the points there "
            "belong to this search: put a whole one in its place, or give another hydra.sweeper.name"
        )
    say(f"{path} was damaged and is written anew; the old one is kept as {aside.name}")
    return exclusive_files.create(path, content)


def read_content(path: Path) -> dict[str, Any]:
    """What a whole sweep.json says.

    Raises:
        ConfigError: There is none, it is damaged, or it is of another version.
    """
    try:
        content = exclusive_files.read(path)
    except FileNotFoundError:
        raise ConfigError(f"{path.parent} is no sweep: it has no {path.name}") from None
    if not _is_whole(content):
        raise ConfigError(f"{path} is damaged or of another version; give the sweep's command again to write it anew")
    assert content is not None
    return content


def _is_whole(content: Mapping[str, Any] | None) -> bool:
    """Whether it is a sweep.json of this version with all that is read of it."""
    if content is None or content.get("schema") != SCHEMA or not NEEDED.keys() <= content.keys():
        return False
    return all(isinstance(content[key], kind) for key, kind in NEEDED.items())
