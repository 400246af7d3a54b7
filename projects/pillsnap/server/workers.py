"""The worker processes as the server sees them: started, fed, watched, and started again.

Processes and not threads: one that is killed, or that a decoder or onnxruntime crashes, is replaced while the others go
on.
"""

import asyncio
import contextlib
import logging
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from projects.pillsnap.server.batching import Job, JobQueue, Outcome
from projects.pillsnap.server.frames import pack, read_async
from projects.pillsnap.server.metrics import Metrics
from projects.pillsnap.server.pinned import PinnedModel
from projects.pillsnap.server.refusal import Refusal
from projects.pillsnap.server.settings import Settings
from shared.errors import UserError

log = logging.getLogger("pillsnap.server")

COMMAND = (sys.executable, "-c", "import sys; from projects.pillsnap.server.worker import main; sys.exit(main())")
MAX_START_FAILURES = 3
MAX_LOST_WORKERS = 2  # a photo over which so many workers died gets no third
PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
FAREWELL_S = 2.0


class ServingError(UserError):
    """The server cannot go on."""


class WorkerLost(Exception):  # noqa: N818 - it is replaced
    """A worker died, or was killed because it was silent for too long."""


class Worker:
    """One process; `start` makes it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self._to, self._from = process.stdin, process.stdout

    @classmethod
    async def start(cls, settings: Settings, pinned: PinnedModel) -> "tuple[Worker, dict[str, Any]]":
        """Start a process and wait until it has loaded the model.

        Args:
            settings: Of the server.
            pinned: The model that it loads; the file itself is not looked at again.

        Returns:
            The worker, and what it says about the model.

        Raises:
            ServingError: If the model may not be served; the worker's sentence.
            WorkerLost: If it died or was silent too long, or the model could not be handed to it.
        """
        with contextlib.ExitStack() as stack:
            try:
                model = await asyncio.to_thread(stack.enter_context, pinned.laid_out())
            except OSError as error:
                raise WorkerLost(f"no room for a copy of the model: {error.strerror or error}") from error
            worker, facts = await cls._load(model, settings)
        if "refused" in facts:
            await worker.kill()
            raise ServingError(pinned.in_own_words(facts["refused"], model))
        return worker, facts

    @classmethod
    async def _load(cls, model: Path, settings: Settings) -> "tuple[Worker, dict[str, Any]]":
        # A session of its own, so that Ctrl-C in a terminal reaches the server only, which then lets it finish.
        process = await asyncio.create_subprocess_exec(
            *COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        worker = cls(process)
        try:
            order = {"model": str(model), "threads": settings.threads}
            return worker, await worker._exchange(order, [], settings.load_s)
        except BaseException:
            await worker.kill()
            raise

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.process.returncode is None

    async def answer(self, photos: Sequence[bytes], hang_s: float) -> dict[str, Any]:
        """The worker's answer for a batch.

        Raises:
            WorkerLost: If it died, or was silent for `hang_s` seconds.
        """
        return await self._exchange({}, list(photos), hang_s)

    async def kill(self) -> None:
        """End it at once and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self._to.close()
        await self.process.wait()

    async def dismiss(self) -> None:
        """Let it end by itself, as it does when nothing more can come; kill it if it does not."""
        self._to.close()
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self.process.wait()
        except TimeoutError:
            await self.kill()

    async def _exchange(self, head: dict[str, Any], blobs: list[bytes], limit_s: float) -> dict[str, Any]:
        try:
            async with asyncio.timeout(limit_s):
                self._to.writelines(pack(head, blobs))
                await self._to.drain()
                answer, _ = await read_async(self._from)
        except TimeoutError as error:
            raise WorkerLost(f"silent for {limit_s:g} s") from error
        except (asyncio.IncompleteReadError, OSError, ValueError) as error:
            raise WorkerLost("gone") from error
        return answer


