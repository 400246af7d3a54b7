import json

import numpy as np
import pytest

from projects.redheart.data.stories import read_stories, story_object, write_story_lines
from projects.redheart.tasks import EMOTIONS
from shared.errors import ConfigError, DataError
from tests.fabricate.stories import LACKING, fabricated_stories, story_objects, write_stories


def read(tmp_path, objects, **options):
    return read_stories(write_stories(tmp_path / "stories.json", objects), **options)


def test_fields_arrive(tmp_path):
    objects = story_objects(20)
    stories, reading = read(tmp_path, objects)
    assert stories.ids == [found["id"] for found in objects]
    assert stories.text[3] == objects[3]["text"]
    assert stories.label.tolist() == [found.get("label", -1) for found in objects]
    np.testing.assert_array_equal(stories.targets["bentham"][0], np.float32(objects[0]["bentham_scores"]))
    np.testing.assert_array_equal(stories.targets["surd"][1], np.float32(list(objects[1]["surd_metrics"].values())))
    assert stories.targets["regret"].shape == (20, 1)
    assert stories.secondary[0] == 1
    assert stories.timestamp[0] == "2026-01-01T10:00:00"
    assert reading.num_read == 20
    lacking = {field: 20 // period for field, period in LACKING.items()}
    assert {field: reading.missing[field] for field in lacking} == lacking
    assert np.isnan(stories.targets["regret"][6, 0])
    assert np.isnan(stories.targets["bentham"][10]).all()
    assert reading.warnings == ["1 stories have no label; they serve the train fold only."]


def test_null_is_missing_and_a_missing_number_masks_itself(tmp_path):
    objects = story_objects(2)
    objects[0] |= {"regret_factor": None, "title": None, "emotions": None, "surd_metrics": {"depth": 1}}
    objects[1]["bentham_scores"][4] = None
    stories, _ = read(tmp_path, objects)
    assert np.isnan(stories.targets["surd"][0]).tolist() == [True, True, True, False]
    assert np.isnan(stories.targets["bentham"][1]).tolist() == [place == 4 for place in range(10)]
    assert stories.title[0] == ""
    assert np.isnan(stories.intensity[0])


def test_primary_fills_a_label_and_a_contradiction_is_counted(tmp_path):
    objects = story_objects(3)
    del objects[0]["label"]
    objects[0]["emotions"]["primary"] = " Fear "
    objects[1]["emotions"] = {"primary": 6, "intensity": 0, "mood": 1}
    objects[2]["colour"] = "red"
    stories, reading = read(tmp_path, objects)
    assert stories.label.tolist() == [3, 1, 2]
    assert (reading.filled_labels, reading.contradicted) == (1, 1)
    assert reading.unknown == {"colour": 1, "emotions.mood": 1}
    assert "1 stories have an emotions.primary other than their label, the first 's00001'; the label counts." in (
        reading.warnings
    )
    assert "2 keys that nothing reads were ignored: 'colour', 'emotions.mood'." in reading.warnings


def test_long_texts_are_cut_and_counted(tmp_path):
    objects = story_objects(3)
    objects[1]["text"] = "x" * 50_000
    stories, reading = read(tmp_path, objects)
    assert len(stories.text[1]) == 20_000
    assert reading.truncated == 1
    assert "1 stories are longer than 20000 characters and were cut there." in reading.warnings


def test_bentham_scores_are_scaled_and_written_back(tmp_path):
    objects = story_objects(1)
    objects[0]["bentham_scores"] = [-10, 10, 0, *[5] * 7]
    stories, _ = read(tmp_path, objects, bentham_range=(-10, 10))
    assert stories.targets["bentham"][0, :4].tolist() == [0, 1, 0.5, 0.75]


def test_own_emotion_names(tmp_path):
    names = ("a", "b", "c", "d", "e", "f", "g")
    objects = [{"id": 7, "text": "t", "emotions": {"primary": "G"}}]
    stories, _ = read(tmp_path, objects, emotions=names)
    assert (stories.ids, stories.label.tolist()) == (["7"], [6])


def test_lines_are_read_back_the_same(tmp_path):
    stories = fabricated_stories(60, seed=3)
    stories.text[4] += " caf\u00e9 \u2028 \U0001f600"
    path = tmp_path / "stories.jsonl"
    write_story_lines(path, stories)
    again, _ = read_stories(path)
    for name in ("ids", "text", "title", "action", "timestamp"):
        assert getattr(again, name) == getattr(stories, name)
    for name in ("label", "intensity", "secondary"):
        np.testing.assert_array_equal(getattr(again, name), getattr(stories, name))
    for task, values in stories.targets.items():
        np.testing.assert_array_equal(again.targets[task], values)
    assert story_object(again, 0) == story_object(stories, 0)


def test_take_keeps_all_columns_together():
    stories = fabricated_stories(10)
    part = stories.take(np.array([7, 2]))
    assert [story_object(part, row) for row in (0, 1)] == [story_object(stories, row) for row in (7, 2)]
    with pytest.raises(IndexError):
        stories.take(np.array([10]))


WRONG = {
    "label is 7; allowed are the whole numbers 0 to 6": {"label": 7},
    "label is -1; allowed": {"label": -1},
    "label is true; allowed": {"label": True},
    "label is '3'; allowed": {"label": "3"},
    r"label is 3.0; allowed": {"label": 3.0},
    "label is nan; allowed": {"label": float("nan")},
    "regret_factor is 1.5; allowed is a number from 0 to 1": {"regret_factor": 1.5},
    "regret_factor is nan; allowed": {"regret_factor": float("nan")},
    "regret_factor is inf; allowed": {"regret_factor": float("inf")},
    "regret_factor is false; allowed": {"regret_factor": False},
    "bentham_scores is a list of 9; allowed is a list of 10 numbers": {"bentham_scores": [0.5] * 9},
    "bentham_scores is 0.5; allowed is a list": {"bentham_scores": 0.5},
    r"bentham_scores\[9\] is 'x'; allowed": {"bentham_scores": [0.5] * 9 + ["x"]},
    r"surd_metrics\.depth is 2; allowed": {"surd_metrics": {"depth": 2}},
    r"surd_metrics is \[\]; allowed is an object with depth, relevance, surprise": {"surd_metrics": []},
    r"emotions\.primary is 'glee'; allowed are joy, sadness": {"emotions": {"primary": "glee"}},
    r"emotions\.secondary is 9; allowed": {"emotions": {"secondary": 9}},
    r"emotions\.intensity is -0\.1; allowed": {"emotions": {"intensity": -0.1}},
    "emotions is 3; allowed is an object": {"emotions": 3},
    "text is empty; each story needs one": {"text": " \n"},
    "text is missing; each story needs one": {"text": None},
    r"title is \['a'\], a list; allowed is a text": {"title": ["a"]},
    "text holds half of a surrogate pair at character 1": {"text": "a\ud83d"},
    "timestamp is true, a truth value; allowed is a text": {"timestamp": True},
}


@pytest.mark.parametrize("sentence", WRONG)
def test_a_wrong_value_is_named_with_sample_and_field(tmp_path, sentence):
    objects = story_objects(3)
    objects[1] |= WRONG[sentence]
    path = tmp_path / "stories.json"
    path.write_text(json.dumps(objects))
    with pytest.raises(DataError, match=rf"stories\.json, sample 's00001': {sentence}"):
        read_stories(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'[{"id": "a", "text": "b"},\n {"id" "c"}]', r"line 2, column 8: no valid JSON \(Expecting ':' delimiter\)"),
        (b"", r"line 1, column 1: no valid JSON"),
        (b'{"id": "a"}', r"holds no list at its top level"),
        (b"[]", r"holds no story"),
        (b"[3]", r"object 0: it is a number, not a JSON object"),
        (b'[{"text": "a"}]', r"object 0: it has no id"),
        (b'[{"id": true, "text": "a"}]', r"object 0: id is true; allowed is a text that is not empty, or a whole"),
        (b'[{"id": "a", "text": "b"}, {"id": "a", "text": "c"}]', r"id 'a' stands twice, objects 0 and 1"),
        (b'[{"id": "a", "text": "b", "text": "c"}]', r"an object \(id 'a'\) holds the key 'text' twice"),
        (b'[{"id": "a",\n "text": "\xff"}]', r"is not UTF-8: byte 0xff at offset 23, line 2; save it as UTF-8"),
        (b"[" * 100_000, r"cannot be read as JSON: maximum recursion depth"),
    ],
)
def test_a_broken_file_is_told_in_one_sentence(tmp_path, content, sentence):
    path = tmp_path / "stories.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        read_stories(path)


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "stories.jsonl"
    path.write_text('{"id": "a", "text": "b"}\n\n{"id": }\n')
    with pytest.raises(DataError, match=r"line 3, column 8: no valid JSON"):
        read_stories(path)


def test_a_byte_order_mark_is_passed_over_and_counted_in_offsets(tmp_path):
    path = tmp_path / "stories.json"
    path.write_bytes(b"\xef\xbb\xbf" + b'[{"id": "a", "text": "b"}]')
    assert read_stories(path)[0].ids == ["a"]
    path.write_bytes(b"\xef\xbb\xbf[\n\xff")
    with pytest.raises(DataError, match=r"byte 0xff at offset 5, line 2"):
        read_stories(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.json do not exist; give the JSON file"):
        read_stories(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"bentham_range": (1, 0)}, r"data\.bentham_range is \(1, 0\); allowed are two rising numbers"),
        ({"emotions": EMOTIONS[:6]}, r"data\.emotions is .*; allowed are 7 different names"),
        ({"max_chars": 0}, r"data\.max_chars is 0; allowed is 1 or more"),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        read(tmp_path, story_objects(1), **options)
