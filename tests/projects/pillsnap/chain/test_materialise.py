import signal
import subprocess
import sys

import pytest

from projects.pillsnap.chain import materialise
from projects.pillsnap.chain.files import sha256_bytes
from projects.pillsnap.chain.integration import integrate
from projects.pillsnap.chain.splitting import split
from shared.errors import DataError

KILLED = """
import os, signal, sys
from pathlib import Path
from projects.pillsnap.chain.integration import Roots, integrate

raw, at = Path(sys.argv[2]), int(sys.argv[3])

def stop(what, done, total):
    if what == "writing" and done == at:
        os.kill(os.getpid(), signal.SIGKILL)

integrate(Path(sys.argv[1]), Roots(raw / "studio", raw / "real", raw / "others"), on_progress=stop)
"""


def tree(dataset):
    """Every file with what it holds, or where it leads."""
    return {
        str(path.relative_to(dataset)): str(path.readlink()) if path.is_symlink() else sha256_bytes(path.read_bytes())
        for path in sorted(dataset.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def test_a_second_run_has_nothing_to_do_and_touches_nothing(integrated, roots):
    before = tree(integrated)
    stamps = {path: path.lstat().st_mtime_ns for path in integrated.rglob("*")}
    _, outcome = integrate(integrated, roots)
    assert outcome.nothing_to_do
    assert tree(integrated) == before
    assert {path: path.lstat().st_mtime_ns for path in integrated.rglob("*")} == stamps


@pytest.mark.parametrize("at", [1, 120])
def test_a_killed_run_is_completed_to_the_same_bytes(mapped, roots, raw, repo_root, at):
    command = [sys.executable, "-c", KILLED, str(mapped), str(raw), str(at)]
    done = subprocess.run(command, cwd=repo_root, capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    half = tree(mapped)
    assert "captures.csv" not in half
    assert 1 <= len(half) < 224
    with pytest.raises(
        DataError, match=r"integration_stats\.json does not exist; .*integrate` first, or again if it was"
    ):
        split(mapped)
    _, outcome = integrate(mapped, roots)
    assert outcome.changes == ("completed what an interrupted run had begun",)
    assert outcome.written == 224 - at
    resumed = tree(mapped)
    fresh = mapped.parent / "fresh"
    fresh.mkdir()
    (fresh / "class_mapping.json").write_bytes((mapped / "class_mapping.json").read_bytes())
    integrate(fresh, roots)
    assert tree(fresh) == resumed


def test_a_kill_in_the_middle_of_a_copy_leaves_no_half_photo(mapped, roots, monkeypatch):
    replace = materialise.Path.replace

    def fail(self, target):
        if self.name.startswith(".partial-real_"):
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(materialise.Path, "replace", fail)
        with pytest.raises(KeyboardInterrupt):
            integrate(mapped, roots)
    left = [path.name for path in (mapped / "combined").glob("*/*") if path.name.startswith("real_")]
    assert left == []
    assert [path.name for path in (mapped / "combined").glob("*/.partial-*")] == [".partial-real_r00_00.jpg"]
    _, outcome = integrate(mapped, roots)
    assert outcome.removed == 1
    assert not list(mapped.rglob(".partial-*"))
    assert integrate(mapped, roots)[1].nothing_to_do


def test_a_kill_while_an_older_integration_is_replaced_leaves_no_tables(integrated, roots, monkeypatch):
    (roots.real / "K-000001" / "r00_00.jpg").unlink()

    def fail(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(materialise, "_place", fail)
        with pytest.raises(KeyboardInterrupt):
            integrate(integrated, roots)
    assert not (integrated / "captures.csv").exists()
    assert not (integrated / "integration_stats.json").exists()


def test_missing_and_altered_photos_are_restored(integrated, roots):
    before = tree(integrated)
    folder = integrated / "combined" / "K-000002"
    (folder / "real_r01_00.jpg").unlink()
    content = bytearray((folder / "real_r02_00.jpg").read_bytes())
    content[-3] ^= 1  # same size
    (folder / "real_r02_00.jpg").write_bytes(content)
    link = next(folder.glob("studio_*"))
    link.unlink()
    link.symlink_to("elsewhere.jpg")
    _, outcome = integrate(integrated, roots)
    assert (outcome.written, outcome.removed, outcome.changes) == (3, 0, ())
    assert tree(integrated) == before


def test_changed_inputs_are_said(integrated, roots):
    used = sorted(path.name for path in (integrated / "combined" / "K-000003").glob("real_*"))
    victim = roots.real / "K-000003" / used[0].removeprefix("real_")
    victim.write_bytes(victim.read_bytes() + b"\0")
    _, outcome = integrate(integrated, roots)
    assert outcome.changes == (f"1 photo(s) with other bytes, first combined/K-000003/{used[0]}",)
    assert outcome.written == 1
    for path in (roots.others / "K-900002").iterdir():
        path.unlink()
    _, outcome = integrate(integrated, roots)
    assert outcome.changes == ("6 photo(s) removed, first others/K-900002/other_r00_00.jpg",)
    assert not (integrated / "others" / "K-900002").exists()


def test_a_damaged_table_is_replaced_and_said(integrated, roots):
    before = tree(integrated)
    (integrated / "captures.csv").write_text("nonsense")
    _, outcome = integrate(integrated, roots)
    assert outcome.changes == ("replaced captures.csv, which could not be read",)
    assert tree(integrated) == before


@pytest.mark.parametrize(
    "stray",
    ["combined/K-000001/mine.jpg", "combined/K-000001/studio_x.jpg", "others/notes.txt", "others/K-900001/real_a"],
)
def test_what_it_did_not_make_is_never_removed(integrated, roots, stray):
    (integrated / stray).write_text("precious")
    with pytest.raises(DataError, match=rf"{stray.split('/')[-1]} was not made by this command; move it out of"):
        integrate(integrated, roots)
    assert (integrated / stray).read_text() == "precious"


def test_a_folder_that_is_a_link_is_not_written_through(mapped, roots, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (mapped / "combined").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"combined is a link; this command writes there"):
        integrate(mapped, roots)


def test_a_photo_that_changes_under_way_is_refused(mapped, roots, raw):
    def change(what, done, total):
        if what == "writing" and done == 1:
            for path in (raw / "real").glob("*/*"):
                path.write_bytes(b"\xff\xd8\xff other")

    with pytest.raises(
        DataError, match=r"raw/real/K-00000\d/.*jpg changed while it was copied; run the same command again"
    ):
        integrate(mapped, roots, on_progress=change)


def test_a_full_disk_leaves_what_a_second_run_completes(mapped, roots, monkeypatch):
    write_bytes, calls = materialise.Path.write_bytes, []

    def full(self, content):
        calls.append(self)
        if len(calls) == 40:
            raise OSError(28, "No space left on device")
        return write_bytes(self, content)

    with monkeypatch.context() as patched:
        patched.setattr(materialise.Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            integrate(mapped, roots)
    integrate(mapped, roots)
    assert integrate(mapped, roots)[1].nothing_to_do
    assert len(tree(mapped)) == 1 + 224 + 2
