from types import SimpleNamespace

import pytest

from projects.pillsnap.onnx_export import speed
from projects.pillsnap.onnx_export.speed import time_in_turns


def test_ratios_are_those_of_the_same_round(monkeypatch):
    """A clock that only the calls move; the machine is ten times slower from the fourth round on."""
    clock = SimpleNamespace(now=0.0, calls=0)

    def work(seconds):
        clock.now += seconds * (10 if clock.calls // 2 >= 5 else 1)
        clock.calls += 1

    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    found = time_in_turns({"a": lambda: work(0.004), "b": lambda: work(0.012)}, rounds=5)
    assert found["a"]["ratio"] == 1.0
    assert found["b"]["ratio"] == pytest.approx(3.0)
    assert found["a"]["samples_ms"] == pytest.approx([4, 4, 4, 40, 40])
    assert (found["a"]["p50_ms"], found["a"]["p95_ms"]) == (pytest.approx(4), pytest.approx(40))


def test_each_is_called_in_turn():
    called = []
    time_in_turns({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, rounds=2, warm_up=1)
    assert "".join(called) == "ab" + "ab" + "ba"


def test_nothing_to_time():
    with pytest.raises(ValueError, match="0 calls and 3 rounds"):
        time_in_turns({}, 3)
