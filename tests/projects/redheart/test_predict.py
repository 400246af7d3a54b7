import csv
import io
import json

import pytest

from projects.redheart.predict import main, one_text, predictions_csv, read_texts
from shared.errors import DataError

ANSWERS = [
    {"id": "a,b", "emotion": "joy", "probabilities": {"joy": 0.75, "fear": 0.25},
     "scores": {"surd": {"depth": 0.5}, "regret": {"regret_factor": 0.125}}},
]  # fmt: skip


def test_the_csv_has_a_line_a_story():
    rows = list(csv.reader(io.StringIO(predictions_csv(ANSWERS))))
    assert rows[0] == ["id", "emotion", "prob_joy", "prob_fear", "surd_depth", "regret_regret_factor"]
    assert rows[1] == ["a,b", "joy", "0.75", "0.25", "0.5", "0.125"]


def test_a_story_from_the_command_line_has_what_was_given():
    stories = one_text("I lost it.", "The ring", "")
    assert (stories.text, stories.title, stories.action) == (["I lost it."], ["The ring"], [""])
    assert stories.label.tolist() == [-1]
    with pytest.raises(DataError, match="--text is empty; give at least one word"):
        one_text("  ", "", "")


def test_a_file_is_read_as_for_training(tmp_path):
    path = tmp_path / "stories.json"
    path.write_text(json.dumps([{"id": "x", "text": "He ran."}]))
    assert read_texts(path).ids == ["x"]
    path.write_text(json.dumps([{"id": "x"}]))
    with pytest.raises(DataError, match="x"):
        read_texts(path)


@pytest.mark.parametrize(
    ("arguments", "sentence", "code"),
    [
        (["--text", "a", "--out", "p.txt"], "--out is p.txt, allowed: a file name that ends in .json or .csv", 2),
        (["--file", "s.json", "--title", "t"], "--title and --action belong to --text", 2),
        (["--file", "s.json", "--out", "s.json"], "s.json is the file of stories itself", 2),
        (["--text", " "], "--text is empty", 1),
        (["--text", "a"], "is not a run directory", 2),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, capsys, arguments, sentence, code):
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path), *arguments])
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert sentence in told[0]
    assert stop.value.code == code
