"""Where the bytes of an image come from: a folder or a zip file, behind one method."""

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any, Protocol

from shared.errors import DataError


class ImageReader(Protocol):
    """Gives the bytes of a sample; must be safe to use in forked and spawned loader workers and from threads."""

    def read(self, sample_id: str) -> bytes:
        """Return all bytes of the file behind `sample_id`.

        Raises:
            DataError: The file is missing or cannot be read.
        """
        ...


class FolderReader:
    """Reads files below a root folder; the sample id is the path below it, '/' separated."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, sample_id: str) -> bytes:
        """Return the bytes of one file."""
        path = self.root / sample_id
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(
                f"image {path} cannot be read ({error.strerror}); it was there when the folder was scanned."
            ) from error


class ZipReader:
    """Reads members of a zip file lazily; nothing is extracted, so no member can write outside a folder.

    Forked workers share the file position of an inherited handle and would read each other's bytes. Each process
    therefore opens the file itself, at its first read; pickling leaves the handle behind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive: zipfile.ZipFile | None = None
        self._owner_pid = -1

    def read(self, sample_id: str) -> bytes:
        """Return the bytes of one member."""
        try:
            return self._open().read(sample_id)
        except KeyError as error:
            raise DataError(f"{self.path} holds no member {sample_id!r}; unpack a whole copy of it.") from error
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise DataError(f"member {sample_id!r} of {self.path} cannot be read ({error}); copy it again.") from error

    def names(self) -> list[str]:
        """Return the names of all members.

        Raises:
            DataError: The file is no zip file or is cut off.
        """
        try:
            return self._open().namelist()
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path} is no readable zip file ({error}); copy it again.") from error

    def close(self) -> None:
        """Close the file in this process; the next read opens it again."""
        if self._archive is not None and self._owner_pid == os.getpid():
            self._archive.close()
        self._archive = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_archive": None, "_owner_pid": -1}

    def _open(self) -> zipfile.ZipFile:
        """Return this process's own handle. ZipFile itself guards reads from several threads with a lock."""
        if self._archive is None or self._owner_pid != os.getpid():
            self._archive = zipfile.ZipFile(self.path)
            self._owner_pid = os.getpid()
        return self._archive
