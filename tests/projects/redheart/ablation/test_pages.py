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
    assert "holds after Holm's correction for the 8 comparisons of this way" in text
    assert "dsp: worth something for emotion/f1_macro" in text
    assert "kalman: changes no answer" in text
    assert "retrained without it" in text
    assert text.count("emotion/nll") > 2


def test_names_stay_whole_in_a_narrow_terminal_and_what_is_not_tested_says_so(content):
    rows = [dict(row, module="community_network") for row in content["switched_off"]["rows"] if row["worth"]]
    worth = {"value": 0.0, "lo": 0.0, "hi": 0.0, "n_groups": 9, "method": "m"}
    rows[0] |= {"worth": worth, "p_holm": None, "verdict_holm": "no story's answer changed"}
    stream = io.StringIO()
    part = {"comparisons": 7, "rows": rows, "sentences": []}
    print_ablation({"switched_off": part}, Console(file=stream, width=80))
    lines = [line for line in stream.getvalue().splitlines() if line.startswith("community_network  ")]
    assert len(lines) == 8
    assert "emotion/f1_macro  " in lines[0]
    assert lines[0].rstrip().endswith("+0.0000 to +0.0000  not tested")
    assert any("bentham/spearman" in line for line in lines)
