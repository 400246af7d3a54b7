"""Viewers whose threads and choices meet in the wrong moment."""

import asyncio
import json

import pytest

from shared.live.store import RunStore
from shared.live.sweeps import SweepBoard
from shared.live.viewer import Frames, Viewer
from tests.fabricate.live_run import LiveRun


@pytest.fixture
def frames(tmp_path):
    """Of one run with 40 steps, read to its end."""
    run = LiveRun(tmp_path / "p" / "e" / "a")
    run.start()
    run.train(2)
    store = RunStore(tmp_path)
    store.scan()
    store.get(store.rows()[1][0]["id"])
    store.poll()
    return Frames(store, SweepBoard(store.root))


class Forgetful(dict):
    """Loses an entry as soon as it was looked for: another thread clears the whole."""

    def __contains__(self, key):
        found = super().__contains__(key)
        self.clear()
        return found


def test_a_frame_survives_that_another_thread_clears_the_encoded_ones(frames):
    run_id = frames.store.rows()[1][0]["id"]
    frames._encoded = Forgetful()
    first = frames.run(run_id, (0, 0))
    assert json.loads(first[1])["steps"]["count"] == 40
    assert frames.run(run_id, (0, 0)) == first


@pytest.mark.parametrize("chosen_anew", [False, True])
def test_a_run_chosen_anew_while_its_frame_is_made_is_sent_from_the_beginning(frames, monkeypatch, chosen_anew):
    run_id = frames.store.rows()[1][0]["id"]
    run = frames.store.get(run_id)
    viewer = Viewer(None, frames)
    viewer._take({"select": [run_id]})
    asyncio.run(viewer._due())
    LiveRun(run.found.path).train(1)
    frames.store.poll()
    encode = viewer._encode

    def meanwhile(selected):
        found = encode(selected)
        if chosen_anew:
            viewer._take({"select": []})
            viewer._take({"select": [run_id]})
        return found

    monkeypatch.setattr(viewer, "_encode", meanwhile)
    messages = asyncio.run(viewer._due())
    monkeypatch.undo()
    if not chosen_anew:
        assert json.loads(messages[-1])["runs"][0]["since"] > 0
        assert not viewer._is_behind()
        return
    assert not any("frame" in json.loads(text)["type"] for text in messages)  # of no use to one that forgot the rest
    assert viewer._is_behind()
    assert json.loads(asyncio.run(viewer._due())[-1])["runs"][0]["since"] == 0


def test_the_look_for_news_waits_for_nobody_who_reads(frames):
    run_id = frames.store.rows()[1][0]["id"]
    run = frames.store.get(run_id)
    viewer = Viewer(None, frames)
    viewer._take({"select": [run_id]})
    with run._lock:
        assert viewer._is_behind()
    run.unload()
    with run._lock:
        assert viewer._is_behind()  # to be loaded, in a thread
    assert not run.is_loaded
