import hashlib
import io
import json
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from PIL import Image

from projects.pillsnap.standin import StandinConfig, generate_standin, read_config, writer
from projects.pillsnap.standin.drugs import plan_drugs
from shared.errors import ConfigError, DataError
from tests.fabricate.pill_standin import tiny_config, write_tiny

CONFIG = tiny_config()
TOTAL = 6 * (3 * 2 + 4 * 2) + 2 * 4 * 2


def digests(root):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("standin") / "data")


def test_tree_and_drugs_have_the_agreed_form(root):
    rows = json.loads((root / "top_100_drugs.json").read_text())
    assert len(rows) == 6
    keys = ["kcode", "name", "manufacturer", "form", "weight", "shape", "colors", "imprint"]
    assert all(list(row) == keys for row in rows)
    codes = {row["kcode"] for row in rows}
    assert (
        {path.name for path in (root / "studio").iterdir()}
        == {path.name for path in (root / "real").iterdir()}
        == codes
    )
    others = {path.name for path in (root / "others").iterdir()}
    assert len(others) == 2
    assert not others & codes
    assert {path.name for path in root.iterdir()} == {
        *("top_100_drugs.json", "studio", "real", "others", "SOURCE.txt", "standin.json")
    }
    code = rows[0]["kcode"]
    names = {path.name for path in (root / "studio" / code).iterdir()}
    assert names == {f"s{sitting:02d}_{shot:02d}.jpg" for sitting in range(3) for shot in range(2)}
    names = {path.name for path in (root / "real" / code).iterdir()}
    assert names == {f"r{sitting:02d}_{shot:02d}.jpg" for sitting in range(4) for shot in range(2)}
    with Image.open(io.BytesIO((root / "real" / code / "r00_00.jpg").read_bytes())) as picture:
        assert (picture.format, picture.size) == ("JPEG", (96, 96))
    assert "No photograph" in (root / "SOURCE.txt").read_text()


def test_no_two_photos_are_the_same(root):
    found = {name: digest for name, digest in digests(root).items() if name.endswith(".jpg")}
    assert len(found) == len(set(found.values())) == TOTAL


def test_marker_tells_configuration_pairs_and_counts(root):
    marker = json.loads((root / "standin.json").read_text())
    assert marker["complete"] is True
    assert marker["counts"] == {"studio": 36, "real": 48, "others": 16}
    assert [tuple(pair) for pair in marker["look_alikes"]] == list(plan_drugs(CONFIG).pairs)
    assert len(marker["look_alikes"]) == 1
    assert [row["kcode"] for row in marker["others"]] == [drug.kcode for drug in plan_drugs(CONFIG).unknown]
    weights = {row["kcode"]: row["weight"] for row in json.loads((root / "top_100_drugs.json").read_text())}
    assert {code for code, weight in weights.items() if weight == 1.5} == set(marker["look_alikes"][0])
    assert read_config(root) == CONFIG


def test_two_workers_write_the_same_bytes(root, tmp_path):
    assert digests(generate_standin(tmp_path / "two", CONFIG, workers=2)) == digests(root)


def test_complete_set_returns_at_once(root, monkeypatch):
    monkeypatch.setattr(writer, "photo_bytes", lambda *args: pytest.fail("rendered a finished photo again"))
    assert generate_standin(root, CONFIG, workers=1) == root


def test_interrupted_set_is_resumed_to_the_same_bytes(root, tmp_path, monkeypatch):
    target, render, left = tmp_path / "resumed", writer.photo_bytes, [21]

    def dies(*args):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return render(*args)

    monkeypatch.setattr(writer, "photo_bytes", dies)
    with pytest.raises(KeyboardInterrupt):
        generate_standin(target, CONFIG, workers=1)
    assert json.loads((target / "standin.json").read_text())["complete"] is False
    some = next((target / "studio").iterdir())
    (some / ".s00_01-abc.jpg").write_bytes(b"half")
    calls, seen = [], []
    monkeypatch.setattr(writer, "photo_bytes", lambda *args: calls.append(args) or render(*args))
    generate_standin(target, CONFIG, workers=1, on_progress=lambda done, total: seen.append((done, total)))
    assert digests(target) == digests(root)
    assert len(calls) == TOTAL - 21
    assert seen[0] == (21, TOTAL)
    assert seen[-1] == (TOTAL, TOTAL)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_process_is_resumed_to_the_same_bytes_and_leaves_no_worker(root, tmp_path, workers):
    target = tmp_path / "killed"
    sizes = ["--classes", "6", "--unknown", "2", "--size-px", "96", "--look-alike-share", "0.4"]
    sizes += ["--studio-sittings", "3", "--real-sittings", "4", "--real-per-sitting", "2", "--workers", str(workers)]
    command = [sys.executable, "-m", "projects.pillsnap.make_standin", str(target), *sizes]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while len(list(target.glob("*/*/s*.jpg"))) < 3 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert len(children) >= (workers if workers > 1 else 0)
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    assert len(list(target.glob("*/*/[!.]*.jpg"))) < TOTAL
    assert digests(generate_standin(target, CONFIG, workers=1)) == digests(root)


def test_a_second_call_waits_for_the_first(root, tmp_path, monkeypatch):
    target, render, held, go = tmp_path / "both", writer.photo_bytes, threading.Event(), threading.Event()
    calls = []

    def slow(*args):
        calls.append(args)
        held.set()
        assert go.wait(20)
        return render(*args)

    monkeypatch.setattr(writer, "photo_bytes", slow)
    threads = [
        threading.Thread(target=generate_standin, args=(target, CONFIG), kwargs={"workers": 1}) for _ in range(2)
    ]
    threads[0].start()
    assert held.wait(20)
    threads[1].start()
    time.sleep(0.1)
    assert len(calls) == 1  # the second has not begun
    go.set()
    for thread in threads:
        thread.join(60)
    assert len(calls) == TOTAL
    assert digests(target) == digests(root)


def test_another_configuration_is_refused_by_name(root):
    before = digests(root)
    with pytest.raises(DataError, match=r"seed is 0, asked for 6"):
        generate_standin(root, StandinConfig(**{**CONFIG.as_dict(), "seed": 6}))
    assert digests(root) == before


def test_foreign_folders_are_left_alone(tmp_path):
    (tmp_path / "precious.csv").write_text("1")
    with pytest.raises(DataError, match=r"not empty and has no standin\.json"):
        generate_standin(tmp_path, CONFIG, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.csv"]


def test_broken_markers_and_bad_workers_are_named(tmp_path):
    marker = tmp_path / "standin.json"
    with pytest.raises(DataError, match="cannot be read"):
        read_config(tmp_path)
    for broken in ("{", "[1]", '{"format_version": 1}'):
        marker.write_text(broken)
        with pytest.raises(DataError, match=r"standin\.json cannot be read"):
            generate_standin(tmp_path, CONFIG)
    marker.write_text(json.dumps({"format_version": 9, "config": {}, "complete": True}))
    with pytest.raises(DataError, match="format_version is 9; this code writes 1"):
        generate_standin(tmp_path, CONFIG)
    marker.write_text(json.dumps({"format_version": 1, "config": {"size_px": 1}, "complete": True}))
    with pytest.raises(DataError, match=r"cannot be used \(standin\.size_px is 1"):
        read_config(tmp_path)
    with pytest.raises(ConfigError, match=r"standin\.workers is 0; allowed: 1 or more"):
        generate_standin(tmp_path / "new", CONFIG, workers=0)
