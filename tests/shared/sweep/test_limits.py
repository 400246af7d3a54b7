"""The limits that were asked for last count for everybody who reads a sweep."""

from shared.sweep.__main__ import main
from shared.sweep.limits import newest_limits, note_limits
from shared.sweep.overview import SweepReader
from shared.sweep.search import Search
from tests.fabricate.toy_sweep import planned, toy_search


def test_only_other_limits_are_written_and_the_newest_count(tmp_path):
    first = {"retries": 2, "max_interruptions": 20, "lease_s": 90.0}
    note_limits(tmp_path, first, first)
    assert newest_limits(tmp_path) == {}
    note_limits(tmp_path, first, first | {"retries": 0})
    note_limits(tmp_path, first, first | {"retries": 0})
    assert newest_limits(tmp_path) == {"retries": 0, "max_interruptions": 20}
    note_limits(tmp_path, first, first)
    assert newest_limits(tmp_path)["retries"] == 2
    assert sorted(path.name for path in (tmp_path / "limits").iterdir()) == ["0000.json", "0001.json"]
    (tmp_path / "limits" / "0001.json").write_text('{"schema": 1, "retries": -1, "max_interruptions": true}')
    assert newest_limits(tmp_path)["retries"] == 0


def test_readers_and_helpers_go_by_what_the_sweep_was_told_today(tmp_path, capsys):
    search = toy_search(tmp_path, retries=2)
    reader = SweepReader(search.folder)
    id = planned(search, 1e-4)[0]
    search.ledger().claim(id, job=None).failed("no room")
    assert not reader.read()["points"][0]["final"]
    toy_search(tmp_path, retries=0)
    assert Search.load(search.folder).settings["retries"] == 0
    assert reader.read()["points"][0]["final"], "also for one who was looking on"
    assert reader.read()["finished"]
    assert main(["retry", str(search.folder), "--all"]) == 0
    assert "1 point may be tried again" in capsys.readouterr().out
