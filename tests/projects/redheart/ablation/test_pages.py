import csv
import io
import json

import pytest
from rich.console import Console

from projects.redheart.ablation.compare import compare, sentences
from projects.redheart.ablation.pages import print_ablation, write_ablation
from tests.projects.redheart.ablation.story_answers import story_answers


@pytest.fixture(scope="module")
def content():
    without = {"dsp": story_answers(signal=0.3), "kalman": story_answers()}
    rows = compare(story_answers(), without, seed=0, draws=200, advance=lambda done, total: None)
    part = {"comparisons": 8, "rows": rows, "sentences": sentences(rows)}
    return {"schema": 1, "run": "r", "seed": 0, "draws": 200, "note": "n", "switched_off": part, "retrained": part}


def test_files_hold_the_same_numbers_and_are_the_same_again(tmp_path, content):
    paths = write_ablation(tmp_path / "ablation", content)
    assert json.loads(paths["ablation.json"].read_text()) == content
    rows = list(csv.DictReader(io.StringIO(paths["ablation.csv"].read_text())))
    assert len(rows) == 2 * 2 * 8
    first = content["switched_off"]["rows"][0]
    assert (rows[0]["module"], rows[0]["metric"]) == ("dsp", "emotion/f1_macro")
    assert float(rows[0]["worth"]) == first["worth"]["value"]
    assert float(rows[0]["lo"]) == first["worth"]["lo"]
    idle = next(row for row in rows if row["module"] == "kalman")
    assert (idle["worth"], idle["lo"], idle["verdict"]) == ("0.0", "", "changes no answer")
    before = {name: path.read_bytes() for name, path in paths.items()}
    assert before["ablation.png"].startswith(b"\x89PNG")
    again = write_ablation(tmp_path / "again", content)
    assert {name: path.read_bytes() for name, path in again.items()} == before


def test_the_terminal_says_how_many_comparisons_and_what_each_module_is_worth(content):
    stream = io.StringIO()
    print_ablation(content, Console(file=stream, width=240))
    text = stream.getvalue()
    assert "holds after Holm's correction for 8 comparisons" in text
    assert "dsp: worth something for emotion/f1_macro" in text
    assert "kalman: changes no answer" in text
    assert "retrained without it" in text
    assert text.count("emotion/nll") > 2
