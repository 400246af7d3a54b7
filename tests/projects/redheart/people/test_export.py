import csv
import json
from collections import Counter

import numpy as np
import pytest

from projects.redheart.people.export import SCORE_COLUMNS, export, stratified
from projects.redheart.people.predictions import read_predictions
from projects.redheart.people.ratings import read_key, read_ratings
from projects.redheart.tasks import EMOTIONS
from shared.errors import CheckpointError, ConfigError, DataError

COUNT = 40


@pytest.fixture
def run(tmp_path):
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(7), COUNT)
    with (tmp_path / "predictions.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        numbers = [f"{kind}_{name}" for name in SCORE_COLUMNS for kind in ("true", "predicted")]
        writer.writerow(
            ["sample_id", "group", "fold", "label", "predicted", *(f"prob_{e}" for e in EMOTIONS), *numbers]
        )
        for n, row in enumerate(probs):
            scores = ["" if number < 2 and n == 0 else 0.25 for number in range(len(numbers))]
            label, said = EMOTIONS[0 if n < 20 else n % 7], EMOTIONS[int(row.argmax())]
            writer.writerow([f"stories/{n}", n, "test", label, said, *map(repr, row.tolist()), *scores])
    return tmp_path


TEXTS = {f"stories/{n}": (f"title {n}", "", "=1+1" if n == 3 else f"text, {n}") for n in range(COUNT)}


def test_each_label_has_its_share_and_the_draw_is_repeated_by_its_seed():
    labels = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    chosen = stratified(labels, 20, seed=1)
    assert Counter(labels[place] for place in chosen) == {"a": 12, "b": 6, "c": 2}
    assert len(set(chosen.tolist())) == 20
    assert chosen.tolist() == stratified(labels, 20, seed=1).tolist() != stratified(labels, 20, seed=2).tolist()
    assert len(stratified(labels, 1000, seed=0)) == 100
    assert len(stratified(labels, 7, seed=0)) == 7
    with pytest.raises(ValueError, match="num is 0 of 100 samples"):
        stratified(labels, 0, seed=0)


def test_the_sheet_is_blind_and_the_key_knows(run):
    predictions = read_predictions(run)
    key_path, count = export(run / "sheet.csv", predictions, TEXTS, num=COUNT, seed=0, facts={"run": "r"})
    assert (key_path.name, count) == ("sheet.key.json", COUNT)
    with (run / "sheet.csv").open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["item", "title", "action", "text", "emotion", *SCORE_COLUMNS]
    assert all(not row[name] for row in rows for name in ("emotion", *SCORE_COLUMNS))
    assert "stories/" not in (run / "sheet.csv").read_text()
    key = read_key(key_path)
    for row in rows:
        answer = key["items"][row["item"]]
        assert row["text"] == TEXTS[answer["sample_id"]][2].replace("=1+1", " =1+1")
        assert answer["predicted"] == predictions.classes[int(np.argmax(answer["probs"]))]
    first = next(answer for answer in key["items"].values() if answer["sample_id"] == "stories/0")
    assert SCORE_COLUMNS[0] not in first["predicted_scores"]
    assert first["predicted_scores"][SCORE_COLUMNS[1]] == 0.25


def test_wrong_places_and_changed_data_are_named(run):
    predictions = read_predictions(run)
    with pytest.raises(ConfigError, match=r"--out is .*sheet\.txt, allowed: a file name that ends in \.csv"):
        export(run / "sheet.txt", predictions, TEXTS, num=1, seed=0, facts={})
    with pytest.raises(ConfigError, match="--n is 0, allowed: 1 or more"):
        export(run / "sheet.csv", predictions, TEXTS, num=0, seed=0, facts={})
    with pytest.raises(DataError, match=r"story 'stories/0' of predictions\.csv is not in the run's data"):
        export(run / "sheet.csv", predictions, {}, num=1, seed=0, facts={})
    (run / "predictions.csv").write_text("sample_id,label\na,b\n")
    with pytest.raises(CheckpointError, match=r"predictions\.csv has no column prob_<class>"):
        read_predictions(run)


def filled(run, name, **values):
    sheet = run / "sheet.csv"
    with sheet.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows[0] |= values
    with (run / name).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return run / name


def test_filled_sheets_come_back(run):
    key_path, _ = export(run / "sheet.csv", read_predictions(run), TEXTS, num=9, seed=0, facts={"run": "r"})
    key = json.loads(key_path.read_text())
    good = filled(run, "ann.csv", emotion="Joy ", surd_depth="0,5")
    ratings = read_ratings([good, filled(run, "bob.csv", emotion="fear")], key)
    assert ratings.raters == ("ann", "bob")
    assert ratings.emotion[:, 0].tolist() == [0.0, 3.0]
    assert ratings.scores["surd_depth"][0, 0] == 0.5
    assert np.isnan(ratings.emotion[:, 1:]).all()
    cases = (
        ({"emotion": "happy"}, r"bad\.csv, item s0001: emotion is 'happy', allowed: joy, .*neutral, or empty"),
        ({"surd_depth": "7"}, r"bad\.csv, item s0001: surd_depth is '7', allowed: a number from 0 to 1, or empty"),
        ({"surd_depth": "nan"}, r"surd_depth is 'nan', allowed: a number from 0 to 1"),
        ({"item": "x9"}, r"bad\.csv rates 'x9', which the key does not hold"),
        ({"item": "s0002"}, r"bad\.csv rates 's0002' twice; each item may stand once"),
    )
    for values, sentence in cases:
        with pytest.raises(DataError, match=sentence):
            read_ratings([good, filled(run, "bad.csv", **values)], key)
    with pytest.raises(ConfigError, match="two files or more of distinct names"):
        read_ratings([good], key)
    (run / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"bad\.csv lacks the columns item and emotion, or has no row"):
        read_ratings([good, run / "bad.csv"], key)
    with pytest.raises(DataError, match=r"ann\.csv is no key of an export"):
        read_key(good)
