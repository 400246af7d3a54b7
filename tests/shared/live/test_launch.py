import asyncio
import socket
import threading
import time

import psutil
import pytest

from shared.errors import ConfigError
from shared.live import launch
from shared.live.__main__ import main
from shared.live.serve import bind


@pytest.fixture
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture
def ended_hubs(tmp_path):
    """End every hub that was started for this test's folder, by its pid."""
    yield tmp_path
    for process in hubs_of(tmp_path):
        process.kill()
        process.wait()


def hubs_of(folder):
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "shared.live" in command and str(folder) in command:
            found.append(process)
    return found


def test_no_hub_is_started_within_tests_elsewhere_or_in_a_multirun(monkeypatch):
    assert not launch.may_start("http://127.0.0.1:8600")  # this is a test
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    assert launch.may_start("http://127.0.0.1:8600")
    assert not launch.may_start("http://10.0.0.1:8600")
    monkeypatch.setattr(launch, "_is_multirun", lambda: True)
    assert not launch.may_start("http://127.0.0.1:8600")


def test_a_stranger_is_no_hub(free_port):
    assert not launch.hub_answers(f"http://127.0.0.1:{free_port}")
    with socket.create_server(("127.0.0.1", free_port)):
        began = time.monotonic()
        assert not launch.hub_answers(f"http://127.0.0.1:{free_port}", timeout_s=0.2)
        assert time.monotonic() - began < 2


def test_of_two_runs_that_start_a_hub_at_once_both_find_the_one_that_stays(ended_hubs, free_port, eventually):
    url, answers = f"http://127.0.0.1:{free_port}", []
    threads = [
        threading.Thread(target=lambda: answers.append(launch.start_hub(url, ended_hubs, None))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True, True]
    eventually(lambda: len([one for one in hubs_of(ended_hubs) if one.status() != psutil.STATUS_ZOMBIE]) == 1)
    (hub,) = [one for one in hubs_of(ended_hubs) if one.status() != psutil.STATUS_ZOMBIE]
    assert hub.pid != psutil.Process().pid
    assert (ended_hubs / launch.LOG_FILE).read_text().count("live page:") == 1


def test_an_idle_hub_leaves(start_hub, tmp_path):
    hub = start_hub(tmp_path / "outputs", "--idle-minutes", "0.01")
    assert hub.process.wait(timeout=10) == 0


def test_a_taken_port_is_one_sentence(capsys):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} of 127.0.0.1 cannot be served: another program"):
            bind("127.0.0.1", port)
        assert main(["--port", str(port), "--outputs", "outputs"]) == 2
    assert "error: port" in capsys.readouterr().err


def test_another_address_without_a_token_is_one_sentence(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("SWEETSPOT_LIVE_TOKEN", raising=False)
    assert main(["--host", "0.0.0.0", "--outputs", str(tmp_path)]) == 2
    assert "without a token" in capsys.readouterr().err


def test_answers_are_not_held_back_for_acknowledgements():
    async def is_prompt():
        connected = asyncio.get_running_loop().create_future()

        def accept(reader, writer):
            raw = writer.get_extra_info("socket")
            connected.set_result(raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listener = bind("127.0.0.1", 0)
        async with await asyncio.start_server(accept, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            found = await asyncio.wait_for(connected, 5)
            writer.close()
        return found

    assert asyncio.run(is_prompt())
