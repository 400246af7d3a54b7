"""Which data a sweep's points have seen: by what they have read, and by how the files look."""

import os
import socket

import pytest

from shared.sweep.data_seen import check_data, have_files_changed, look, note_files, seen
from shared.sweep.objective import DATA_CHANGED, DataChangedError

RATE = {"optimizer.lr": 1e-4}
FACTS = {"data_hash": "d" * 64, "fingerprint": None}
OTHER = FACTS | {"data_hash": "e" * 64}


def test_points_must_see_the_same_data_unless_these_are_swept(tmp_path):
    check_data(tmp_path, 0, RATE, FACTS, keep=False)
    check_data(tmp_path, 0, RATE, FACTS, keep=False)
    with pytest.raises(DataChangedError, match=rf"{DATA_CHANGED} .*data.0.json tells of \(data_hash differ\).*=rerun"):
        check_data(tmp_path, 0, RATE, OTHER, keep=False)
    check_data(tmp_path, 0, {"data.num_stories": 5}, OTHER, keep=False)
    check_data(tmp_path, 1, RATE, OTHER, keep=False)


def test_data_that_were_let_in_once_are_known_to_the_points_after(tmp_path):
    check_data(tmp_path, 0, RATE, FACTS, keep=False)
    check_data(tmp_path, 0, RATE, OTHER, keep=True)
    check_data(tmp_path, 0, RATE, OTHER, keep=False)
    check_data(tmp_path, 0, RATE, FACTS, keep=False)
    assert [found["data_hash"][0] for found in seen(tmp_path, "data", 0)] == ["d", "e"]
    assert (tmp_path / "data.0.1.json").is_file()


def test_a_damaged_file_is_set_aside_and_written_anew(tmp_path):
    (tmp_path / "data.0.json").write_text('{"data_h')
    check_data(tmp_path, 0, RATE, FACTS, keep=False)
    with pytest.raises(DataChangedError):
        check_data(tmp_path, 0, RATE, OTHER, keep=False)
    assert len(list(tmp_path.glob("data.0.json.damaged-*"))) == 1


@pytest.fixture
def data(tmp_path):
    root = tmp_path / "data"
    (root / "a").mkdir(parents=True)
    (root / "a" / "x.npy").write_bytes(b"123")
    (tmp_path / "split.csv").write_text("x")
    return {"root": str(root), "split_csv": str(tmp_path / "split.csv"), "name": str(tmp_path)}


def test_files_that_look_otherwise_are_told_by_size_time_and_name(tmp_path, data):
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    assert not have_files_changed(sweep, 0, data), "nothing is known"
    note_files(sweep, 0, RATE, data)
    note_files(sweep, 0, RATE, {"root": "elsewhere"})
    assert not have_files_changed(sweep, 0, data)
    file = tmp_path / "data" / "a" / "x.npy"
    before = file.stat()
    (tmp_path / "data" / ".hidden").touch()
    assert not have_files_changed(sweep, 0, data)
    os.utime(file, (1, 1))
    assert have_files_changed(sweep, 0, data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not have_files_changed(sweep, 0, data)
    file.rename(file.with_name("y.npy"))
    assert have_files_changed(sweep, 0, data)
    assert not have_files_changed(sweep, 1, data)


def test_a_copy_on_another_machine_has_other_times(tmp_path, data, monkeypatch):
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    note_files(sweep, 0, RATE, data)
    os.utime(tmp_path / "split.csv", (1, 1))
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    assert not have_files_changed(sweep, 0, data)
    (tmp_path / "split.csv").write_text("xy")
    assert have_files_changed(sweep, 0, data)


def test_what_a_stand_in_is_made_from_names_no_file():
    assert look({"root": None, "num_files": 2, "nested": {"paths": []}}) == look({})


def test_nothing_is_noted_where_the_data_are_swept(tmp_path, data):
    note_files(tmp_path, 0, {"seed": 1}, data)
    assert seen(tmp_path, "files", 0) == []
