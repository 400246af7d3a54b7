"""The files below a data root: which are CT slices by their name, and where their JSON labels may lie."""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import ConfigError, DataError
from shared.sample_index import PackedStrings

DEFAULT_PATTERN = r"CT_(?P<kind>cell|module)(?:_(?P<form>[a-z]+))?_(?P<battery>\d+)_(?P<axis>[xyz])_(?P<slice>\d+)\.png"
"""Matches e.g. CT_cell_pouch_0109_x_0123.png; the form may be absent, as a module need not have one."""

GROUPS: tuple[str, ...] = ("kind", "form", "battery", "axis", "slice")
"""Named groups that a file-name pattern must have."""

IMAGE_FOLDER, LABEL_FOLDER = "images", "labels"


@dataclass(frozen=True)
class Listing:
    """What lies below a root.

    Attributes:
        images: Ids of the files whose name matches the pattern: path below the root, by folder, then by name.
        num_unmatched: Image files whose name does not match.
        unmatched_example: One such id, empty without one.
        num_labels: JSON files named like a matching image.
        label_folders: Folders (relative, "" for the root) that hold at least one JSON file.
        num_files: Images and JSON files together.
        num_bytes: Their total size.
        newest_mtime_ns: Their newest modification time, nanoseconds since the epoch.
        digest: blake2b-128 (hex) over path, size and modification time of each: changes when any file does.
    """

    images: PackedStrings
    num_unmatched: int
    unmatched_example: str
    num_labels: int
    label_folders: frozenset[str]
    num_files: int
    num_bytes: int
    newest_mtime_ns: int
    digest: str


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile the file-name pattern of the config.

    Raises:
        ConfigError: It is no regular expression, or lacks one of the named groups.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"data.file_pattern {pattern!r} is no regular expression ({error}); an example is {DEFAULT_PATTERN!r}."
        ) from error
    missing = [name for name in GROUPS if name not in compiled.groupindex]
    if missing:
        raise ConfigError(
            f"data.file_pattern {pattern!r} lacks the named groups {', '.join(missing)}; "
            f"all of {', '.join(GROUPS)} are needed, as in {DEFAULT_PATTERN!r}."
        )
    return compiled


def list_folder(root: Path, pattern: str) -> Listing:
    """List the images and labels below `root`, at any depth; links are followed, hidden files are left out.

    Args:
        root: Data root.
        pattern: Regular expression for the whole file name of an image.

    Raises:
        ConfigError: The pattern cannot be used.
        DataError: The root is missing or no folder, holds no image, or no image's name matches.
    """
    compiled = compile_pattern(pattern)
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise DataError(f"data folder {root} is not a folder ({found} is there); set data.root to where the data lies.")
    count = _Count()
    images = PackedStrings.pack(_matching(root, compiled, count))
    if len(images) == 0 and count.num_unmatched == 0:
        raise DataError(f"data folder {root} holds no PNG image at any depth; set data.root to where the data lies.")
    if len(images) == 0:
        raise DataError(
            f"none of the {count.num_unmatched} PNG images below {root} matches data.file_pattern: an example is "
            f"{count.unmatched_example!r}, the pattern is {pattern!r}."
        )
    return Listing(
        images=images,
        num_unmatched=count.num_unmatched,
        unmatched_example=count.unmatched_example,
        num_labels=count.num_labels,
        label_folders=frozenset(count.label_folders),
        num_files=count.num_files,
        num_bytes=count.num_bytes,
        newest_mtime_ns=count.newest_mtime_ns,
        digest=count.digest.hexdigest(),
    )


def label_candidates(image_id: str, label_folders: frozenset[str]) -> Iterator[str]:
    """Yield the ids where the label of an image may lie, only in folders that hold JSON files at all.

    For a/images/b/X.png these are a/images/b/X.json, a/images/labels/X.json, a/labels/b/X.json and a/labels/X.json.

    Args:
        image_id: Path of the image below the root.
        label_folders: As in `Listing`.
    """
    folder, _, name = image_id.rpartition("/")
    stem = name.rsplit(".", 1)[0]
    parts = folder.split("/") if folder else []
    folders = [folder, "/".join([*parts[:-1], LABEL_FOLDER])]
    for place, part in enumerate(parts):
        if part == IMAGE_FOLDER:
            folders.append("/".join([*parts[:place], LABEL_FOLDER, *parts[place + 1 :]]))
            folders.append("/".join([*parts[:place], LABEL_FOLDER]))
    for candidate in dict.fromkeys(folders):
        if candidate in label_folders:
            yield f"{candidate}/{stem}.json" if candidate else f"{stem}.json"


@dataclass
class _Count:
    """Totals that grow during the walk."""

    num_unmatched: int = 0
    unmatched_example: str = ""
    num_labels: int = 0
    label_folders: set[str] = field(default_factory=set)
    num_files: int = 0
    num_bytes: int = 0
    newest_mtime_ns: int = 0
    digest: hashlib.blake2b = field(default_factory=lambda: hashlib.blake2b(digest_size=16))

    def add_file(self, file_id: str, found: os.stat_result) -> None:
        self.num_files += 1
        self.num_bytes += found.st_size
        self.newest_mtime_ns = max(self.newest_mtime_ns, found.st_mtime_ns)
        self.digest.update(f"{file_id}\0{found.st_size}\0{found.st_mtime_ns}\n".encode(errors="surrogateescape"))


def _matching(root: Path, pattern: re.Pattern[str], count: _Count) -> Iterator[str]:
    """Yield the ids of matching images while counting everything else."""
    for folder, name, found in _walk(str(root), "", set()):
        file_id = f"{folder}/{name}" if folder else name
        stem, _, suffix = name.rpartition(".")
        if suffix.lower() == "json":
            count.add_file(file_id, found)
            count.label_folders.add(folder)
            count.num_labels += pattern.fullmatch(f"{stem}.png") is not None
        elif suffix.lower() == "png":
            count.add_file(file_id, found)
            if pattern.fullmatch(name):
                yield file_id
            else:
                count.num_unmatched += 1
                count.unmatched_example = count.unmatched_example or file_id


def _walk(path: str, relative: str, seen: set[tuple[int, int]]) -> Iterator[tuple[str, str, os.stat_result]]:
    """Yield (relative folder, name, stat) of all files; each real folder once, so a loop of links ends."""
    try:
        here = Path(path).stat()
        # Names only: entries of `scandir` keep their stat result, about 1 kB each, until the folder is done.
        names = sorted(name for name in os.listdir(path) if not name.startswith("."))  # noqa: PTH208 - names only
    except OSError as error:
        raise DataError(f"data folder {path} cannot be read ({error.strerror}); allow reading it.") from error
    if (here.st_dev, here.st_ino) in seen:
        return
    seen.add((here.st_dev, here.st_ino))
    folders: list[str] = []
    for name in names:
        try:
            found = os.stat(f"{path}/{name}")  # noqa: PTH116 - half a million Path objects cost seconds
        except OSError as error:
            raise DataError(f"{path}/{name} cannot be read ({error.strerror}); a dead link must go.") from error
        if stat.S_ISDIR(found.st_mode):
            folders.append(name)
        else:
            yield relative, name, found
    for name in folders:
        yield from _walk(f"{path}/{name}", f"{relative}/{name}" if relative else name, seen)
