"""Reading what a client sends: never more than is allowed, never slower than is allowed."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from projects.pillsnap.server.refusal import ClientGone, Refusal
from projects.pillsnap.server.settings import MIB, Settings

Receive = Callable[[], Awaitable[Any]]

FORM_OVERHEAD = 64 * 1024  # boundaries and heads of the parts
MAX_FIELDS = 8  # fields of a form beside its files
THREAD_FROM_BYTES = 1 << 20  # parsing so much takes milliseconds, in which nobody else would be served
RAW_TYPES = ("application/octet-stream", "")


@dataclass(frozen=True)
class Part:
    """One part of a form.

    Attributes:
        field: Name of its field.
        filename: Name of the file as the client calls it; None if it is no file.
        data: Its content.
    """

    field: str
    filename: str | None
    data: bytes


class UploadReader:
    """Reads bodies within the limits of the settings, and within one budget of memory for all together."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pending = 0

    @property
    def pending_bytes(self) -> int:
        """Bytes of all uploads that are in memory now."""
        return self._pending

    def release(self, num_bytes: int) -> None:
        """Say that an upload of that size has been answered."""
        self._pending -= num_bytes

    async def read(self, receive: Receive, headers: Mapping[str, str], most: int) -> bytes:
        """The whole body; hand its length to `release` when it is no longer needed.

        Args:
            receive: The request's ASGI channel.
            headers: Its headers.
            most: Largest body in bytes.

        Raises:
            Refusal: 413 too large, 408 too slow, 503 no memory left for uploads; the connection is then closed.
            ClientGone: If the client went away.
        """
        if int(headers.get("content-length") or 0) > most:
            raise _too_large(most)
        settings, chunks, total = self._settings, [], 0
        start = time.monotonic()
        try:
            while True:
                # To go on it must have sent min_rate bytes for each second after the head start.
                slow_at = start + settings.grace_s + total / settings.min_rate
                left = min(slow_at, start + settings.body_s) - time.monotonic()
                message = await _receive(receive, left)
                chunk = message.get("body", b"")
                total += len(chunk)
                self._pending += len(chunk)
                chunks.append(chunk)
                if total > most:
                    raise _too_large(most)
                if self._pending > settings.max_pending_mib * MIB:
                    raise Refusal(503, "busy", "too many uploads at once; try again", retry_after_s=1, close=True)
                if not message.get("more_body", False):
                    return b"".join(chunks)
        except BaseException:
            self._pending -= total
            raise


async def _receive(receive: Receive, left_s: float) -> Mapping[str, Any]:
    try:
        async with asyncio.timeout(left_s):
            message: Mapping[str, Any] = await receive()
    except TimeoutError:
        raise Refusal(408, "too_slow", "the body of the request came too slowly", close=True) from None
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message


def _too_large(most: int) -> Refusal:
    return Refusal(413, "too_large", f"the request is larger than the {most} bytes that are allowed", close=True)


def media_type(headers: Mapping[str, str]) -> str:
    """Tell by Content-Type whether the body is a "form" or a "raw" photo.

    Raises:
        Refusal: 415 for anything that is neither a form nor a photo.
    """
    kind = headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return "form"
    if kind.startswith("image/") or kind in RAW_TYPES:
        return "raw"
    detail = "send the photo as multipart/form-data, or as the body with an image/* content type"
    raise Refusal(415, "wrong_type", detail, close=True)


async def read_form(body: bytes, content_type: str, field: str, most_files: int, most_bytes: int) -> list[Part]:
    """`photos_of_form`, in a thread where the body is large, so that other requests go on meanwhile."""
    if len(body) < THREAD_FROM_BYTES:
        return photos_of_form(body, content_type, field, most_files, most_bytes)
    return await asyncio.to_thread(photos_of_form, body, content_type, field, most_files, most_bytes)


def photos_of_form(body: bytes, content_type: str, field: str, most_files: int, most_bytes: int) -> list[Part]:
    """The files in one field of a form.

    Args:
        body: The whole body.
        content_type: The header, which names the boundary.
        field: Name of the field.
        most_files: Most files.
        most_bytes: Largest file.

    Raises:
        Refusal: 400 if the form is broken, has no such file or too many; 413 if a file is too large.
    """
    parts = parse_form(body, content_type, most_files + MAX_FIELDS)
    files = [part for part in parts if part.field == field]
    if not files:
        found = ", ".join(sorted({repr(part.field) for part in parts})) or "nothing"
        raise Refusal(400, "bad_form", f"the form has {found[:200]}; the photo must be in the field '{field}'")
    if len(files) > most_files:
        raise Refusal(400, "bad_form", f"the field '{field}' has {len(files)} files; {most_files} are allowed")
    if max(len(part.data) for part in files) > most_bytes:
        raise Refusal(413, "too_large", f"a photo is larger than the {most_bytes} bytes that are allowed")
    return files


def parse_form(body: bytes, content_type: str, most_parts: int) -> list[Part]:
    """All parts of a multipart form.

    Raises:
        Refusal: 400 if it is broken or has too many parts.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise Refusal(400, "bad_form", "the Content-Type names no boundary of the form")
    collector = _Collector(most_parts)
    try:
        parser = MultipartParser(boundary, collector.callbacks())
        parser.write(body)
        parser.finalize()
    except (MultipartParseError, ValueError, UnicodeDecodeError):
        raise Refusal(400, "bad_form", "the form cannot be read") from None
    if not collector.ended:
        raise Refusal(400, "bad_form", "the form is cut off")
    return collector.parts


class _Collector:
    """Takes what the parser finds."""

    def __init__(self, most_parts: int) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._most = most_parts
        self._name = self._value = b""
        self._disposition = b""
        self._pieces: list[bytes] = []

    def callbacks(self) -> Any:
        """The parser's hooks."""
        return {
            "on_part_begin": self._begin, "on_header_field": self._header_field, "on_header_value": self._header_value,
            "on_header_end": self._header_end, "on_part_data": self._data, "on_part_end": self._end,
            "on_end": self._finish,
        }  # fmt: skip

    def _begin(self) -> None:
        if len(self.parts) >= self._most:
            raise Refusal(400, "bad_form", f"the form has more than {self._most} parts")
        self._name = self._value = self._disposition = b""
        self._pieces = []

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(data[start:end])

    def _end(self) -> None:
        _, options = parse_options_header(self._disposition)
        filename = options.get(b"filename")
        self.parts.append(
            Part(
                options.get(b"name", b"").decode("utf-8", "replace"),
                None if filename is None else filename.decode("utf-8", "replace"),
                b"".join(self._pieces),
            )
        )

    def _finish(self) -> None:
        self.ended = True
