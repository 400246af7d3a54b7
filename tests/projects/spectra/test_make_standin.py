import json
import os

from projects.spectra.make_standin import main
from projects.spectra.standin import StandinConfig


def test_command_makes_a_set_and_says_where(tmp_path, capsys):
    out = tmp_path / "set"
    arguments = [
        "--samples",
        "6",
        "--side-px",
        "16",
        "--sigma-px",
        "2",
        "--seed",
        "3",
        "--files",
        "1",
        "--workers",
        "1",
    ]
    assert main([str(out), *arguments]) == 0
    assert f"data: {out}" in capsys.readouterr().out
    config = StandinConfig(num_samples=6, side_px=16, sigma_px=2.0, seed=3, num_files=1)
    assert json.loads((out / "STANDIN.json").read_text())["config"] == config.as_dict()
    assert (out / "spectra_0.npy").exists()


def test_user_errors_are_one_sentence_and_their_exit_code(tmp_path, capsys):
    assert main([str(tmp_path / "set"), "--samples", "0"]) == 2
    assert capsys.readouterr().err == "standin.num_samples is 0; allowed: 1 or more.\n"


def test_full_disk_is_one_sentence(tmp_path, capsys, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert main([str(tmp_path / "set"), "--samples", "6", "--workers", "1"]) == 1
    assert "cannot be written ([Errno 28] No space left on device)." in capsys.readouterr().err
