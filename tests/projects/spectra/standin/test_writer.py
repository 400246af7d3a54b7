import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import numpy as np
import psutil
import pytest

from projects.spectra.standin import StandinConfig, generate_standin, writer
from projects.spectra.standin.config import WAVELENGTHS_NM
from projects.spectra.standin.diffraction import quadrant_power_reference
from projects.spectra.standin.patterns import random_patterns
from shared.errors import ConfigError, DataError

CONFIG = StandinConfig(num_samples=1101, side_px=32, sigma_px=2.75, padding_share=0.02, num_files=2, seed=5)
FILES = ["STANDIN.json", "spectra_0.npy", "spectra_1.npy", "struct_0.npy", "struct_1.npy"]


def digests(root):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(root.iterdir())}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return generate_standin(tmp_path_factory.mktemp("standin") / "set", CONFIG, workers=1)


def break_after(monkeypatch, blocks, error):
    """Let so many blocks be written, then raise; returns the list of blocks that were begun."""
    whole, begun = writer._write_block, []

    def breaks(root, block, config):
        begun.append(block.number)
        if len(begun) > blocks:
            raise error
        return whole(root, block, config)

    monkeypatch.setattr(writer, "_write_block", breaks)
    return begun


def test_files_have_the_real_format(root):
    assert sorted(path.name for path in root.iterdir()) == FILES
    for number, rows in enumerate((551, 550)):
        patterns, spectra = np.load(root / f"struct_{number}.npy"), np.load(root / f"spectra_{number}.npy")
        assert (patterns.shape, patterns.dtype) == ((rows, 1, 32, 32), np.uint8)
        assert (spectra.shape, spectra.dtype) == ((rows, 3, 301), np.float32)
        assert set(np.unique(patterns)) == {0, 255}
        np.testing.assert_array_equal(patterns, patterns.swapaxes(2, 3))


