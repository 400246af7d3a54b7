import json

import pytest

from projects.pillsnap.make_standin import OPTIONS, build_parser, main
from projects.pillsnap.standin import StandinConfig

SMALL = ["--classes", "2", "--unknown", "0", "--size-px", "48", "--studio-sittings", "1", "--real-sittings", "1"]


def test_command_makes_a_set_and_says_where(tmp_path, capsys):
    out = tmp_path / "pills"
    assert main([str(out), *SMALL, "--seed", "3", "--workers", "1"]) == 0
    assert capsys.readouterr().out.replace("\n", "").endswith(f"data: {out}")
    assert len(list(out.glob("*/*/*.jpg"))) == 2 * (2 + 3)
    assert json.loads((out / "standin.json").read_text())["config"]["seed"] == 3


def test_every_value_of_the_configuration_is_an_option():
    assert {key for key, _ in OPTIONS.values()} == set(StandinConfig().as_dict())
    args = build_parser().parse_args(["somewhere"])
    assert StandinConfig(**{key: getattr(args, key) for key, _ in OPTIONS.values()}) == StandinConfig()


def test_user_errors_are_one_sentence_with_their_exit_code(tmp_path, capsys):
    assert main([str(tmp_path / "pills"), "--size-px", "1"]) == 2
    assert "size_px is 1" in capsys.readouterr().err
    (tmp_path / "file").write_text("x")
    assert main([str(tmp_path), "--workers", "1"]) == 1
    assert "not empty" in capsys.readouterr().err
    assert main([str(tmp_path / "file" / "below"), "--workers", "1"]) == 1
    assert "cannot be written" in capsys.readouterr().err
    with pytest.raises(SystemExit) as refused:
        main([str(tmp_path / "pills"), "--classes", "many"])
    assert refused.value.code == 2
