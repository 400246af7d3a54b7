import asyncio
import time

import pytest

from projects.pillsnap.server.batching import JobQueue, Outcome
from projects.pillsnap.server.refusal import Refusal


def soon():
    return time.monotonic() + 60


def data_of(jobs):
    return [job.data for job in jobs]


def test_photos_come_out_in_order_and_no_more_than_a_batch_takes():
    async def run():
        queue = JobQueue(8, 1)
        queue.put([b"a", b"b", b"c"], soon())
        assert data_of(await queue.take(2, 0)) == [b"a", b"b"]
        assert data_of(await queue.take(2, 0)) == [b"c"]

    asyncio.run(run())


def test_photos_are_taken_all_or_none():
    async def run():
        queue = JobQueue(3, 1)
        queue.put([b"a", b"b"], soon())
        with pytest.raises(Refusal, match=r"no room for more photos now; try again in \d+ s") as caught:
            queue.put([b"c", b"d"], soon())
        assert (caught.value.status, len(queue)) == (503, 2)
        queue.put([b"c"], soon())
        assert len(queue) == 3

    asyncio.run(run())


def test_two_idle_workers_share_what_comes():
    async def run():
        queue = JobQueue(8, 2)
        takers = [asyncio.create_task(queue.take(4, 0)) for _ in range(2)]
        await asyncio.sleep(0)
        queue.put([b"a", b"b"], soon())
        assert [data_of(await taker) for taker in takers] == [[b"a"], [b"b"]]

    asyncio.run(run())


def test_a_worker_waits_for_more_and_no_longer_than_it_may():
    async def run():
        queue = JobQueue(8, 1)
        queue.put([b"a"], soon())
        taker = asyncio.create_task(queue.take(2, 30))
        await asyncio.sleep(0.01)
        assert not taker.done()
        queue.put([b"b"], soon())
        assert data_of(await asyncio.wait_for(taker, 5)) == [b"a", b"b"]
        queue.put([b"c"], soon())
        assert data_of(await asyncio.wait_for(queue.take(2, 0.01), 5)) == [b"c"]

    asyncio.run(run())


def test_a_taker_that_is_cancelled_loses_nothing():
    async def run():
        queue = JobQueue(8, 1)
        taker = asyncio.create_task(queue.take(2, 30))
        await asyncio.sleep(0)
        queue.put([b"a"], soon())
        await asyncio.sleep(0)
        taker.cancel()
        await asyncio.gather(taker, return_exceptions=True)
        assert data_of(await queue.take(2, 0)) == [b"a"]

    asyncio.run(run())


def test_nobody_works_for_those_who_have_gone_or_are_too_late():
    async def run():
        queue = JobQueue(2, 1)
        (gone,) = queue.put([b"gone"], soon())
        (late,) = queue.put([b"late"], time.monotonic() - 1)
        gone.future.cancel()
        assert queue.has_room(2)
        with pytest.raises(Refusal, match="did not get to this photo in time"):
            await late.future
        queue.put([b"a"], soon())
        assert data_of(await queue.take(4, 0)) == [b"a"]

    asyncio.run(run())


def test_a_photo_that_lost_a_worker_comes_first_and_alone():
    async def run():
        queue = JobQueue(8, 1)
        suspects = queue.put([b"a", b"b"], soon())
        assert len(await queue.take(2, 0)) == 2
        queue.put([b"c", b"d"], soon())
        for job in suspects:
            job.lost_workers = 1
        queue.put_back(suspects)
        assert [data_of(await queue.take(4, 0)) for _ in range(3)] == [[b"a"], [b"b"], [b"c", b"d"]]

    asyncio.run(run())


def test_the_time_to_come_back_follows_from_what_waits_and_what_it_takes():
    async def run():
        queue = JobQueue(100, 2)
        queue.photo_s = 1.0
        queue.note_service(8.0, 4)  # two seconds a photo
        assert queue.photo_s == pytest.approx(1.1)
        queue.put([b"x"] * 38, soon())
        queue.in_work = 2
        assert queue.drain_s() == pytest.approx(22.0)
        waits = {queue.full().retry_after_s for _ in range(200)}
        assert min(waits) >= 11
        assert max(waits) <= 22
        assert len(waits) > 5

    asyncio.run(run())


def test_an_answered_photo_is_not_refused_afterwards():
    async def run():
        queue = JobQueue(1, 1)
        (job,) = queue.put([b"a"], soon())
        job.future.set_result(Outcome({}, 1.0, 2.0))
        job.refuse(Refusal(503, "deadline", "too late"))
        assert (await job.future).model_ms == 2.0

    asyncio.run(run())
