"""The folder `ledger/` of a sweep: one file an event, read once, since an event never changes."""

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from shared.errors import DataError
from shared.sweep import exclusive_files
from shared.sweep.states import KINDS, OF_A_LEASE, Event

SCHEMA = 1
GRACE_S = 2.0
"""How long an unreadable file may be one that a writer without links has not finished."""
SKEW_S = 60.0

_NAME = re.compile(r"([0-9a-f]{12})\.(\d{4,})\.json")
_NEEDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "running": {"token": str, "machine": str, "born": (int, float)},
    "opened": {"run": str},
    "done": {"outcome": dict},
    "failed": {"error": str},
    "interrupted": {"reason": str},
    "retry": {},
}
_logger = logging.getLogger(__name__)


class Notices:
    """Sentences about what is odd in a sweep's folder, each told once: to the log, and kept for who shows them."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self._known: set[str] = set()

    def tell(self, key: str, sentence: str) -> None:
        """Tell a sentence unless something was told under this key."""
        if key not in self._known:
            self._known.add(key)
            self.sentences.append(sentence)
            _logger.warning(sentence)


class EventFiles:
    """Reads and creates the event files; keeps what it has read.

    Args:
        folder: The folder `ledger`, which need not exist.
        host: Name of this machine.
        notices: Where oddities are told.
        clock: Monotonic seconds.
        read_only: A damaged file stays where it is, and so do leftovers of writers that were killed.
    """

    def __init__(
        self,
        folder: Path,
        host: str,
        notices: Notices,
        clock: Callable[[], float] = time.monotonic,
        read_only: bool = False,
    ) -> None:
        self.folder = folder
        self._read_only = read_only
        self.host = host
        self._notices = notices
        self._clock = clock
        self._events: dict[str, dict[int, Event]] = {}
        self._known: set[str] = set()
        self._unreadable: dict[str, tuple[tuple[int, int, int], float]] = {}

    def refresh(self) -> set[str]:
        """Read what is new in the whole folder; return the ids of points with new events."""
        changed: set[str] = set()
        for shard in _entries(self.folder):
            if len(shard.name) == 2 and shard.is_dir():
                changed |= self._read_folder(Path(shard.path))
            else:
                self._tell_foreign(shard.name)
        return changed

    def refresh_point(self, point: str) -> bool:
        """Read what is new about one point; return whether there was anything."""
        return point in self._read_folder(self.folder / point[:2], f"{point}.")

    def events(self, point: str) -> list[Event]:
        """Return the events of a point that were read so far, in order."""
        known = self._events.get(point, {})
        return [known[n] for n in sorted(known)]

    def points(self) -> list[str]:
        """Return the ids of all points with events."""
        return list(self._events)

    def path(self, point: str, n: int) -> Path:
        """File of an event, whether there or not."""
        return self.folder / point[:2] / f"{point}.{n:04d}.json"

    def is_waiting(self, point: str, n: int) -> bool:
        """Whether that event's file is there but unreadable so far, so that its name is not free yet."""
        return self.path(point, n).name in self._unreadable

    def has(self, point: str, n: int, token: str) -> bool:
        """Whether the file of a `running` event is still there and of this lease; it is read again.

        Raises:
            OSError: The file system does not tell now.
        """
        try:
            content = exclusive_files.read(self.path(point, n))
        except FileNotFoundError:
            return False
        return content is not None and content.get("token") == token

    def create(self, point: str, n: int, kind: str, data: dict[str, Any]) -> Event | None:
        """Create an event; None: that number was taken before.

        Raises:
            DataError: The folder cannot be written.
            ValueError: The data are no JSON.
        """
        event = Event(point, n, kind, time.time(), self.host, os.getpid(), data)
        path = self.path(point, n)
        content = {"schema": SCHEMA, "point": point, "n": n, "kind": kind, "t": event.t, "host": event.host}
        with writing(path):
            created = exclusive_files.create(path, content | {"pid": event.pid} | data)
        if not created:
            return None
        self._keep(path.name, event)
        return event

    def _keep(self, name: str, event: Event) -> None:
        self._events.setdefault(event.point, {})[event.n] = event
        self._known.add(name)
        self._unreadable.pop(name, None)

    def _read_folder(self, folder: Path, prefix: str = "") -> set[str]:
        """Read the new files of one folder whose names begin so; return the ids of their points."""
        changed: set[str] = set()
        for entry in _entries(folder):
            name = entry.name
            if name in self._known or not name.startswith(prefix):
                continue
            if name.startswith(".") and name.endswith(exclusive_files.TEMPORARY):
                if not self._read_only and exclusive_files.is_leftover(name):
                    with suppress(OSError):
                        Path(entry.path).unlink()
                continue
            match = _NAME.fullmatch(name)
            if match is None or match[1][:2] != folder.name:
                if exclusive_files.DAMAGED not in name:
                    self._tell_foreign(f"{folder.name}/{name}")
                continue
            if self._read(Path(entry.path), match[1], int(match[2])):
                changed.add(match[1])
        return changed

    def _read(self, path: Path, point: str, n: int) -> bool:
        """Read one event file; return whether it is an event."""
        try:
            with path.open("rb") as stream:
                status = os.fstat(stream.fileno())
                content = exclusive_files.decode(stream.read())
        except FileNotFoundError:
            return False  # another process has just set it aside
        except IsADirectoryError:
            raise DataError(f"{path} is a folder where the file of an event must be; move it elsewhere.") from None
        if content is not None and isinstance(content.get("schema"), int) and content["schema"] > SCHEMA:
            raise DataError(
                f"{path} has schema {content['schema']}, and this version reads up to {SCHEMA}: "
                "a newer version has written to this sweep; use that one."
            )
        event = None if content is None else _parse(content, point, n)
        if event is None:
            self._wait_or_set_aside(path, (status.st_ino, status.st_size, status.st_mtime_ns))
            return False
        self._keep(path.name, event)
        if event.host != self.host and abs(event.t - status.st_mtime) > SKEW_S:
            self._notices.tell(
                f"skew {event.host}",
                f"the clock of host {event.host} and that of the file system differ by about "
                f"{event.t - status.st_mtime:+.0f} s ({path.name}); nothing depends on it, only shown times are off.",
            )
        return True

    def _wait_or_set_aside(self, path: Path, form: tuple[int, int, int]) -> None:
        """Set a file aside that has stayed unreadable; until then a writer may be at it."""
        before = self._unreadable.get(path.name)
        if before is None or before[0] != form:
            self._unreadable[path.name] = (form, self._clock())
            return
        if self._read_only or self._clock() - before[1] < GRACE_S:
            return
        try:
            point, n = _number(path.name)
            aside = exclusive_files.set_aside(path, lambda content: _parse(content, point, n) is not None)
        except OSError as error:
            self._notices.tell(f"damaged {path.name}", f"event file {path} is damaged and stays ({error.strerror}).")
            return
        self._unreadable.pop(path.name, None)
        if aside is not None:
            self._notices.tell(
                f"damaged {path.name}",
                f"event file {path} was empty, truncated or no event; it is kept as {aside.name}, and the point "
                "goes on from the events before it.",
            )

    def _tell_foreign(self, name: str) -> None:
        self._notices.tell(f"foreign {name}", f"{self.folder / name} is no file of a sweep and is ignored.")


