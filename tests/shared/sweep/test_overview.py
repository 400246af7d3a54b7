"""What a sweep's ledger is told as: states, marks, totals, and what is odd in the folder."""

import json
import subprocess
import sys

import pytest

from shared.errors import ConfigError
from shared.sweep import exclusive_files
from shared.sweep.overview import SweepReader
from tests.fabricate.sweep_folder import OUT_OF_MEMORY, RATES, SETTINGS, SPACE, SweepFolder, loss


@pytest.fixture
def sweep(tmp_path):
    return SweepFolder(tmp_path / "outputs" / "redheart" / "sweeps" / "lr")


def read(sweep):
    return SweepReader(sweep.folder).read()


def test_every_state_is_told_with_its_facts(sweep):
    with sweep.fill() as running:
        found = read(sweep)
    assert found["counts"] == {"planned": 1, "running": 1, "done": 6, "failed": 1, "interrupted": 1}
    assert {key: found[key] for key in ("state", "total", "settled", "keys", "direction", "finished", "notes")} == {
        "state": "running", "total": 10, "settled": 7, "keys": ["optimizer.lr"], "direction": "min", "finished": False,
        "notes": [],
    }  # fmt: skip
    points = found["points"]
    assert [point["number"] for point in points] == list(range(10))
    best = points[2]
    assert found["best"] == best["id"]
    assert (best["values"], best["score"], best["rank"]) == ({"optimizer.lr": 7.071e-5}, loss(7.071e-5), 1)
    assert [p["rank"] for p in points if p["score"] is None] == [None] * 4
    assert (points[6]["state"], points[6]["error"], points[6]["final"]) == ("failed", OUT_OF_MEMORY, True)
    assert points[8]["error"] == "stopped by SIGTERM"
    lease = points[7]["lease"]
    assert (lease["host"], lease["pid"]) == (running.lease.host, running.lease.pid)
    assert (lease["job"], lease["epoch"], lease["void"]) == ("process 7", 3, None)
    assert 0 <= lease["beat_age_s"] < 30
    assert points[7]["run"] == str(sweep.run_of(7))


def test_a_lease_whose_process_has_ended_is_void_and_nobody_works(sweep):
    sweep.plan([{"optimizer.lr": 1e-4}])
    code = (
        "import sys; from pathlib import Path; from shared.sweep.ledger import SweepLedger\n"
        "ledger = SweepLedger(Path(sys.argv[1])); print(ledger.claim(ledger.points()[0].id, job=None).lease.pid)"
    )
    done = subprocess.run([sys.executable, "-c", code, sweep.folder], capture_output=True, text=True, check=True)
    found = read(sweep)
    (point,) = found["points"]
    assert point["state"] == "running"
    assert point["lease"]["void"].startswith(f"process {done.stdout.strip()} on ")
    assert point["lease"]["void"].endswith("is gone")
    assert found["state"] == "waiting"
    assert len(list(sweep.folder.glob("ledger/*/*.json"))) == 1  # looking has changed nothing


def test_a_sweep_is_done_when_all_is_settled_and_nothing_is_still_to_come(sweep):
    for stage, rates in enumerate(RATES):
        assert read(sweep)["finished"] is False
        sweep.plan([{"optimizer.lr": rate} for rate in rates], stage)
        for number, rate in enumerate(rates, start=5 * stage):
            sweep.done(number, loss(rate))
    found = read(sweep)
    assert (found["finished"], found["state"], found["total"], found["settled"]) == (True, "done", 10, 10)


def test_a_grid_knows_its_total_and_marks_what_lies_outside(tmp_path):
    space = {"kind": "grid", "values": {"model": ["a", "b"], "optimizer.lr": [0.001, 0.0001]}}
    sweep = SweepFolder(tmp_path / "p" / "sweeps" / "grid", space=space, sweeper="grid", direction="max")
    sweep.plan([{"model": "a", "optimizer.lr": 0.001}, {"model": "c", "optimizer.lr": 0.001}])
    sweep.done(0, 0.5)
    sweep.done(1, 0.9)
    found = read(sweep)
    inside, outside = found["points"]
    assert (inside["marks"], inside["counts"], inside["rank"]) == ([], True, 1)
    assert (outside["marks"], outside["counts"], outside["rank"]) == (["outside"], False, None)
    assert found["best"] == inside["id"]
    assert (found["total"], found["settled"], found["finished"]) == (4, 1, False)
    assert found["notes"] == ["1 points lie outside the space searched now; they are kept and not ranked"]


def test_a_search_of_optuna_knows_its_total_and_its_space(tmp_path):
    axes = {"lr": {"low": 1e-5, "high": 1e-1, "log": True, "whole": False}, "model": {"values": ["a", "b"]}}
    space = {"kind": "optuna", "total": 3, "axes": axes}
    sweep = SweepFolder(tmp_path / "p" / "sweeps" / "optuna", space=space, sweeper="optuna")
    sweep.plan([{"lr": 1e-3, "model": "a"}, {"lr": 1e-2, "model": "b"}, {"lr": 0.5, "model": "a"}])
    for number in range(3):
        sweep.done(number, 0.5)
    found = read(sweep)
    assert [point["marks"] for point in found["points"]] == [[], [], ["outside"]]
    assert (found["total"], found["settled"], found["finished"]) == (3, 2, False)
    sweep.plan([{"lr": 1e-4, "model": "b"}])
    sweep.done(3, 0.25)
    assert (read(sweep)["finished"], read(sweep)["state"]) == (True, "done")


