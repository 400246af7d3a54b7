import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2, metadata

from shared.sweep import hparams
from shared.sweep.hparams import SCORE_TAG, write_hparams
from shared.sweep.states import Event
from tests.fabricate.sweep_points import point, view

VALUES = {"optimizer.lr": 1e-4, "model": "base", "deep": True, "sizes": [1, 2], "width": 8, "note": None}


def read(folder):
    """Swept values, status and all scalars of one folder."""
    found = EventAccumulator(str(folder))
    found.Reload()
    content = found.SummaryMetadata
    start = metadata.parse_session_start_info_plugin_data(content(metadata.SESSION_START_INFO_TAG).plugin_data.content)
    end = metadata.parse_session_end_info_plugin_data(content(metadata.SESSION_END_INFO_TAG).plugin_data.content)
    values = {key: getattr(value, value.WhichOneof("kind")) for key, value in start.hparams.items()}
    scalars = {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    return values, end.status, scalars, start


def files(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_values_and_final_metrics_are_read_back_and_nothing_else(tmp_path):
    metrics = {"val/loss": 0.5, "val/accuracy": 0.75, "val/auc": math.nan, "epoch": 2, "name": "x"}
    done = point(0, VALUES, 0.625, metrics=metrics, epochs=[{"epoch": n} for n in range(3)])
    done = replace(done, history=(Event(done.id, 3, "done", 1700000000.5, "host", 1, {}),))
    assert write_hparams(tmp_path / "tb", [done]) == 1
    assert [path.name for path in (tmp_path / "tb").iterdir()] == [done.id]
    assert len(files(tmp_path)) == 1
    values, status, scalars, start = read(tmp_path / "tb" / done.id)
    assert values == {**VALUES, "sizes": "[1, 2]", "note": "None"}
    assert status == api_pb2.STATUS_SUCCESS
    # One value a metric: torch's writer would have put -1 first.
    finals = {SCORE_TAG: 0.625, "val/loss": 0.5, "val/accuracy": 0.75, "epoch": 2.0}
    assert scalars == {tag: [(3, value)] for tag, value in finals.items()}
    assert (start.group_name, start.start_time_secs) == (done.id, 1700000000.5)


def test_a_failed_point_has_its_values_and_no_metric(tmp_path):
    failed = point(0, {"lr": 1.0})
    assert write_hparams(tmp_path / "tb", [failed]) == 1
    values, status, scalars, _ = read(tmp_path / "tb" / f"{failed.id}-failed")
    assert (values, status, scalars) == ({"lr": 1.0}, api_pb2.STATUS_FAILURE, {})


def test_a_failure_that_was_mended_goes(tmp_path):
    failed = point(0, {"lr": 1.0})
    write_hparams(tmp_path / "tb", [failed])
    write_hparams(tmp_path / "tb", [point(0, {"lr": 1.0}, 0.5)])
    assert [path.name for path in (tmp_path / "tb").iterdir()] == [failed.id]


def test_written_once_and_only_for_settled_points(tmp_path):
    points = [point(0, {"a": 1}, 0.5), view(1, point(1, {"a": 2})), point(2, {"a": 3}, 0.25)]
    assert write_hparams(tmp_path / "tb", points) == 2
    before = files(tmp_path)
    assert write_hparams(tmp_path / "tb", points) == 0
    assert files(tmp_path) == before
    assert write_hparams(tmp_path / "empty" / "tb", []) == 0
    assert not (tmp_path / "empty").exists()


def test_where_another_was_first_its_file_stays(tmp_path, monkeypatch):
    one = point(0, {"a": 1}, 0.5)
    write = hparams._write_events

    def slow(folder, point):
        monkeypatch.setattr(hparams, "_write_events", write)
        assert write_hparams(tmp_path / "tb", [one]) == 1
        write(folder, point)

    monkeypatch.setattr(hparams, "_write_events", slow)
    assert write_hparams(tmp_path / "tb", [one]) == 0
    assert len(files(tmp_path)) == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".tb-")]


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    def full(folder, point):
        Path(folder, "events").write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hparams, "_write_events", full)
    with pytest.raises(OSError, match="No space left"):
        write_hparams(tmp_path / "tb", [point(0, {"a": 1}, 0.5)])
    assert files(tmp_path) == {}


def test_it_needs_no_torch():
    code = """
import sys, tempfile, pathlib
sys.modules["torch"] = None
from shared.sweep.hparams import write_hparams
from tests.fabricate.sweep_points import point
with tempfile.TemporaryDirectory() as folder:
    print(write_hparams(pathlib.Path(folder) / "tb", [point(0, {"a": 1}, 0.5)]))
"""
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "1", done.stderr
