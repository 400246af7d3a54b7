"""`python -m shared.sweep`: what it prints, what it refuses, what it changes, and how soon it is there."""

import json
import os
import subprocess
import sys
import time

import pytest

from shared.errors import ConfigError
from shared.sweep.__main__ import find_sweep, main
from tests.fabricate.sweep_folder import OUT_OF_MEMORY, RATES, SPACE, SweepFolder, loss


@pytest.fixture
def sweep(tmp_path):
    return SweepFolder(tmp_path / "outputs" / "redheart" / "sweeps" / "lr")


@pytest.fixture
def filled(sweep):
    with sweep.fill():
        yield sweep


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "beats" not in path.parts}


def test_status_prints_counts_and_a_line_a_point_and_changes_nothing(filled, capsys):
    before = contents(filled.folder)
    assert main(["status", str(filled.folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "running: 1 planned, 1 running, 6 done, 1 failed, 1 interrupted; of 10"
    assert len(lines) == 13
    assert contents(filled.folder) == before


def test_status_as_json_has_the_documented_keys(filled, capsys, repo_root):
    assert main(["status", "--json", str(filled.folder)]) == 0
    found = json.loads(capsys.readouterr().out)
    page = (repo_root / "docs" / "sweeps.md").read_text(encoding="utf-8")
    rows = page.split("## status --json")[1].split("\n## ")[0].splitlines()
    documented = {row.split("`")[1] for row in rows if row.startswith("| `")}
    lease = next(point["lease"] for point in found["points"] if point["lease"])
    told = set(found) | {f"points[].{key}" for key in found["points"][0]} | {f"points[].lease.{key}" for key in lease}
    assert documented == told


def test_it_starts_without_torch_and_hydra_within_a_second(filled):
    code = (
        "import sys; from shared.sweep.__main__ import main\n"
        "main(['status', sys.argv[1]]); heavy = {'torch', 'lightning', 'hydra', 'optuna'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    took = []
    for _ in range(3):  # the machine may be busy with other things once
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-c", code, filled.folder], capture_output=True, text=True, check=False)
        took.append(time.monotonic() - began)
        assert done.returncode == 0, done.stderr
    assert min(took) < 1.0


def test_latest_is_the_sweep_begun_last(tmp_path):
    outputs = tmp_path / "outputs"
    for place, age in (("a/sweeps/old", 30), ("b/sweeps/new", 10), ("a/sweeps/middle", 20)):
        path = SweepFolder(outputs / place).folder / "sweep.json"
        os.utime(path, (time.time() - age, time.time() - age))
    assert find_sweep("latest", outputs, None) == outputs / "b/sweeps/new"
    assert find_sweep("latest", outputs, "a") == outputs / "a/sweeps/middle"
    with pytest.raises(ConfigError, match=r"there is no sweep below .*c/sweeps"):
        find_sweep("latest", outputs, "c")


def run(*arguments, **options):
    command = [sys.executable, "-m", "shared.sweep", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)


@pytest.mark.parametrize("command", ["status", "table", "retry", "watch", "work"])
@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda folder: None, "is no folder; name the folder of a sweep, or latest"),
        (lambda folder: folder.mkdir(), "holds no sweep.json, so it is no sweep"),
        (lambda folder: (folder.mkdir(), (folder / "sweep.json").write_text('{"sch')), "is damaged (empty, cut off"),
    ],
)
def test_what_is_no_sweep_is_refused_by_every_command(tmp_path, capsys, command, make, sentence):
    make(tmp_path / "x")
    with pytest.raises(ConfigError) as caught:
        main([command, str(tmp_path / "x"), *(["--all"] if command == "retry" else [])])
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_an_error_is_one_line_and_exit_code_2(tmp_path):
    done = run("status", tmp_path / "nowhere")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: {tmp_path / 'nowhere'} is no folder; name the folder of a sweep, or latest"
    ]
    assert run("dance").returncode == 2