class writing:  # noqa: N801 - reads as a phrase: with writing(path)
    """Turns an OSError while a file of a sweep is written into one sentence.

    Raises:
        DataError: In place of the OSError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise DataError(
                f"cannot write {self.path}: {error.strerror or error}; the folder of a sweep must be writable and its "
                "disk must have room."
            ) from error


def _number(name: str) -> tuple[str, int]:
    """Split the name of an event file."""
    point, n, _ = name.split(".")
    return point, int(n)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield what is in a folder; nothing where there is none."""
    try:
        with os.scandir(folder) as found:
            yield from found
    except FileNotFoundError:
        return


def _parse(content: dict[str, Any], point: str, n: int) -> Event | None:
    """Return the event that a file holds, None for any other shape or name."""
    content = dict(content)  # what was read may have to be written back
    head = {key: content.pop(key, None) for key in ("schema", "point", "n", "kind", "t", "host", "pid")}
    kind, t, host, pid = head["kind"], head["t"], head["host"], head["pid"]
    if head["schema"] != SCHEMA or head["point"] != point or head["n"] != n or kind not in KINDS:
        return None
    if not isinstance(t, int | float) or not isinstance(host, str) or not isinstance(pid, int):
        return None
    needs = _NEEDS[kind] | ({"lease": int, "token": str} if kind in OF_A_LEASE else {})
    if any(not isinstance(content.get(key), of) for key, of in needs.items()):
        return None
    return Event(point, n, kind, float(t), host, pid, content)
