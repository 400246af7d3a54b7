import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from projects.redheart.data.datamodule import StoriesDataModule
from projects.redheart.data.goemotions_datamodule import GoEmotionsDataModule
from projects.redheart.data.subjects import SubjectTable
from projects.redheart.people.pages import print_calibration
from projects.redheart.people.rated_stories import join, removed_stories, without_removed
from projects.redheart.people.subject_calibration import calibrate
from shared.errors import DataError
from shared.folds import FOLDS
from tests.projects.redheart.ablation.story_answers import story_answers


def table(ids, subject):
    return SubjectTable(tuple(ids), tuple(subject), {"valence": np.arange(len(ids), dtype=float)})


def test_near_duplicates_are_passed_over_and_counted_and_strangers_are_refused():
    known, removed, path = {"a": 0, "b": 1}, {"c", "d"}, Path("people.csv")
    rated = table(["a", "c", "b", "c", "d"], ["p", "p", "q", "q", "q"])
    kept, notes = without_removed(rated, known, removed, path)
    assert (kept.ids, kept.subject, kept.numbers["valence"].tolist()) == (("a", "b"), ("p", "q"), [0.0, 2.0])
    assert notes == ["3 of 5 ratings are of 2 near-duplicates that left the data; left out"]
    assert without_removed(kept, known, removed, path) == (kept, [])
    with pytest.raises(DataError, match=r"people\.csv rates the story 'z', which the run's data do not hold"):
        without_removed(table(["a", "z"], ["p", "q"]), known, removed, path)
    with pytest.raises(DataError, match=r"all 2 ratings of people\.csv are of stories that left the data as near-dupl"):
        without_removed(table(["c", "d"], ["p", "q"]), known, removed, path)


def test_the_removed_are_those_of_the_prepared_folder(tmp_path):
    (tmp_path / "quality.json").write_text(json.dumps({"removed": [{"id": "c", "like": "a", "ratio": 95.0}]}))
    prepared = StoriesDataModule.__new__(StoriesDataModule)
    prepared._root = tmp_path
    assert removed_stories(prepared) == {"c"}
    assert removed_stories(GoEmotionsDataModule.__new__(GoEmotionsDataModule)) == set()


def test_stories_of_calibrate_are_fitted_on_those_of_test_measured_on_and_both_are_printed(capsys):
    answers = story_answers(60)  # rows 50 to 109
    fold = np.full(120, FOLDS.index("train"), dtype=np.int8)
    fold[50:80], fold[80:110] = FOLDS.index("calibrate"), FOLDS.index("test")
    half = SimpleNamespace(rows=answers.rows[:30], probs=answers.probs[:30], label=answers.label[:30])
    rest = SimpleNamespace(rows=answers.rows[30:], probs=answers.probs[30:], label=answers.label[30:])
    rows = np.concatenate([np.arange(50, 110), [3]])
    subject = [f"p{row % 3}" for row in rows]
    rated, notes = join(table([str(row) for row in rows], subject), rows, fold, [half, rest])
    assert rated.story[rated.may_fit].tolist() == list(range(50, 80))
    assert rated.story[rated.may_measure].tolist() == list(range(80, 110))
    assert notes == ["1 of 61 ratings are of stories that the run was trained or chosen on; left out"]
    found = calibrate(rated, draws=100)
    assert found["n_per_fold"] == {"calibrate": 30, "test": 30}
    print_calibration(found | {"notes": notes}, Console(width=160))
    said = " ".join(capsys.readouterr().out.split())
    assert "measured on 30 ratings of the test fold, fitted on others' among 30 of the calibrate fold" in said
