import json

from projects.redheart.data.stories import read_stories
from projects.redheart.make_standin import main


def test_command_makes_a_set_and_says_where(tmp_path, capsys):
    out = tmp_path / "stories"
    assert main([str(out), "--stories", "40", "--near-duplicates", "0.1", "--subjects", "5", "--seed", "3"]) == 0
    assert "data: " in capsys.readouterr().out
    stories, reading = read_stories(out / "stories.json")
    assert len(stories) == 40
    assert reading.unknown == {}
    assert len(json.loads((out / "near_duplicates.json").read_text())) == 4
    assert json.loads((out / "STANDIN.json").read_text())["config"]["seed"] == 3


def test_user_errors_are_one_sentence_with_their_exit_code(tmp_path, capsys):
    assert main([str(tmp_path / "x"), "--stories", "1"]) == 2
    assert "num_stories is 1; allowed: 20 to 1000000" in capsys.readouterr().err
    (tmp_path / "file").write_text("x")
    assert main([str(tmp_path)]) == 1
    assert "not empty" in capsys.readouterr().err
    assert main([str(tmp_path / "file" / "below")]) == 1
    assert "cannot be written" in capsys.readouterr().err