def test_rows_are_the_powers_of_their_patterns(root):
    patterns = np.concatenate([np.load(root / f"struct_{number}.npy")[:, 0] for number in (0, 1)])
    spectra = np.concatenate([np.load(root / f"spectra_{number}.npy") for number in (0, 1)])
    np.testing.assert_array_equal(patterns // 255, random_patterns(CONFIG.seed, 0, 1101, CONFIG))
    padding = ~spectra.any((1, 2))
    assert padding.sum() == 22
    assert patterns[padding].any((1, 2)).all()
    red, green, blue = -spectra[~padding].swapaxes(0, 1)
    assert min(red.min(), green.min(), blue.min()) >= 0
    assert (blue + 2 * green + red).max() <= 1 + 1e-6
    some = np.flatnonzero(~padding)[::40]
    power = quadrant_power_reference(patterns[some] // 255, CONFIG, WAVELENGTHS_NM)
    expected = np.stack([power[:, 1, 1], (power[:, 0, 1] + power[:, 1, 0]) / 2, power[:, 0, 0]], 1)
    np.testing.assert_allclose(-spectra[some], expected, rtol=0, atol=1e-5)


def test_marker_counts(root):
    marker = json.loads((root / "STANDIN.json").read_text())
    assert marker["complete"] is True
    assert marker["counts"] == {"samples": 1101, "padding_rows": 22, "rows": [551, 550]}


def test_blocks_cover_every_row_once():
    blocks = writer.plan_blocks(CONFIG)
    assert [(block.file, block.row, block.sample, block.count) for block in blocks] == [
        (0, 0, 0, 256), (0, 256, 256, 256), (0, 512, 512, 39), (1, 0, 551, 256), (1, 256, 807, 256), (1, 512, 1063, 38),
    ]  # fmt: skip


def test_two_workers_write_the_same_bytes(root, tmp_path):
    seen = []
    made = generate_standin(tmp_path / "two", CONFIG, workers=2, on_progress=lambda *counts: seen.append(counts))
    assert digests(made) == digests(root)
    assert seen[0] == (0, 1101)
    assert seen[-1] == (1101, 1101)


def test_complete_set_returns_at_once(root, monkeypatch):
    begun = break_after(monkeypatch, 0, AssertionError("wrote again"))
    assert generate_standin(root, CONFIG, workers=1) == root
    assert begun == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_interrupted_set_is_resumed_to_the_same_bytes(root, tmp_path, monkeypatch, error):
    target = tmp_path / "resumed"
    with monkeypatch.context() as patch:
        break_after(patch, 4, error)
        with pytest.raises(type(error)):
            generate_standin(target, CONFIG, workers=1)
    assert json.loads((target / "STANDIN.json").read_text())["complete"] is False
    (target / ".struct_1-abc.npy").write_bytes(b"half")
    with (target / "journal.txt").open("a") as journal:
        journal.write("4 0bad")  # torn in the middle of a line
    with (target / "struct_0.npy").open("r+b") as stream:  # a page of block 1 that never reached the disk
        stream.seek(128 + 300 * 1024)
        stream.write(bytes(1024))
    begun, seen = break_after(monkeypatch, 99, error), []
    generate_standin(target, CONFIG, workers=1, on_progress=lambda *counts: seen.append(counts))
    assert digests(target) == digests(root)
    assert begun == [1, 4, 5]
    assert seen[0] == (256 + 39 + 256, 1101)
    assert seen[-1] == (1101, 1101)


def test_lost_or_short_file_of_a_half_made_set_is_made_again(root, tmp_path, monkeypatch):
    target = tmp_path / "lost"
    with monkeypatch.context() as patch:
        break_after(patch, 5, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            generate_standin(target, CONFIG, workers=1)
    (target / "struct_0.npy").unlink()
    os.truncate(target / "spectra_1.npy", 5000)
    begun = break_after(monkeypatch, 99, KeyboardInterrupt())
    generate_standin(target, CONFIG, workers=1)
    assert digests(target) == digests(root)
    assert begun == [0, 1, 2, 3, 4, 5]


def test_full_disk_while_the_files_are_made_is_an_error_and_resumes(root, tmp_path, monkeypatch):
    target, whole, calls = tmp_path / "full", os.posix_fallocate, []

    def fills(*args):
        calls.append(args)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(*args)

    monkeypatch.setattr(os, "posix_fallocate", fills)
    with pytest.raises(OSError, match="No space left"):
        generate_standin(target, CONFIG, workers=1)
    assert sorted(path.name for path in target.iterdir()) == ["STANDIN.json", "struct_0.npy"]
    assert digests(generate_standin(target, CONFIG, workers=1)) == digests(root)


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_process_is_resumed_to_the_same_bytes(root, tmp_path, workers):
    target, config = tmp_path / "killed", replace(CONFIG, num_samples=8000)
    options = [item for key, value in config.as_dict().items()
               for item in ("--" + key.removeprefix("num_").replace("_", "-"), str(value))]  # fmt: skip
    command = [sys.executable, "-m", "projects.spectra.make_standin", str(target), *options, "--workers", str(workers)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal, deadline = target / "journal.txt", time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if journal.exists() and journal.stat().st_size:
            children = psutil.Process(process.pid).children()
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.001)
    assert process.wait() == -signal.SIGKILL
    assert len(children) >= (2 if workers == 2 else 0)
    assert not psutil.wait_procs(children, timeout=20)[1]  # no worker outlives its parent
    assert json.loads((target / "STANDIN.json").read_text())["complete"] is False
    seen = []
    generate_standin(target, config, workers=1, on_progress=lambda *counts: seen.append(counts))
    assert 0 < seen[0][0] < 8000
    assert digests(target) == digests(generate_standin(tmp_path / "untouched", config, workers=1))


def test_second_call_for_a_folder_waits_for_the_first(root, tmp_path, monkeypatch):
    begun = break_after(monkeypatch, 99, KeyboardInterrupt())
    calls = [threading.Thread(target=generate_standin, args=(tmp_path / "both", CONFIG), kwargs={"workers": 1})
             for _ in range(2)]  # fmt: skip
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert begun == [0, 1, 2, 3, 4, 5]
    assert digests(tmp_path / "both") == digests(root)


def test_folder_whose_marker_was_never_finished_is_taken(root, tmp_path):
    (tmp_path / ".STANDIN-abc.json").write_text("{")
    assert digests(generate_standin(tmp_path, CONFIG, workers=1)) == digests(root)


def test_dead_worker_is_one_sentence(tmp_path, monkeypatch):
    class DeadPool:
        def __init__(self, *args, **kwargs):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *args):
            return None

        def submit(self, *args):
            raise BrokenProcessPool("a process was terminated abruptly")

    monkeypatch.setattr(writer, "ProcessPoolExecutor", DeadPool)
    with pytest.raises(DataError, match=r"A worker process died while writing .*; the same call resumes it"):
        generate_standin(tmp_path / "dead", CONFIG, workers=2)


def test_another_configuration_is_refused_by_name(root):
    before = digests(root)
    with pytest.raises(DataError, match=r"seed is 5, asked for 6\); give another folder"):
        generate_standin(root, replace(CONFIG, seed=6))
    assert digests(root) == before


def test_foreign_folders_are_left_alone(tmp_path):
    (tmp_path / "precious.npy").write_text("1")
    with pytest.raises(DataError, match=r"is not empty and has no STANDIN\.json"):
        generate_standin(tmp_path, CONFIG, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.npy"]


def test_complete_set_that_lost_a_file_is_refused(tmp_path):
    config = replace(CONFIG, num_samples=4)
    generate_standin(tmp_path / "set", config, workers=1)
    (tmp_path / "set" / "spectra_1.npy").unlink()
    with pytest.raises(DataError, match=r"spectra_1\.npy is missing or not \(2, 3, 301\)"):
        generate_standin(tmp_path / "set", config, workers=1)


def test_broken_marker_and_bad_arguments_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"standin\.workers is 0"):
        generate_standin(tmp_path / "new", CONFIG, workers=0)
    with pytest.raises(ConfigError, match="rings of diffraction orders"):
        generate_standin(tmp_path / "new", replace(CONFIG, side_px=128, distance_um=0.05), workers=1)
    assert not (tmp_path / "new").exists()
    (tmp_path / "STANDIN.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        generate_standin(tmp_path, CONFIG)
    (tmp_path / "STANDIN.json").write_text('{"format_version": 99, "config": {}, "complete": true}')
    with pytest.raises(DataError, match="format_version is 99"):
        generate_standin(tmp_path, CONFIG)
