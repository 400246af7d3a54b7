"""How often the points of a sweep are tried, as it was last asked for: `limits/0000.json` and on, the newest counts."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.sweep import exclusive_files

FOLDER = "limits"
SCHEMA = 1
KEYS = ("retries", "max_interruptions")
_NAME = re.compile(r"(\d{4,})\.json")


def newest_limits(folder: Path) -> dict[str, int]:
    """The limits that count, {} where nobody has asked for others than those in sweep.json; a damaged file is skipped.

    Args:
        folder: Of the sweep.
    """
    for _, path in reversed(_numbered(folder)):
        content = exclusive_files.read(path)
        if content is not None and all(_is_limit(content.get(key)) for key in KEYS):
            return {key: content[key] for key in KEYS}
    return {}


def note_limits(folder: Path, first: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Let everybody who reads the sweep go by these limits.

    Args:
        folder: Of the sweep.
        first: Settings that the sweep was begun with.
        given: Settings as given today.
    """
    wanted, began = {key: given[key] for key in KEYS}, {key: first.get(key) for key in KEYS}
    while (newest_limits(folder) or began) != wanted:
        numbers = [number for number, _ in _numbered(folder)]
        exclusive_files.create(
            folder / FOLDER / f"{max(numbers, default=-1) + 1:04d}.json", {"schema": SCHEMA} | wanted
        )


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    try:
        paths = list((folder / FOLDER).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = [(int(match[1]), path) for path in paths if (match := _NAME.fullmatch(path.name))]
    return sorted(found)


def _is_limit(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
