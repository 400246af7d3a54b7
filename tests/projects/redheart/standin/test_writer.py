import json

import numpy as np
import pytest
from rapidfuzz import fuzz
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline

from projects.redheart.data.leave_one_out import subject_of_stories
from projects.redheart.data.stories import stories_of
from projects.redheart.data.subjects import read_subjects
from projects.redheart.standin import StandinConfig, generate_standin, make_stories
from shared.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def made():
    return make_stories(StandinConfig(num_stories=1500))


def test_the_file_is_whole_and_the_same_seed_gives_the_same_bytes(tmp_path):
    config = StandinConfig(num_stories=60, num_subjects=6)
    folders = [generate_standin(tmp_path / name, config) for name in ("a", "b")]
    for name in ("stories.json", "near_duplicates.json", "subjects.csv", "STANDIN.json"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    assert json.loads((folders[0] / "STANDIN.json").read_text())["complete"] is True
    before = (folders[0] / "stories.json").stat().st_mtime_ns
    generate_standin(folders[0], config)
    assert (folders[0] / "stories.json").stat().st_mtime_ns == before
    assert make_stories(StandinConfig(num_stories=60, seed=1))[0] != make_stories(StandinConfig(num_stories=60))[0]


def test_copies_are_near_and_as_many_as_asked(made):
    stories, copies = made
    assert len(copies) == 89
    text = {story["id"]: story["text"] for story in stories}
    assert all(fuzz.ratio(text[copy["id"]], text[copy["like"]]) >= 93 for copy in copies)
    assert all(copy["like"] < copy["id"] for copy in copies)
    assert any(text[copy["id"]] != text[copy["like"]] for copy in copies)
    assert StandinConfig(num_stories=10_460).num_copies == 623


def test_every_task_can_be_learned_but_not_perfectly(made):
    stories, _ = stories_of(made[0], "made")
    half = len(stories) // 2
    words = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=300))
    words.fit(stories.text[:half], stories.label[:half])
    accuracy = (words.predict(stories.text[half:]) == stories.label[half:]).mean()
    # A bag of words sees both feelings of a turning story, and not which came last.
    assert 0.4 < accuracy < 0.8
    together = [" ".join(parts) for parts in zip(stories.text, stories.title, stories.action, strict=True)]
    for task, values in stories.targets.items():
        known = np.flatnonzero(~np.isnan(values).any(axis=1))
        fit, judged = known[known < half], known[known >= half]
        vectors = TfidfVectorizer(ngram_range=(1, 2)).fit_transform(together)
        predicted = Ridge().fit(vectors[fit], values[fit]).predict(vectors[judged])
        explained = (
            1
            - ((predicted.reshape(-1, values.shape[1]) - values[judged]) ** 2).mean()
            / values[judged].var(axis=0).mean()
        )
        assert 0.5 < explained < 0.999, task


def test_the_action_says_what_the_text_does_not(made):
    stories, _ = stories_of(made[0], "made")
    moral = stories.targets["bentham"][:, 7]
    known = np.flatnonzero(~np.isnan(moral) & np.array([bool(action) for action in stories.action]))
    fit, judged = known[: len(known) // 2], known[len(known) // 2 :]
    score = {}
    for name, parts in (("text", stories.text), ("action", stories.action)):
        vectors = TfidfVectorizer().fit_transform(parts)
        predicted = Ridge(alpha=10).fit(vectors[fit], moral[fit]).predict(vectors[judged])
        score[name] = np.corrcoef(predicted, moral[judged])[0, 1]
    assert score["action"] > 0.8
    assert abs(score["text"]) < 0.2


def test_ratings_follow_the_feeling_of_one_person_a_story(tmp_path):
    folder = generate_standin(tmp_path / "s", StandinConfig(num_stories=300, num_subjects=8))
    table = read_subjects(folder / "subjects.csv")
    stories, _ = stories_of(json.loads((folder / "stories.json").read_text()), "made")
    rows, names = subject_of_stories(table, stories.ids)
    assert (len(rows), len(set(names))) == (300, 8)
    joy, grief = (table.numbers["valence"][stories.label == code].mean() for code in (0, 1))
    assert joy > grief + 2


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("num_stories", 3, "20 to 1000000"), ("seed", -1, "0 or more"), ("near_duplicate_share", 0.6, "0 to 0.5"),
        ("missing_share", 1.0, "0 to below 1"), ("label_noise", 1.5, "0 to 1"), ("num_subjects", 3, "0, or 5 to 375"),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(key, value, allowed):
    with pytest.raises(ConfigError, match=rf"standin\.{key} is {value}; allowed: {allowed}"):
        StandinConfig(**{key: value})


def test_another_folder_or_configuration_is_refused(tmp_path):
    folder = generate_standin(tmp_path / "s", StandinConfig(num_stories=20))
    with pytest.raises(DataError, match=r"made with another configuration \(seed is 0, asked for 5\)"):
        generate_standin(folder, StandinConfig(num_stories=20, seed=5))
    (folder / "STANDIN.json").write_text("{}")
    with pytest.raises(DataError, match=r"STANDIN\.json cannot be read"):
        generate_standin(folder, StandinConfig(num_stories=20))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_text("x")
    with pytest.raises(DataError, match=r"is not empty and has no STANDIN\.json"):
        generate_standin(tmp_path / "other", StandinConfig(num_stories=20))
