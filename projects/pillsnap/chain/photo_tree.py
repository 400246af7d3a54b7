"""Find and hash the photos below a root that has one folder a K-code; say what was left out."""

import os
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from projects.pillsnap.chain.captures import OTHER
from projects.pillsnap.chain.files import Progress, is_kcode, read_bytes, sha256_files
from shared.errors import DataError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*", b"RIFF")
_NUM_NAMED = 20


@dataclass(frozen=True)
class SourcePhoto:
    """A photo where the user keeps it.

    Attributes:
        domain: studio, real or other.
        kcode: Name of its folder.
        name: Name of the file.
        file: Where it is; the root's links are resolved, its own are not.
        size: Bytes.
        sha256: Of the bytes, hexadecimal.
    """

    domain: str
    kcode: str
    name: str
    file: Path
    size: int
    sha256: str


@dataclass
class Skipped:
    """What a root holds that is not used.

    Attributes:
        unknown_folders: Folders that are no class of the mapping.
        counts: Why -> how many entries.
        examples: Some of the entries counted, below the root.
    """

    unknown_folders: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, why: str, where: str) -> None:
        """Count an entry."""
        self.counts[why] += 1
        if len(self.examples) < _NUM_NAMED:
            self.examples.append(where)


def scan_root(
    root: Path, domain: str, classes: Collection[str], on_progress: Progress | None = None
) -> tuple[list[SourcePhoto], Skipped]:
    """Find all photos of the classes below `root` and hash them.

    Args:
        root: Folder with one folder a K-code.
        domain: studio or real: only folders of `classes` are read; other: all are, and none may be of `classes`.
        classes: K-codes of the mapping.
        on_progress: Called with (photos hashed, photos in all).

    Returns:
        The photos by K-code and name, and what was left out: hidden files, files that are no image by suffix or by
        their first bytes, folders inside a class's folder, folders of no class.

    Raises:
        DataError: The root is missing, a link leads out of it or nowhere, a name cannot stand in a table, a folder
            cannot be a K-code, or a drug of `others` is one of the classes.
    """
    if not root.is_dir():
        raise DataError(f"the {domain} root {root} is no folder; it must hold one folder a K-code.")
    root = root.resolve()
    skipped = Skipped()
    files = [
        (folder.name, entry)
        for folder in _class_folders(root, domain, set(classes), skipped)
        for entry in _image_files(root, Path(folder.path), skipped)
    ]
    hashed = sha256_files([file for _, file in files], on_progress)
    photos = [
        SourcePhoto(domain, kcode, file.name, file, size, sha256)
        for (kcode, file), (sha256, size) in zip(files, hashed, strict=True)
    ]
    return photos, skipped


def _class_folders(root: Path, domain: str, classes: set[str], skipped: Skipped) -> Iterator[os.DirEntry[str]]:
    """Yield the folders to read, by name."""
    for entry in _entries(root, root):
        if entry.name.startswith("."):
            skipped.add("hidden", entry.name)
        elif not entry.is_dir():
            skipped.add("beside the class folders", entry.name)
        elif domain != OTHER and entry.name not in classes:
            skipped.unknown_folders.append(entry.name)
        elif not is_kcode(entry.name):
            raise DataError(f"the folder {entry.path} cannot be a K-code; allowed are letters, digits, '.', '_', '-'.")
        elif domain == OTHER and entry.name in classes:
            raise DataError(
                f"the folder {entry.path} is the class {entry.name} of the mapping; the root of others holds drugs "
                "that are none of the classes."
            )
        else:
            yield entry


def _image_files(root: Path, folder: Path, skipped: Skipped) -> Iterator[Path]:
    """Yield the images of one class, by name."""
    for entry in _entries(root, folder):
        where = f"{folder.name}/{entry.name}"
        if entry.name.startswith("."):
            skipped.add("hidden", where)
        elif entry.is_dir():
            skipped.add("folder inside a class folder", where)
        elif not entry.is_file() or Path(entry.name).suffix.lower() not in SUFFIXES:
            skipped.add("no image by its name", where)
        elif not _begins_as_image(Path(entry.path)):
            skipped.add("no image by its first bytes", where)
        else:
            yield Path(entry.path)


def _entries(root: Path, folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder by name, after a look at their names and where links lead."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be read ({error.strerror}).") from error
    for entry in entries:
        if not entry.name.isprintable():  # line ends, and bytes that are no UTF-8
            raise DataError(f"the name {entry.name!r} in {folder} holds characters that cannot be printed; rename it.")
        if entry.is_symlink():
            target = Path(os.path.realpath(entry.path))  # unlike Path.resolve, takes a link to itself
            if not target.exists():
                raise DataError(f"{entry.path} is a link to {target}, which does not exist; remove or mend it.")
            if not target.is_relative_to(root):
                raise DataError(
                    f"{entry.path} is a link to {target}, outside {root}; put the photos there, or give the root they "
                    "are in."
                )
    return entries


def _begins_as_image(file: Path) -> bool:
    """Tell whether the first bytes are those of an image format; whether it decodes is for the gateway to tell."""
    try:
        with file.open("rb") as stream:
            return stream.read(8).startswith(_MAGIC)
    except OSError:
        read_bytes(file)  # the sentence about a file that cannot be read
        raise
