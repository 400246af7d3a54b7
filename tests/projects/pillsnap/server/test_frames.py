import asyncio
import io

import pytest

from projects.pillsnap.server.frames import pack, read, read_async

FRAME = b'\0\0\0\x1a\0\0\0\0\0\0\0\3{"model": 1, "sizes": [2, 0, 1]}abc'
FRAME = FRAME.replace(b"\0\0\0\x1a", (len(b'{"model": 1, "sizes": [2, 0, 1]}')).to_bytes(4, "big"))


async def async_read(content):
    stream = asyncio.StreamReader()
    stream.feed_data(content)
    stream.feed_eof()
    return await read_async(stream)


def test_a_frame_is_two_lengths_a_head_and_raw_bytes():
    assert b"".join(pack({"model": 1}, [b"ab", b"", b"c"])) == FRAME
    expected = ({"model": 1}, [b"ab", b"", b"c"])
    assert read(io.BytesIO(FRAME)) == expected
    assert asyncio.run(async_read(FRAME)) == expected


def test_frames_follow_one_another_and_then_comes_the_end():
    stream = io.BytesIO(FRAME + b"".join(pack({}, [])))
    assert read(stream) == ({"model": 1}, [b"ab", b"", b"c"])
    assert read(stream) == ({}, [])
    assert read(stream) is None


@pytest.mark.parametrize("length", [0, 5, 12, 20, len(FRAME) - 1])
def test_a_frame_that_is_cut_off_is_no_frame(length):
    assert read(io.BytesIO(FRAME[:length])) is None
    with pytest.raises(asyncio.IncompleteReadError):
        asyncio.run(async_read(FRAME[:length]))
