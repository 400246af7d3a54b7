"""How server and worker talk over two pipes: a head in JSON, then raw bytes.

JSON and not pickle: the worker decodes photos of strangers, and nothing it says may run code in the server.
"""

import asyncio
import json
import struct
from typing import Any, BinaryIO

_LENGTHS = struct.Struct(">IQ")  # bytes of the head, bytes of what follows it


def pack(head: dict[str, Any], blobs: list[bytes]) -> list[bytes]:
    """The pieces of one frame, to be written one after the other.

    Args:
        head: Plain values; "sizes" is set by this function.
        blobs: Raw bytes that go with it.
    """
    text = json.dumps({**head, "sizes": [len(blob) for blob in blobs]}).encode()
    return [_LENGTHS.pack(len(text), sum(map(len, blobs))) + text, *blobs]


async def read_async(reader: asyncio.StreamReader) -> tuple[dict[str, Any], list[bytes]]:
    """One frame from the other side.

    Raises:
        asyncio.IncompleteReadError: If the other side has ended.
    """
    head_bytes, rest_bytes = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
    head = await reader.readexactly(head_bytes)
    return _unpack(head, await reader.readexactly(rest_bytes))


def read(stream: BinaryIO) -> tuple[dict[str, Any], list[bytes]] | None:
    """One frame from the other side; None where it has ended."""
    lengths = stream.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    head_bytes, rest_bytes = _LENGTHS.unpack(lengths)
    head, rest = stream.read(head_bytes), stream.read(rest_bytes)
    return _unpack(head, rest) if len(head) == head_bytes and len(rest) == rest_bytes else None


def _unpack(head_bytes: bytes, rest: bytes) -> tuple[dict[str, Any], list[bytes]]:
    head = json.loads(head_bytes)
    blobs, start = [], 0
    for size in head.pop("sizes"):
        blobs.append(rest[start : start + size])
        start += size
    return head, blobs
