"""The routes."""

import contextlib
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse, Response

from projects.pillsnap.server.answers import (
    BatchPrediction,
    Contract,
    Health,
    Prediction,
    Problem,
    Readiness,
    Spoken,
)
from projects.pillsnap.server.refusal import Refusal
from projects.pillsnap.server.security import App, Guard, access_of, failed
from projects.pillsnap.server.service import MAX_PHOTO_BYTES, Service, item_of, model_of
from projects.pillsnap.server.upload import FORM_OVERHEAD, media_type, read_form

CLIENT = Path(__file__).parents[1] / "client"
NAMES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_STATUSES = (400, 403, 408, 413, 415, 422, 500, 503)
_PROBLEMS: dict[int | str, dict[str, Any]] = {status: {"model": Problem} for status in _STATUSES}
_UNREADY: dict[int | str, dict[str, Any]] = {503: {"model": Problem}}


def create_app(service: Service) -> App:
    """The application around a service; whoever makes it runs `service.pool`."""
    app = FastAPI(
        title="pillsnap",
        version="1",
        description="Which pill is this? Five candidates from one photo.",
        docs_url=None,  # its page loads scripts from another host
        redoc_url=None,
    )
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _failed)
    _add_predict(app, service)
    _add_predict_batch(app, service)
    _add_status(app, service)
    _add_page(app)
    access = access_of(service.settings.host, service.settings.names)
    return Guard(app, access, service.metrics.count_request)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.response()


async def _failed(request: Request, error: Exception) -> Response:
    """What nobody expected; Starlette raises it again once this is sent, and the guard around writes it to the log."""
    return failed().response()


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    name = NAMES.get(error.status_code, "bad_request")
    body = Problem(error=name, detail=f"{error.detail}: {request.method} {request.url.path[:200]}")
    return JSONResponse(body.model_dump(), error.status_code, error.headers)


def _json(answer: Spoken, status: int = 200) -> Response:
    """Serialised once, by pydantic; FastAPI would check a second time what has its type already."""
    return Response(answer.model_dump_json(), status, media_type="application/json")


def _form(field: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"schema": {"type": "object", "required": [field], "properties": {field: schema}}}


def _add_predict(app: FastAPI, service: Service) -> None:
    one = {"multipart/form-data": _form("file", _BINARY["schema"]), "image/jpeg": _BINARY, "image/png": _BINARY}

    @app.post("/predict", response_model=Prediction, responses=_PROBLEMS, openapi_extra=_body(one))
    async def predict(request: Request) -> Response:
        """Five candidates for one photo: a form with the field `file`, or the photo itself as the body."""
        started = time.monotonic()
        with _counted(service):
            service.check_open()
            kind = media_type(request.headers)
            most = MAX_PHOTO_BYTES + (FORM_OVERHEAD if kind == "form" else 0)
            body = await service.uploads.read(request.receive, request.headers, most)
            try:
                photo = body
                if kind == "form":
                    photo = (await read_form(body, request.headers["content-type"], "file", 1, MAX_PHOTO_BYTES))[0].data
                (answer,) = await service.answer([photo], request.receive, started)
            finally:
                service.uploads.release(len(body))
            if isinstance(answer, Refusal):
                raise answer
            return _json(answer)


def _add_predict_batch(app: FastAPI, service: Service) -> None:
    several = {"multipart/form-data": _form("files", {"type": "array", "items": _BINARY["schema"]})}

    @app.post("/predict/batch", response_model=BatchPrediction, responses=_PROBLEMS, openapi_extra=_body(several))
    async def predict_batch(request: Request) -> Response:
        """Candidates for several photos: a form with up to 16 files in the field `files`; an answer for each."""
        started = time.monotonic()
        with _counted(service) as refused:
            service.check_open()
            if media_type(request.headers) != "form":
                raise Refusal(415, "wrong_type", "send the photos as a form in the field 'files'", close=True)
            body = await service.uploads.read(request.receive, request.headers, service.max_form_bytes)
            try:
                form_type, most_files = request.headers["content-type"], service.settings.max_files
                parts = await read_form(body, form_type, "files", most_files, MAX_PHOTO_BYTES)
                answers = await service.answer([part.data for part in parts], request.receive, started)
            finally:
                service.uploads.release(len(body))
            refused += [answer for answer in answers if isinstance(answer, Refusal)]
            items = [item_of(part.filename, answer) for part, answer in zip(parts, answers, strict=True)]
            return _json(BatchPrediction(answers=items))


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}}


@contextlib.contextmanager
def _counted(service: Service) -> Iterator[list[Refusal]]:
    """Count refusals by their reason, here and nowhere else.

    Yields:
        A list for the refusals of single photos of a batch; one that is raised is counted by itself, once.
    """
    refused: list[Refusal] = []
    try:
        yield refused
    except Refusal as refusal:
        refused.append(refusal)
        raise
    finally:
        for each in refused:
            service.metrics.rejected.labels(each.error).inc()


def _add_status(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", response_model=Health)
    async def healthz() -> Response:
        """Whether the process is alive."""
        return _json(Health())

    @app.get("/readyz", response_model=Readiness, responses=_UNREADY)
    async def readyz() -> Response:
        """Whether photos are taken: the model is loaded, a worker is alive, and the server is not being stopped."""
        if service.draining:
            raise Refusal(503, "draining", "the server is being stopped")
        facts = service.model_facts()
        if not service.pool.num_alive:
            raise Refusal(503, "no_worker", "no worker is alive; new ones start", retry_after_s=1)
        return _json(Readiness(workers=service.pool.num_alive, queue=len(service.queue), model=model_of(facts)))

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Counters in the form of Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/preprocess", response_model=Contract, responses=_UNREADY)
    async def preprocess() -> Response:
        """The contract: what a client does with a photo, what is refused, and what the server does with it."""
        return _json(service.contract())


def _add_page(app: FastAPI) -> None:
    """A route for each file of the client: a mount on "/" would answer 404 to a wrong method of the routes above."""
    for path in sorted(CLIENT.iterdir()):
        app.add_api_route("/" if path.name == "index.html" else f"/{path.name}", _file(path), include_in_schema=False)


def _file(path: Path) -> Callable[[], Coroutine[Any, Any, Response]]:
    async def send() -> Response:
        return FileResponse(path)

    return send
