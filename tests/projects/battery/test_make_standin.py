import json

from projects.battery.make_standin import main


def test_command_makes_a_set_and_says_where(tmp_path, capsys):
    out = tmp_path / "ct"
    arguments = [str(out), "--slices", "6", "--batteries", "2", "--size-px", "32", "--seed", "3", "--workers", "1"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.strip().endswith(f"data: {out}".splitlines()[-1])
    assert len(list((out / "images").iterdir())) == 6
    assert json.loads((out / "STANDIN.json").read_text())["config"]["seed"] == 3


def test_user_errors_are_one_sentence_with_their_exit_code(tmp_path, capsys):
    assert main([str(tmp_path / "ct"), "--size-px", "1"]) == 2
    assert "size_px is 1" in capsys.readouterr().err
    (tmp_path / "file").write_text("x")
    assert main([str(tmp_path), "--workers", "1"]) == 1
    assert "not empty" in capsys.readouterr().err
    assert main([str(tmp_path / "file" / "below"), "--workers", "1"]) == 1
    assert "cannot be written" in capsys.readouterr().err
