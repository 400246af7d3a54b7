"""Carry an integration out: links to studio photos, copies of the others, then the two tables that make it complete.

`captures.csv` and `integration_stats.json` are taken away before the first photo changes and written after the last, so
what a kill leaves has no tables and no later step takes it for whole. Photos that are right already stay.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from projects.pillsnap.chain.captures import DOMAINS, OTHER, PhotoRow, captures_bytes, read_captures
from projects.pillsnap.chain.files import (
    CAPTURES,
    COMBINED,
    OTHERS,
    STATS,
    Progress,
    read_bytes,
    sha256_bytes,
    write_if_changed,
)
from shared.errors import DataError

_LINKED = DOMAINS[0]
_PARTIAL = ".partial-"


@dataclass(frozen=True)
class Outcome:
    """What carrying out did.

    Attributes:
        written: Photos linked or copied.
        removed: Photos taken away that an earlier run had put there.
        changes: Against the tables that stood there before: sentences; empty where they stay.
    """

    written: int
    removed: int
    changes: tuple[str, ...]

    @property
    def nothing_to_do(self) -> bool:
        """Whether the data set was complete and right already."""
        return not (self.written or self.removed or self.changes)


def carry_out(
    dataset: Path,
    rows: list[PhotoRow],
    source: Mapping[str, Path],
    stats: bytes,
    *,
    on_progress: Progress | None = None,
) -> Outcome:
    """Make `combined/`, `others/`, `captures.csv` and `integration_stats.json`.

    Args:
        dataset: Folder of the data set.
        rows: All its photos.
        source: Path below the data set -> where the photo is.
        stats: What `integration_stats.json` shall hold.
        on_progress: Called with (photos looked at, photos in all).

    Raises:
        DataError: The folders hold something that this command did not make, or a photo changed while it worked.
        OSError: The disk is full or refuses; the same command goes on from there.
    """
    table = captures_bytes(rows)
    changes = _changes(dataset, rows, table, stats)
    strays = _strays(dataset, {row.path for row in rows})
    if changes:
        for name in (STATS, CAPTURES):
            (dataset / name).unlink(missing_ok=True)
    for stray in strays:
        stray.unlink()
    written = 0
    for number, row in enumerate(rows, 1):
        written += _place(dataset, row, source[row.path])
        if on_progress is not None:
            on_progress(number, len(rows))
    _remove_empty_folders(dataset)
    if written:
        os.sync()  # once for all photos: the tables must not outlive them in a power failure
    write_if_changed(dataset / CAPTURES, table)
    write_if_changed(dataset / STATS, stats)
    return Outcome(written, len(strays), changes)


def _changes(dataset: Path, rows: list[PhotoRow], table: bytes, stats: bytes) -> tuple[str, ...]:
    """Say how the plan differs from the tables on disk."""
    paths = [dataset / CAPTURES, dataset / STATS]
    if not all(path.is_file() for path in paths):
        begun = any((dataset / folder).exists() for folder in (COMBINED, OTHERS))
        return ("completed what an interrupted run had begun",) if begun else ("made",)
    if [path.read_bytes() for path in paths] == [table, stats]:
        return ()
    try:
        before = {row.path: row for row in read_captures(dataset)}
    except DataError:
        return (f"replaced {CAPTURES}, which could not be read",)
    now = {row.path: row for row in rows}
    added, removed = sorted(now.keys() - before.keys()), sorted(before.keys() - now.keys())
    both = sorted(now.keys() & before.keys())
    other_bytes = [path for path in both if now[path].sha256 != before[path].sha256]
    regrouped = [path for path in both if now[path].group != before[path].group]
    told = [
        f"{len(paths)} photo(s) {what}, first {paths[0]}"
        for what, paths in (
            ("added", added), ("removed", removed), ("with other bytes", other_bytes), ("in another group", regrouped),
        )
        if paths
    ]  # fmt: skip
    return tuple(told or ["the same photos; the statistics, settings or mapping changed"])


def _strays(dataset: Path, wanted: set[str]) -> list[Path]:
    """Return what an earlier run left and is not wanted; refuse what no run of this command can have made."""
    found: list[Path] = []
    for top in (COMBINED, OTHERS):
        for folder in _children(dataset / top):
            if folder.is_symlink() or not folder.is_dir():
                raise DataError(f"{folder} was not made by this command; move it out of {dataset / top}.")
            for path in _children(folder):
                if path.name.startswith(_PARTIAL):
                    found.append(path)
                elif not _is_ours(path, top):
                    raise DataError(f"{path} was not made by this command; move it out of {dataset / top}.")
                elif f"{top}/{folder.name}/{path.name}" not in wanted:
                    found.append(path)
    return found


def _children(folder: Path) -> list[Path]:
    if folder.is_symlink():
        raise DataError(f"{folder} is a link; this command writes there, so it must be a folder or absent.")
    return sorted(folder.iterdir()) if folder.exists() else []


def _is_ours(path: Path, top: str) -> bool:
    """Tell whether name and kind are those that this command makes."""
    if path.name.startswith(f"{_LINKED}_"):
        return top == COMBINED and path.is_symlink()
    prefix = f"{DOMAINS[1]}_" if top == COMBINED else f"{OTHER}_"
    return path.name.startswith(prefix) and path.is_file() and not path.is_symlink()


def _place(dataset: Path, row: PhotoRow, source: Path) -> bool:
    """Link or copy one photo; return False where it stands there already."""
    path = dataset / row.path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{_PARTIAL}{path.name}")
    if row.domain == _LINKED:
        target = os.path.relpath(source, path.parent.resolve())
        if path.is_symlink() and os.fspath(path.readlink()) == target:
            return False
        partial.symlink_to(target)
    else:
        if path.is_file() and path.stat().st_size == row.size and sha256_bytes(read_bytes(path)) == row.sha256:
            return False
        content = read_bytes(source)
        if sha256_bytes(content) != row.sha256:
            raise DataError(f"{source} changed while it was copied; run the same command again.")
        partial.write_bytes(content)
    partial.replace(path)
    return True


def _remove_empty_folders(dataset: Path) -> None:
    """Remove folders of classes that have no photo any more."""
    for top in (COMBINED, OTHERS):
        for folder in _children(dataset / top):
            if not any(folder.iterdir()):
                folder.rmdir()
        if (dataset / top).exists() and not any((dataset / top).iterdir()):
            (dataset / top).rmdir()
