"""What the routes answer, asked over a socket."""

import asyncio
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from projects.pillsnap.gateway import decode_photo
from projects.pillsnap.served_model import ServedModel
from projects.pillsnap.server.app import create_app
from projects.pillsnap.server.service import Service
from projects.pillsnap.server.settings import Settings
from tests.fabricate.pill_model import colours
from tests.fabricate.pill_server import encoded, form, plain_photo, strange_colour


def test_an_answer_is_what_the_model_says_of_the_decoded_square(server, tiny_model):
    pixels = np.random.default_rng(3).integers(0, 256, (90, 140, 3)).astype(np.uint8)
    photo = encoded(pixels, "PNG")
    status, _, answer = server.predict(photo, "image/png")
    model = ServedModel.load(tiny_model)
    expected = model.run(model.preprocess.square(decode_photo(photo))[None])
    order = np.argsort(-expected.probabilities[0])
    assert status == 200
    assert [candidate["kcode"] for candidate in answer["candidates"]] == [model.classes[k].kcode for k in order]
    shown = [candidate["probability"] for candidate in answer["candidates"]]
    np.testing.assert_allclose(shown, expected.probabilities[0][order], rtol=1e-6)
    assert answer["none_of_these"]["probability"] == pytest.approx(float(expected.none_of_these[0]), rel=1e-6)
    assert answer["preprocessing"] == {"version": 1, "digest": model.preprocess.digest()}
    assert answer["model"] == {"version": "tiny-1", "variant": "fp32"}
    assert answer["photo"]["size"] == [140, 90]
    assert "512" in answer["photo"]["warnings"][0]
    times = answer["timings_ms"]
    assert 0 < times["decode"] < times["total"]
    assert 0 < times["model"] < times["total"]


def test_a_pill_of_no_known_colour_is_decided_to_be_none_of_these(server):
    colour, highest = strange_colour(5)
    assert highest < 0.55
    known = server.predict(plain_photo(colours(5)[2]))[2]
    strange = server.predict(plain_photo(colour))[2]
    assert known["candidates"][0]["kcode"] == "K-000002"
    assert [answer["none_of_these"]["decided"] for answer in (known, strange)] == [False, True]
    assert strange["none_of_these"]["threshold"] == pytest.approx(0.3)
    assert strange["candidates"][0]["probability"] == pytest.approx(highest, abs=0.02)


def test_form_and_raw_body_get_the_same_answer(server):
    photo = plain_photo(colours(5)[1])
    body, headers = form([("note", None, b"x"), ("file", "a.jpg", photo)])
    by_form, raw = server.ask("POST", "/predict", body, headers)[2], server.predict(photo)[2]
    assert by_form["candidates"] == raw["candidates"]
    assert by_form["photo"] == raw["photo"]


def test_a_batch_has_an_answer_for_each_file_whatever_the_others_are(server):
    photo = plain_photo(colours(5)[4])
    body, headers = form([("files", "a.jpg", photo), ("files", "b<i>.txt", b"hello"), ("files", "c.jpg", photo[:200])])
    status, _, answer = server.ask("POST", "/predict/batch", body, headers)
    assert status == 200
    assert [item["status"] for item in answer["answers"]] == [200, 415, 422]
    assert answer["answers"][0]["prediction"]["candidates"][0]["kcode"] == "K-000004"
    assert answer["answers"][1]["problem"]["error"] == "not_an_image"
    assert answer["answers"][1]["filename"] == "b<i>.txt"


def test_a_batch_of_sixteen_is_taken_and_of_seventeen_refused(server):
    photo = plain_photo(colours(5)[0], (64, 64))
    for count, expected in ((16, 200), (17, 400)):
        body, headers = form([("files", f"{k}.jpg", photo) for k in range(count)])
        status, _, answer = server.ask("POST", "/predict/batch", body, headers)
        assert status == expected
    assert answer["detail"] == "the field 'files' has 17 files; 16 are allowed"


@pytest.mark.parametrize(
    ("method", "path", "kind", "body", "status", "error"),
    [
        ("POST", "/predict", "text/plain", b"hello", 415, "wrong_type"),
        ("POST", "/predict/batch", "image/jpeg", b"x", 415, "wrong_type"),
        ("POST", "/predict", "multipart/form-data", b"x", 400, "bad_form"),
        ("POST", "/predict", "multipart/form-data; boundary=a", b"x", 400, "bad_form"),
        ("POST", "/predict", "multipart/form-data; boundary=a", b"--a\r\n", 400, "bad_form"),
        ("POST", "/predict", "image/jpeg", b"", 400, "empty"),
        ("GET", "/predict", "", None, 405, "method_not_allowed"),
        ("GET", "/..%2f..%2fserve.py", "", None, 404, "not_found"),
        ("GET", "/<script>", "", None, 404, "not_found"),
    ],
)
def test_what_is_wrong_is_said_in_json(server, method, path, kind, body, status, error):
    found, headers, answer = server.ask(method, path, body, {"Content-Type": kind} if kind else {})
    assert (found, answer["error"]) == (status, error)
    assert set(answer) == {"error", "detail"}
    assert headers["Content-Type"] == "application/json"