def test_the_highest_is_best_where_the_direction_says_so(tmp_path):
    space = {"kind": "grid", "values": {"a": [1, 2]}}
    sweep = SweepFolder(tmp_path / "sweeps" / "grid", space=space, direction="max")
    sweep.plan([{"a": 1}, {"a": 2}])
    sweep.done(0, 0.5)
    sweep.done(1, 0.9)
    assert [point["rank"] for point in read(sweep)["points"]] == [2, 1]


def test_points_of_other_code_and_data_are_marked(sweep):
    sweep.plan([{"optimizer.lr": rate} for rate in RATES[0]])
    for number, mode in enumerate(("first", "keep")):
        content = {"schema": 1, "mode": mode, "code_hash": "ab"[number], "t": 0.0, "host": "h"}
        exclusive_files.create(sweep.folder / "contexts" / f"{number:04d}.json", content)
    exclusive_files.create(sweep.folder / "data.0.json", {"data_hash": "x"})
    sweep.done(0, 1.0, code_hash="a", data_hash="x")
    sweep.done(1, 2.0, code_hash="b", data_hash="x")
    sweep.done(2, 3.0, code_hash="b", data_hash="y")
    found = read(sweep)
    assert [point["marks"] for point in found["points"]] == [["other code"], [], ["other data"], [], []]
    assert [point["rank"] for point in found["points"]] == [1, 2, 3, None, None]  # the sweep was told to keep them
    content = {"schema": 1, "mode": "rerun", "code_hash": "c", "t": 0.0, "host": "h"}
    exclusive_files.create(sweep.folder / "contexts" / "0002.json", content)
    found = read(sweep)
    assert {tuple(point["marks"]) for point in found["points"]} == {("other code",)}
    assert found["best"] is None


def test_damaged_event_files_are_told_and_stay(sweep):
    sweep.plan([{"optimizer.lr": 1e-4}])
    sweep.done(0, 1.0)
    last = max(sweep.folder.glob("ledger/*/*.json"))
    last.write_bytes(last.read_bytes()[:20])
    found = read(sweep)
    assert found["points"][0]["state"] == "running"
    assert found["notes"] == [f"1 event files cannot be read, e.g. {last.name}; the events before them count"]
    assert last.exists()
    last.rename(last.with_name(f"{last.name}.damaged-abcdef"))
    assert read(sweep)["notes"] == [
        f"1 damaged event files were set aside, e.g. {last.name}.damaged-abcdef; the events before them count"
    ]


def test_a_clock_that_is_wrong_is_told(sweep):
    sweep.plan([{"optimizer.lr": 1e-4}])
    sweep.done(0, 1.0)
    for path in sweep.folder.glob("ledger/*/*.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"host": "elsewhere", "t": content["t"] + 600}) + "\n")
    found = read(sweep)
    assert found["points"][0]["state"] == "done"
    (note,) = found["notes"]
    assert note.startswith("the clock of host elsewhere and that of the file system differ by about +600 s")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is damaged (empty, cut off or no JSON)"),
        ('{"schema": 1', "is damaged (empty, cut off or no JSON)"),
        ("[]\n", "is damaged"),
        ('{"schema": 7}\n', "has schema 7, and this version reads 1"),
        ('{"schema": 1}\n', "sweeper is None; it must be a str"),
    ],
)
def test_a_broken_sweep_json_is_one_sentence(tmp_path, content, sentence):
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(ConfigError) as caught:
        SweepReader(tmp_path)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"direction": "up"}, "direction is 'up'; allowed are 'min' and 'max'"),
        ({"settings": SETTINGS | {"retries": -1}}, "settings that no sweep has"),
        ({"settings": SETTINGS | {"lease_s": "long"}}, "settings that no sweep has"),
    ],
)
def test_wrong_facts_are_one_sentence(tmp_path, facts, sentence):
    sweep = SweepFolder(tmp_path / "sweeps" / "s", **facts)
    with pytest.raises(ConfigError) as caught:
        SweepReader(sweep.folder)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("space", [SPACE | {"low": "x"}, SPACE | {"new": 1}, {"kind": "grid"}, {"kind": 7}, {}])
def test_a_space_of_another_version_marks_nothing(tmp_path, space):
    sweep = SweepFolder(tmp_path / "sweeps" / "s", space=space)
    sweep.plan([{"optimizer.lr": 1e-4}])
    sweep.done(0, 1.0)
    found = read(sweep)
    assert (found["points"][0]["marks"], found["total"], found["finished"]) == ([], None, False)
