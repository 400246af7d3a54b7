import asyncio
import io
from collections import Counter

from PIL import Image

from bench.bench_pill_server import Load, _answer, _client, add, judge, photos
from bench.record import Record


def load(per_s, seconds=10.0, rss_mb=(100.0, 100.0, 100.0), **others):
    statuses = Counter({200: int(per_s * seconds), 503: 7}) + Counter({int(k[1:]): n for k, n in others.items()})
    return Load([5.0, 6.0, 7.0], statuses, seconds, list(rss_mb))


def test_targets_that_are_met_are_said_to_be():
    verdicts = judge([load(10)] * 3, [load(13)] * 3, [load(12)] * 3, load(12, rss_mb=(100, 100, 100, 104, 105, 105)))
    assert list(map(str, verdicts)) == [
        "met: saturation >= 1.3x one at a time; found 1.30x",
        "met: goodput under overload >= 0.9 of saturation; found 0.92",
        "met: only 200 and 503; found nothing else",
        "met: memory flat (last third <= first third + 5%); found 100 MB, then 105 MB",
    ]


def test_each_target_can_be_missed():
    full = [load(12)] * 3
    crowded = [load(10), load(10), load(10, s0=2)]
    verdicts = judge([load(10)] * 3, full, crowded, load(12, s500=1, rss_mb=(100, 100, 106)))
    assert [verdict.met for verdict in verdicts] == [False] * 4
    assert str(verdicts[2]) == "NOT MET: only 200 and 503; found {'connection lost': 2, '500': 1}"


def test_a_ratio_is_of_the_same_round_and_the_median_counts():
    alone, full = [load(10), load(20), load(40)], [load(20), load(30), load(40)]
    assert judge(alone, full, full, load(10))[0].found == "1.50x"


def test_rows_of_a_load_name_every_status(tmp_path):
    record = Record("bench_pill_server", tmp_path / "history.csv")
    add(record, "overload", load(10, s0=1))
    rows = {row.what: row.value for row in record.measurements}
    assert rows["overload: photos answered"] == 10
    assert rows["overload: p50"] == 6
    assert rows["overload: status none (connection lost)"] == 1
    assert rows["overload: status 503"] == 7
    assert rows["overload: memory, last third"] == 100


def test_photos_are_as_the_page_sends_them():
    made = photos()
    image = Image.open(io.BytesIO(made[0]))
    assert (image.format, image.size, len(made), len(set(made))) == ("JPEG", (512, 512), 16, 16)


def test_a_client_counts_answers_waits_as_told_and_counts_lost_connections():
    said = [
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"",
    ]

    async def run():
        async def serve(reader, writer):
            while said:
                await reader.readexactly(5)
                writer.write(said.pop(0))
                await writer.drain()
                if len(said) == 0:
                    break
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        result = Load()
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with server:
            await _client(port, [b"photo"], 0, start + 1.3, result)
        return result, loop.time() - start

    result, seconds = asyncio.run(run())
    assert result.statuses[503] == result.statuses[200] == 1
    assert result.statuses[0] >= 1
    assert 1 <= seconds < 5
    assert len(result.latencies_ms) == 1


def test_an_answer_without_a_body_is_read():
    async def run():
        stream = asyncio.StreamReader()
        stream.feed_data(b"HTTP/1.1 204 No Content\r\n\r\nnext")
        return await _answer(stream)

    assert asyncio.run(run())[0] == 204
