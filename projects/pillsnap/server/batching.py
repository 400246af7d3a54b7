"""The queue between requests and workers: bounded, in order, and without those whose client has gone."""

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from projects.pillsnap.server.refusal import Refusal

FORGETTING = 0.1
FIRST_GUESS_S = 0.05


@dataclass(frozen=True)
class Outcome:
    """What a worker made of one photo.

    Attributes:
        said: The worker's words about this photo.
        queue_ms: Milliseconds between its arrival in the queue and its worker.
        model_ms: Milliseconds of the pass through the model that it was in.
    """

    said: dict[str, Any]
    queue_ms: float
    model_ms: float


@dataclass(eq=False)
class Job:
    """One photo on its way through the server.

    Attributes:
        data: The file as it was sent.
        deadline: Value of `time.monotonic()` after which nobody waits for it.
        future: Gets its `Outcome`, or a `Refusal`; cancelled where the client has gone.
        lost_workers: Workers that died over it.
    """

    data: bytes
    deadline: float
    future: "asyncio.Future[Outcome]"
    entered: float = field(default_factory=time.monotonic)
    lost_workers: int = 0

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for it still."""
        return not self.future.done() and time.monotonic() < self.deadline

    def refuse(self, refusal: Refusal) -> None:
        """Answer with a refusal, where somebody waits still."""
        if not self.future.done():
            self.future.set_exception(refusal)


class JobQueue:
    """Bounded queue that hands out batches.

    Args:
        limit: Photos that may wait.
        num_workers: Workers that take from it, for the estimate of how long it will be full.
    """

    def __init__(self, limit: int, num_workers: int) -> None:
        self.limit = limit
        self.num_workers = num_workers
        self.in_work = 0
        self.photo_s = FIRST_GUESS_S  # worker seconds per photo, a moving average
        self._jobs: deque[Job] = deque()
        self._arrived = asyncio.Event()
        self._takers = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def has_room(self, count: int = 1) -> bool:
        """Whether so many more photos may wait."""
        if len(self._jobs) + count > self.limit:
            self._forget_unwanted()
        return len(self._jobs) + count <= self.limit

    def put(self, photos: Sequence[bytes], deadline: float) -> list[Job]:
        """Queue photos: all of them, or none.

        Raises:
            Refusal: 503 if there is no room for all.
        """
        if not self.has_room(len(photos)):
            raise self.full()
        loop = asyncio.get_running_loop()
        jobs = [Job(photo, deadline, loop.create_future()) for photo in photos]
        self._jobs.extend(jobs)
        self._arrived.set()
        return jobs

    def put_back(self, jobs: Sequence[Job]) -> None:
        """Put jobs whose worker died in front of all others; they were accepted, so there is always room."""
        self._jobs.extendleft(job for job in reversed(jobs) if job.is_wanted)
        self._arrived.set()

    async def take(self, most: int, max_wait_s: float) -> list[Job]:
        """Wait for photos and take a batch of them; if cancelled, nothing is lost.

        What waits is shared with the other idle workers, so that two photos go to two workers at once. A photo that
        has seen a worker die goes alone.

        Args:
            most: Photos of a batch, at most.
            max_wait_s: Longest wait for more once there is one.
        """
        self._takers += 1
        try:
            await self._some()
            if max_wait_s > 0 and len(self._jobs) < most:
                await self._more(most, time.monotonic() + max_wait_s)
            share = math.ceil(len(self._jobs) / self._takers)
            return self._pop(min(most, share))
        finally:
            self._takers -= 1

    def note_service(self, seconds: float, num_photos: int) -> None:
        """Learn from a batch that was answered."""
        self.photo_s += FORGETTING * (seconds / num_photos - self.photo_s)

    def drain_s(self) -> float:
        """Estimated seconds until everything that waits now has been answered."""
        return (len(self._jobs) + self.in_work) * self.photo_s / self.num_workers

    def full(self) -> Refusal:
        """The refusal of a photo for which there is no room.

        Retry-After lies between half of and the whole time in which the queue runs empty, drawn anew each time: those
        who come back find room, the queue is not empty before they do, and they do not come all at once.
        """
        retry = max(1, math.ceil(self.drain_s() * random.uniform(0.5, 1.0)))
        detail = f"the server has no room for more photos now; try again in {retry} s"
        return Refusal(503, "queue_full", detail, retry_after_s=retry)

    async def _some(self) -> None:
        while True:
            self._forget_unwanted()
            if self._jobs:
                return
            self._arrived.clear()
            await self._arrived.wait()

    async def _more(self, most: int, until: float) -> None:
        while len(self._jobs) < most and (left := until - time.monotonic()) > 0:
            self._arrived.clear()
            try:
                async with asyncio.timeout(left):
                    await self._arrived.wait()
            except TimeoutError:
                return

    def _pop(self, count: int) -> list[Job]:
        batch: list[Job] = []
        while self._jobs and len(batch) < count:
            if batch and self._jobs[0].lost_workers:
                break
            job = self._jobs.popleft()
            if job.is_wanted:
                batch.append(job)
            else:
                job.refuse(overdue())
            if job.lost_workers and batch:
                break
        return batch

    def _forget_unwanted(self) -> None:
        """Drop the jobs whose client has gone or whose deadline has passed, wherever they stand."""
        if all(job.is_wanted for job in self._jobs):
            return
        kept: deque[Job] = deque()
        for job in self._jobs:
            if job.is_wanted:
                kept.append(job)
            else:
                job.refuse(overdue())
        self._jobs = kept


def overdue() -> Refusal:
    """The refusal of a photo whose deadline has passed."""
    return Refusal(503, "deadline", "the server did not get to this photo in time; try again", retry_after_s=1)
