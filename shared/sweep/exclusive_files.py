"""JSON files that only one of several writers can create: the compare-and-swap of the sweep ledger.

What it needs of the file system: `link` (or open with O_EXCL) fails for all but one, and a file that was closed is
read whole by others that open it afterwards. Local file systems, NFS (3 and 4), Lustre and GPFS do that.
"""

import errno
import json
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from shared.atomic import sync_folder
from shared.sweep.machine import is_alive, machine_tag

TEMPORARY = ".tmp"
DAMAGED = ".damaged-"
_TEMPORARY = re.compile(r"\..+\.([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.tmp")
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


def create(path: Path, content: dict[str, Any]) -> bool:
    """Create a file with its whole content at once, or leave alone the one that is there.

    The content is written beside, flushed to the disk, and linked to its name; where the file system has no links, the
    file itself is opened exclusively, and then a crash of the machine can leave it truncated.

    Args:
        path: Its folder is made if there is none.
        content: Plain values; NaN and infinity have no JSON.

    Returns:
        Whether this call created it; False: it was there.

    Raises:
        ValueError: The content is no JSON.
        OSError: The disk is full, the folder is read-only and the like; then the file was not created.
    """
    data = encode(content)
    temporary = _temporary(path)
    try:
        _write_new(temporary, data)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_new(temporary, data)
    try:
        created = _link(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    if created is None:
        created = _create_without_links(path, data)
    if created:
        sync_folder(path.parent)
    return created


def read(path: Path) -> dict[str, Any] | None:
    """Content of such a file; None where it is damaged: empty, truncated, no JSON, or no object.

    Raises:
        FileNotFoundError: There is none.
        OSError: It cannot be read.
    """
    return decode(path.read_bytes())


def replace(path: Path, content: dict[str, Any]) -> None:
    """Replace a file that has one writer; readers see the old or the new content.

    Not flushed to the disk: it is for what a crash of the machine may take along, such as heartbeats.

    Raises:
        OSError: It cannot be written; the old one is untouched.
    """
    temporary = _temporary(path)
    data = encode(content)
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def set_aside(path: Path, is_whole: Callable[[dict[str, Any]], bool] = lambda content: True) -> Path | None:
    """Rename a damaged file to `<name>.damaged-<6 hex>`, which frees its name.

    A file that turns out to be whole after all, because a slow writer finished it meanwhile, gets its name back.

    Args:
        path: The file.
        is_whole: Whether a readable content has the right shape.

    Returns:
        Its new place; None where another process was first or the file was whole.

    Raises:
        OSError: The folder is read-only and the like.
    """
    aside = path.with_name(f"{path.name}{DAMAGED}{secrets.token_hex(3)}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return None
    content = read(aside)
    if content is None or not is_whole(content):
        return aside
    if create(path, content):
        aside.unlink()
    return None


def encode(content: dict[str, Any]) -> bytes:
    """One line of JSON; the newline at its end tells a whole file from a truncated number.

    Raises:
        ValueError: NaN, infinity, or a type that JSON has not.
    """
    try:
        return json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
    except (TypeError, ValueError) as error:
        raise ValueError(f"only finite numbers, text, truth values, null, lists and mappings fit: {error}.") from error


def decode(data: bytes) -> dict[str, Any] | None:
    """The object that `encode` wrote; None where it is damaged."""
    if not data.endswith(b"\n"):
        return None
    try:
        content = json.loads(data)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def is_leftover(name: str) -> bool:
    """Whether a file is a temporary one of a process of this machine that was killed."""
    match = _TEMPORARY.fullmatch(name)
    return match is not None and match[1] == machine_tag() and not is_alive(int(match[2]))


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes of this machine left half-written beside their files."""
    with suppress(OSError):
        for path in folder.iterdir():
            if is_leftover(path.name):
                path.unlink()


def _temporary(path: Path) -> Path:
    """Name beside a file that tells whose it is; no listing takes it for the file."""
    return path.with_name(f".{path.name}.{machine_tag()}-{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY}")


def _write_new(path: Path, data: bytes) -> int:
    """Write a file that must not exist, to the disk; return its inode."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
        return os.fstat(descriptor).st_ino
    except BaseException:
        with suppress(OSError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                path.unlink()
        raise
    finally:
        os.close(descriptor)


def _link(temporary: Path, path: Path) -> bool | None:
    """Give the written file its name; None where the file system has no links.

    On NFS the answer to a link that was made can get lost, and its repetition then meets our own file: the number of
    links tells (open(2), O_EXCL).
    """
    try:
        os.link(temporary, path)
    except OSError as error:
        if temporary.stat().st_nlink == 2:
            return True
        if isinstance(error, FileExistsError):
            return False
        if error.errno in _NO_LINKS:
            return None
        raise
    return True


def _create_without_links(path: Path, data: bytes) -> bool:
    """Create by O_EXCL; a file that was set aside while we were writing it is not ours any more."""
    try:
        inode = _write_new(path, data)
    except FileExistsError:
        return False
    try:
        return path.stat().st_ino == inode
    except FileNotFoundError:
        return False