class WorkerPool:
    """Keeps a number of workers alive and gives them what waits in the queue.

    Attributes:
        facts: What the workers say about the model; None until the first has loaded it.
    """

    def __init__(self, settings: Settings, queue: JobQueue, metrics: Metrics) -> None:
        self.facts: dict[str, Any] | None = None
        self._settings = settings
        self._queue = queue
        self._metrics = metrics
        self._workers: list[Worker | None] = [None] * settings.workers
        self._start_failures = 0

    @property
    def num_alive(self) -> int:
        """Workers that run and have loaded the model."""
        return sum(worker is not None and worker.is_alive for worker in self._workers)

    async def run(self) -> None:
        """Work until cancelled; then the workers end.

        Raises:
            ServingError: If the model may not be served, or workers do not even start.
            ModelRefused: If the model or its certificate cannot be read.
        """
        pinned = await asyncio.to_thread(PinnedModel.read, self._settings.model)
        places = [asyncio.create_task(self._keep(place, pinned)) for place in range(len(self._workers))]
        try:
            await asyncio.gather(*places)
        finally:
            for task in places:
                task.cancel()
            await asyncio.gather(*places, return_exceptions=True)

    async def _keep(self, place: int, pinned: PinnedModel) -> None:
        """Start a worker, give it work, and start again when it is lost."""
        while True:
            try:
                worker, facts = await Worker.start(self._settings, pinned)
            except (WorkerLost, ServingError) as error:
                await self._note_failed_start(error)
                continue
            self.facts = facts
            self._start_failures = 0
            self._workers[place] = worker
            try:
                await self._feed(worker)
            except WorkerLost as error:
                log.warning("worker %d is lost (%s); a new one starts", worker.process.pid, error)
                self._metrics.worker_restarts.inc()
                await worker.kill()
            finally:
                self._workers[place] = None
                if worker.is_alive:
                    await worker.dismiss()

    async def _note_failed_start(self, error: WorkerLost | ServingError) -> None:
        """Wait before the next try, or give up: a model that never was served may be bad, one that was is not.

        While another worker answers, the server goes on with that one.
        """
        if isinstance(error, ServingError) and self.facts is None:
            raise error
        self._start_failures += 1
        log.warning("a worker did not start (%s)", error)
        if self._start_failures >= MAX_START_FAILURES and not self.num_alive:
            raise ServingError(f"{self._start_failures} workers in a row did not start; their messages stand above")
        await asyncio.sleep(min(LONGEST_PAUSE_S, PAUSE_S * self._start_failures))

    async def _feed(self, worker: Worker) -> None:
        ended = asyncio.create_task(worker.process.wait())
        try:
            while True:
                if jobs := await self._next(ended):
                    await self._work(worker, jobs)
        finally:
            ended.cancel()

    async def _next(self, ended: "asyncio.Task[int]") -> list[Job]:
        """Take a batch, or notice that the worker has ended while there was nothing to do."""
        settings = self._settings
        taking = asyncio.create_task(self._queue.take(settings.max_batch, settings.max_wait_ms / 1000))
        try:
            await asyncio.wait({taking, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                return taking.result()
            if taking.done():
                self._queue.put_back(taking.result())
            raise WorkerLost(f"exit code {ended.result()}")
        finally:
            taking.cancel()

    async def _work(self, worker: Worker, jobs: list[Job]) -> None:
        start = time.monotonic()
        self._queue.in_work += len(jobs)
        try:
            said = await worker.answer([job.data for job in jobs], self._settings.hang_s)
        except WorkerLost:
            self._give_another_chance(jobs)
            raise
        finally:
            self._queue.in_work -= len(jobs)
        self._queue.note_service(time.monotonic() - start, len(jobs))
        self._metrics.batch_size.observe(len(jobs))
        for job, words in zip(jobs, said["photos"], strict=True):
            if not job.future.done():
                job.future.set_result(Outcome(words, 1000 * (start - job.entered), said["model_ms"]))

    def _give_another_chance(self, jobs: list[Job]) -> None:
        """Queue the photos of a lost worker again; one that has lost two, the second time alone, is given up."""
        again = []
        for job in jobs:
            job.lost_workers += 1
            if job.lost_workers < MAX_LOST_WORKERS:
                again.append(job)
            else:
                job.refuse(Refusal(500, "worker_lost", "a worker ended twice while it worked on this photo"))
        self._queue.put_back(again)