def test_retry_takes_numbers_and_ids_and_says_how_to_go_on(filled, capsys):
    failed = filled.ledger.points()[6]
    assert main(["retry", str(filled.folder), "6"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "1 point may be tried again"
    assert printed[1].startswith("to go on: give the sweep's command again, or python -m shared.sweep work ")
    assert filled.ledger.point(failed.id).state == "planned"
    filled.claim(6).failed(OUT_OF_MEMORY, final=True)
    assert main(["retry", str(filled.folder), failed.id[:5]]) == 0
    filled.claim(6).failed(OUT_OF_MEMORY, final=True)
    assert main(["retry", str(filled.folder), "--all"]) == 0
    assert filled.ledger.point(failed.id).state == "planned"
    assert main(["retry", str(filled.folder), "--all"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 points may be tried again"


def test_retry_sets_aside_a_damaged_event_that_has_the_next_number(filled, capsys):
    failed = filled.ledger.points()[6]
    path = filled.folder / "ledger" / failed.id[:2] / f"{failed.id}.{failed.last_event + 1:04d}.json"
    path.write_bytes(b"")
    assert main(["retry", str(filled.folder), "--all"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "1 point may be tried again"
    assert json.loads(path.read_text())["kind"] == "retry"
    assert len(list(path.parent.glob(f"{path.name}.damaged-*"))) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "retry needs either the points to be tried again"),
        (["6", "--all"], "retry needs either the points to be tried again"),
        (["77"], "'77' names no points; give a number of status"),
        (["0"], "point 0 is done; only points that failed for good are tried again"),
        (["7"], "point 7 is running; only points that failed for good"),
    ],
)
def test_retry_refuses_what_it_cannot_mean(filled, arguments, sentence):
    before = contents(filled.folder)
    with pytest.raises(ConfigError) as caught:
        main(["retry", str(filled.folder), *arguments])
    assert sentence in str(caught.value)
    assert contents(filled.folder) == before


def test_retry_of_a_point_whose_process_is_gone_says_what_goes_on_with_it(sweep):
    sweep.plan([{"optimizer.lr": 1e-4}])
    code = (
        "import sys; from pathlib import Path; from shared.sweep.ledger import SweepLedger\n"
        "ledger = SweepLedger(Path(sys.argv[1])); ledger.claim(ledger.points()[0].id, job=None)"
    )
    subprocess.run([sys.executable, "-c", code, sweep.folder], check=True)
    with pytest.raises(ConfigError, match=r"nobody runs point 0 any more \(process .* is gone\): the sweep's command"):
        main(["retry", str(sweep.folder), "0"])


def test_watch_ends_when_all_is_settled(sweep, capsys):
    for stage, rates in enumerate(RATES):
        sweep.plan([{"optimizer.lr": rate} for rate in rates], stage)
        for number, rate in enumerate(rates, start=5 * stage):
            sweep.done(number, loss(rate))
    assert main(["watch", str(sweep.folder), "--every", "0.05"]) == 0
    assert "10 of 10 settled, nothing left" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="--every is 0; a number of seconds above 0 is needed"):
        main(["watch", str(sweep.folder), "--every", "0"])


def test_watch_goes_on_until_the_last_point_and_leaves_at_ctrl_c(filled, tmp_path):
    command = [sys.executable, "-m", "shared.sweep", "watch", str(filled.folder), "--every", "0.05"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        time.sleep(1.5)
        assert watching.poll() is None
        watching.send_signal(2)
        out, err = watching.communicate(timeout=20)
    assert watching.returncode == 0
    assert err == ""
    assert "7 of 10 settled" in out


def test_work_refuses_a_number_of_points_below_one(filled):
    with pytest.raises(ConfigError, match="--max-points is 0; a number from 1 on is needed"):
        main(["work", str(filled.folder), "--max-points", "0"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_may_not_be_read_is_one_sentence(filled):
    filled.folder.chmod(0)
    try:
        done = run("status", filled.folder)
    finally:
        filled.folder.chmod(0o755)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_a_ledger_on_a_read_only_disk_is_still_shown(filled, capsys, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(30, "Read-only file system")

    for name in ("link", "rename", "unlink", "mkdir"):
        monkeypatch.setattr(os, name, refuse)
    assert main(["status", str(filled.folder)]) == 0
    assert "6 done" in capsys.readouterr().out


def test_a_point_space_without_a_total_says_so(tmp_path, capsys):
    sweep = SweepFolder(tmp_path / "p" / "sweeps" / "s", space=SPACE | {"kind": "new"})
    sweep.plan([{"a": 1}])
    assert main(["status", str(sweep.folder)]) == 0
    assert "of an unknown total" in capsys.readouterr().out


def test_table_ranks_and_rebuilds_the_exports(filled, capsys):
    assert main(["table", str(filled.folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["rank", "score", "values", "stage", "point"]
    assert lines[1].split()[:3] == ["1", "0.40014", "optimizer.lr=7.071e-05"]
    assert lines[-1].startswith("exports: ")
    assert not (filled.folder / "optimal_lr.json").exists()  # a point is still missing
    found = json.loads((filled.folder / "lr_sweep_cumulative.json").read_text())
    assert [point["status"] for point in found["points"]].count("done") == 6
    before = (filled.folder / "table.csv").read_bytes()
    (filled.folder / "table.csv").unlink()
    assert main(["table", str(filled.folder)]) == 0
    assert (filled.folder / "table.csv").read_bytes() == before


def test_table_of_a_finished_sweep_names_the_best(sweep, capsys):
    for stage, rates in enumerate(RATES):
        sweep.plan([{"optimizer.lr": rate} for rate in rates], stage)
        for number, rate in enumerate(rates, start=5 * stage):
            sweep.done(number, loss(rate))
    assert main(["table", str(sweep.folder)]) == 0
    assert json.loads((sweep.folder / "optimal_lr.json").read_text())["lr"] == 7.875e-5
    assert "optimal_lr.json" in capsys.readouterr().out.splitlines()[-1]


def test_exports_that_cannot_be_written_are_one_sentence(filled, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(ConfigError, match=r"the exports cannot be written to .*lr: Read-only file system"):
        main(["table", str(filled.folder)])


def test_who_reads_only_the_head_gets_no_stack_trace(filled):
    command = [sys.executable, "-m", "shared.sweep", "status", str(filled.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as status:
        status.stdout.close()
        err = status.stderr.read()
        assert status.wait(timeout=20) == 141
    assert err == ""


def test_a_point_that_is_tried_again_takes_the_best_back(filled):
    (filled.folder / "optimal_lr.json").write_text("{}")
    assert main(["retry", str(filled.folder), "--all"]) == 0
    assert not (filled.folder / "optimal_lr.json").exists()