def test_health_readiness_and_contract(server, tiny_model):
    preprocess = ServedModel.load(tiny_model).preprocess
    assert server.ask("GET", "/healthz")[::2] == (200, {"status": "alive"})
    status, _, ready = server.ask("GET", "/readyz")
    assert (status, ready["status"], ready["workers"]) == (200, "ready", len(server.workers))
    contract = server.ask("GET", "/preprocess")[2]
    assert contract["client"] == {
        "orientation": "apply EXIF, then drop it", "crop": "centre_square", "size_px": 512, "format": "image/jpeg",
        "jpeg_quality": 85,
    }  # fmt: skip
    assert contract["server"] == preprocess.get_config()
    assert contract["digest"] == preprocess.digest()
    assert contract["limits"]["max_photo_bytes"] == 10 * 1024 * 1024


def test_metrics_count_requests_photos_and_parts(server):
    names = (
        "pillsnap_requests_total",
        "pillsnap_photos_total",
        "pillsnap_part_seconds_count",
        "pillsnap_batch_photos_sum",
    )
    before = [server.metric(name) for name in names]
    server.predict(plain_photo((0.5, 0.5, 0.5)))
    server.predict(b"nothing")
    grown = [server.metric(name) - old for name, old in zip(names, before, strict=True)]
    assert grown[0] >= 2  # the pages of metrics count too
    assert grown[1:] == [2, 5, 2]
    page = server.ask("GET", "/metrics")[2].decode()
    assert re.search(r'pillsnap_photos_total\{format="none",valid="false"\} [1-9]', page)
    assert 'pillsnap_model_info{variant="fp32",version="tiny-1"} 1.0' in page
    assert "pillsnap_workers_alive 2.0" in page or len(server.workers) != 2


def test_each_refused_photo_is_counted_once(server):
    photo = plain_photo((0.5, 0.5, 0.5))
    several = form([("files", "a", photo), ("files", "b", b"hello"), ("files", "c", photo[:200]), ("files", "d", b"")])
    for request, more in (
        (("/predict/batch", *several), 3),
        (("/predict", *form([("file", "a", b"hello")])), 1),
        (("/predict", photo, {"Content-Type": "text/plain"}), 1),
        (("/predict", photo, {"Content-Type": "image/jpeg"}), 0),
    ):
        before = server.metric("pillsnap_rejected_total")
        server.ask("POST", *request)
        assert server.metric("pillsnap_rejected_total") - before == more


def test_a_failure_that_nobody_expected_is_told_in_json_and_logged(monkeypatch, caplog):
    service = Service(Settings(Path("x")))
    monkeypatch.setattr(service, "contract", lambda: 1 // 0)
    sent = asyncio.run(asked(create_app(service), "/preprocess"))
    head, body = sent[0], b"".join(message.get("body", b"") for message in sent[1:])
    headers = dict(head["headers"])
    assert head["status"] == 500
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert json.loads(body) == {"error": "internal", "detail": "the server failed on this request"}
    assert "ZeroDivisionError" in caplog.text
    assert b'status="500"' in service.metrics.text()


async def asked(app, path):
    """What an application sends for a GET without a server around it."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    await app(scope, receive, send)
    return sent


def test_a_size_is_that_of_the_upright_photo(server):
    schema = server.ask("GET", "/openapi.json")[2]["components"]["schemas"]["PhotoReport"]
    assert "upright" in schema["properties"]["size"]["description"]


def test_the_description_names_the_types_of_answers_and_errors(server):
    description = server.ask("GET", "/openapi.json")[2]
    predict = description["paths"]["/predict"]["post"]
    assert predict["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/Prediction")
    for status in ("400", "408", "413", "415", "422", "500", "503"):
        assert predict["responses"][status]["content"]["application/json"]["schema"]["$ref"].endswith("/Problem")
    assert set(predict["requestBody"]["content"]) == {"multipart/form-data", "image/jpeg", "image/png"}


def test_page_and_answers_carry_the_security_headers_and_none_of_cors(server):
    for path in ("/", "/page.js", "/healthz", "/missing"):
        headers = server.ask("GET", path, headers={"Origin": server.url})[1]
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert not [name for name in headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("headers", [{"Host": "pills.example"}, {"Origin": "https://pills.example"}])
def test_a_page_of_another_site_is_refused(server, headers):
    status, _, answer = server.ask("POST", "/predict", b"x", {"Content-Type": "image/jpeg", **headers})
    assert (status, answer["error"]) == (403, "forbidden")


def test_a_phone_photo_is_turned_upright(server):
    pixels = np.zeros((40, 80, 3), np.uint8)
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif)
    assert server.predict(buffer.getvalue())[2]["photo"]["size"] == [40, 80]
