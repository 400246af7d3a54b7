"""From an upload to its answer: what the routes do, apart from HTTP's forms."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from projects.pillsnap.gateway import DEFAULT_LIMITS, EXPECTED
from projects.pillsnap.server.answers import (
    BatchItem,
    Candidate,
    ClientPhoto,
    Contract,
    Limits,
    ModelFacts,
    NoneOfThese,
    PhotoReport,
    Prediction,
    PreprocessingFacts,
    Problem,
    Timings,
)
from projects.pillsnap.server.batching import Job, JobQueue, Outcome, overdue
from projects.pillsnap.server.metrics import Metrics
from projects.pillsnap.server.refusal import ClientGone, Refusal
from projects.pillsnap.server.settings import MIB, Settings
from projects.pillsnap.server.upload import Receive, UploadReader
from projects.pillsnap.server.workers import WorkerPool

MAX_PHOTO_BYTES = DEFAULT_LIMITS.max_bytes
CLIENT_PX = 512
JPEG_QUALITY = 85


class Service:
    """The parts of one server and what it does with a photo.

    Attributes:
        draining: Set when the server ends: what has been accepted is answered, nothing more is accepted.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.queue = JobQueue(settings.queue, settings.workers)
        self.pool = WorkerPool(settings, self.queue, self.metrics)
        self.uploads = UploadReader(settings)
        self.draining = False
        watch = self.metrics.watch
        watch("pillsnap_queue_photos", "Photos that wait", lambda: len(self.queue))
        watch("pillsnap_working_photos", "Photos that workers have now", lambda: self.queue.in_work)
        watch("pillsnap_workers_alive", "Workers that run and have loaded the model", lambda: self.pool.num_alive)
        watch("pillsnap_pending_upload_bytes", "Bytes of uploads in memory", lambda: self.uploads.pending_bytes)

    def check_open(self) -> None:
        """Refuse before anything of the body is read, where there is no use in reading it.

        Raises:
            Refusal: 503 while the server ends, loads or is full.
        """
        if self.draining:
            raise Refusal(503, "draining", "the server is being stopped", retry_after_s=5, close=True)
        self.model_facts()
        if not self.queue.has_room():
            raise self.queue.full()

    def model_facts(self) -> dict[str, Any]:
        """What the workers say about the model.

        Raises:
            Refusal: 503 while none has loaded it.
        """
        if self.pool.facts is None:
            raise Refusal(503, "loading", "the model is being loaded; try again", retry_after_s=1)
        return self.pool.facts

    async def answer(self, photos: Sequence[bytes], receive: Receive, started: float) -> list[Prediction | Refusal]:
        """Wait for the answers to photos of one request.

        Args:
            photos: Files as they were sent.
            receive: The request's channel, which tells if the client goes.
            started: Value of `time.monotonic()` when the request began.

        Returns:
            For each photo its answer, or why it has none.

        Raises:
            Refusal: 503 if there is no room for all of them.
            ClientGone: If the client went; nothing more is done for it.
        """
        uploaded = time.monotonic()
        jobs = self.queue.put(photos, started + self.settings.deadline_s)
        answers: asyncio.Future[Any] = asyncio.gather(*(job.future for job in jobs), return_exceptions=True)
        gone: asyncio.Future[Any] = asyncio.ensure_future(_wait_until_gone(receive))
        try:
            left = started + self.settings.deadline_s - uploaded
            await asyncio.wait({answers, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if gone.done() and not answers.done():
                raise ClientGone
            return [self._conclude(job, started, uploaded) for job in jobs]
        finally:
            gone.cancel()
            answers.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await answers

    def _conclude(self, job: Job, started: float, uploaded: float) -> Prediction | Refusal:
        if not job.future.done():
            return overdue()
        error = job.future.exception()
        if isinstance(error, Refusal):
            return error
        outcome = job.future.result()
        self.metrics.count_photo(outcome.said["photo"])
        if "refused" in outcome.said:
            return Refusal(*outcome.said["refused"])
        prediction = self._predict(outcome, started)
        parts = {**prediction.timings_ms.model_dump(), "upload": 1000 * (uploaded - started)}
        for part, milliseconds in parts.items():
            self.metrics.part_seconds.labels(part).observe(milliseconds / 1000)
        return prediction

    def _predict(self, outcome: Outcome, started: float) -> Prediction:
        facts, said = self.model_facts(), outcome.said
        decided = said["none"] > facts["threshold"]
        if decided:
            self.metrics.decided_none.inc()
        names = facts["classes"]
        return Prediction(
            candidates=[
                Candidate(kcode=names[index][0], name=names[index][1], probability=probability)
                for index, probability in said["top"]
            ],
            none_of_these=NoneOfThese(probability=said["none"], threshold=facts["threshold"], decided=decided),
            model=model_of(facts),
            preprocessing=PreprocessingFacts(version=facts["preprocessing"]["version"], digest=facts["digest"]),
            photo=PhotoReport(**said["photo"]),
            timings_ms=Timings(
                decode=round(said["decode_ms"], 2),
                queue=round(outcome.queue_ms, 2),
                model=round(outcome.model_ms, 2),
                total=round(1000 * (time.monotonic() - started), 2),
            ),
        )

    def contract(self) -> Contract:
        """What a client must know."""
        facts = self.model_facts()
        return Contract(
            client=ClientPhoto(size_px=max(CLIENT_PX, facts["preprocessing"]["size_px"]), jpeg_quality=JPEG_QUALITY),
            limits=Limits(
                max_photo_bytes=MAX_PHOTO_BYTES,
                max_files=self.settings.max_files,
                max_form_bytes=self.max_form_bytes,
                formats=list(EXPECTED),
            ),
            server=facts["preprocessing"],
            digest=facts["digest"],
            model=model_of(facts),
            num_classes=len(facts["classes"]),
        )

    @property
    def max_form_bytes(self) -> int:
        """Largest body of several photos."""
        return int(self.settings.max_form_mib * MIB)


def model_of(facts: Mapping[str, Any]) -> ModelFacts:
    """Version and variant out of a worker's words."""
    return ModelFacts(version=facts["version"], variant=facts["variant"])


def item_of(filename: str | None, answer: Prediction | Refusal) -> BatchItem:
    """One of several answers."""
    if isinstance(answer, Prediction):
        return BatchItem(filename=filename, status=200, prediction=answer, problem=None)
    problem = Problem(error=answer.error, detail=answer.detail)
    return BatchItem(filename=filename, status=answer.status, prediction=None, problem=problem)


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
