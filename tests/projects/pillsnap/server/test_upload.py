import asyncio
import threading
from pathlib import Path

import pytest

from projects.pillsnap.server import upload
from projects.pillsnap.server.refusal import ClientGone, Refusal
from projects.pillsnap.server.settings import Settings
from projects.pillsnap.server.upload import Part, UploadReader, media_type, parse_form, photos_of_form, read_form
from tests.fabricate.pill_server import form

SETTINGS = Settings(Path("x"), grace_s=0.2, min_rate=1000.0, body_s=5.0, max_pending_mib=0.01)


def sender(*chunks, wait_s=0.0):
    """An ASGI channel that gives the chunks and then says that the client has gone."""
    messages = [
        {"type": "http.request", "body": chunk, "more_body": k + 1 < len(chunks)} for k, chunk in enumerate(chunks)
    ]

    async def receive():
        await asyncio.sleep(wait_s)
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    return receive


def test_a_body_is_read_whole_and_its_bytes_are_held_until_released():
    reader = UploadReader(SETTINGS)
    assert asyncio.run(reader.read(sender(b"ab", b"", b"c"), {"content-length": "3"}, 3)) == b"abc"
    assert reader.pending_bytes == 3
    reader.release(3)
    assert reader.pending_bytes == 0


@pytest.mark.parametrize(
    ("receive", "headers", "status", "sentence"),
    [
        (sender(b"abc"), {"content-length": "11"}, 413, "the request is larger than the 10 bytes that are allowed"),
        (sender(b"abcdef", b"abcdef"), {}, 413, "the request is larger than the 10 bytes that are allowed"),
        (sender(b"a", wait_s=1), {}, 408, "the body of the request came too slowly"),
    ],
)
def test_what_is_too_large_or_too_slow_is_refused_and_no_longer_held(receive, headers, status, sentence):
    reader = UploadReader(SETTINGS)
    with pytest.raises(Refusal, match=sentence) as caught:
        asyncio.run(reader.read(receive, headers, 10))
    assert (caught.value.status, caught.value.close, reader.pending_bytes) == (status, True, 0)


def test_all_uploads_together_have_one_budget():
    reader = UploadReader(SETTINGS)
    asyncio.run(reader.read(sender(bytes(10_000)), {}, 20_000))
    with pytest.raises(Refusal, match="too many uploads at once") as caught:
        asyncio.run(reader.read(sender(bytes(1000)), {}, 20_000))
    assert (caught.value.status, reader.pending_bytes) == (503, 10_000)


def test_a_client_that_goes_in_the_middle_is_noticed():
    reader = UploadReader(SETTINGS)
    with pytest.raises(ClientGone):
        asyncio.run(reader.read(sender(), {}, 10))
    assert reader.pending_bytes == 0


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("multipart/form-data; boundary=x", "form"),
        ("Image/JPEG", "raw"),
        ("application/octet-stream", "raw"),
        ("", "raw"),
    ],
)
def test_the_type_tells_a_form_from_a_photo(header, kind):
    assert media_type({"content-type": header}) == kind


def test_another_type_is_refused():
    with pytest.raises(Refusal, match="send the photo as multipart/form-data, or as the body with an image") as caught:
        media_type({"content-type": "text/html"})
    assert caught.value.status == 415


def test_a_form_is_its_parts():
    body, headers = form([("note", None, b"x"), ("file", 'a\\".jpg', b"\r\n--front\r\n"), ("file", "b", b"")])
    assert parse_form(body, headers["Content-Type"], 3) == [
        Part("note", None, b"x"), Part("file", 'a".jpg', b"\r\n--front\r\n"), Part("file", "b", b""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ([("other", "a", b"x")], "the form has 'other'; the photo must be in the field 'file'"),
        ([], "the form has nothing; the photo must be in the field 'file'"),
        ([("file", "a", b"x")] * 3, "the field 'file' has 3 files; 2 are allowed"),
        ([("file", "a", b"12345")], "a photo is larger than the 4 bytes that are allowed"),
        ([("x", None, b"")] * 11, "the form has more than 10 parts"),
    ],
)
def test_a_form_with_other_than_the_photos_asked_for_is_refused(parts, sentence):
    body, headers = form(parts)
    with pytest.raises(Refusal) as caught:
        photos_of_form(body, headers["Content-Type"], "file", 2, 4)
    assert caught.value.detail == sentence


@pytest.mark.parametrize(
    ("cut", "content_type", "sentence"),
    [
        (0, "multipart/form-data", "the Content-Type names no boundary of the form"),
        (6, None, "the form is cut off"),
        (0, "multipart/form-data; boundary=another", "the form cannot be read"),
    ],
)
def test_a_broken_form_is_refused(cut, content_type, sentence):
    body, headers = form([("file", "a", b"x")])
    with pytest.raises(Refusal) as caught:
        parse_form(body[: len(body) - cut], content_type or headers["Content-Type"], 3)
    assert (caught.value.status, caught.value.detail) == (400, sentence)


@pytest.mark.parametrize(("num_bytes", "in_thread"), [(1000, False), (2 << 20, True)])
def test_a_large_form_is_read_in_a_thread(monkeypatch, num_bytes, in_thread):
    threads = []

    def noting(*arguments):
        threads.append(threading.current_thread())
        return photos_of_form(*arguments)

    monkeypatch.setattr(upload, "photos_of_form", noting)
    body, headers = form([("file", "a", bytes(num_bytes))])
    (part,) = asyncio.run(read_form(body, headers["Content-Type"], "file", 1, num_bytes))
    assert part.data == bytes(num_bytes)
    assert (threads[0] is not threading.main_thread()) == in_thread


def test_a_large_form_is_refused_as_a_small_one_is():
    body, headers = form([("file", "a", bytes(2 << 20))])
    with pytest.raises(Refusal, match="a photo is larger than the 9 bytes"):
        asyncio.run(read_form(body, headers["Content-Type"], "file", 1, 9))
