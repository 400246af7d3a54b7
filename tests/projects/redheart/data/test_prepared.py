"""The prepared folder: made once, made anew where something changed, refused where something is odd."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from projects.redheart.data.prepared import Prepared, PrepareOptions, kind_of, prepare, read_prepared
from projects.redheart.standin import StandinConfig, generate_standin
from shared.errors import ConfigError, DataError
from shared.folds import FOLDS
from tests.fabricate.stories import story_objects, write_stories

NUM = 120


@pytest.fixture
def source(tmp_path: Path) -> Path:
    objects = story_objects(NUM)
    copy = objects[3] | {"id": "copy", "text": objects[3]["text"] + "!"}
    return write_stories(tmp_path / "in" / "stories.json", [*objects, copy])


def made(source: Path, root: Path, **options: int | float) -> Prepared:
    return prepare(source, root, PrepareOptions(**options))  # type: ignore[arg-type]


def test_a_folder_is_filled_and_read_back(source: Path, tmp_path: Path) -> None:
    prepared = made(source, tmp_path / "out")
    assert prepared.ran == ("quality", "split")
    assert (prepared.quality["n_read"], prepared.quality["n_kept"]) == (NUM + 1, NUM)
    assert [entry["id"] for entry in prepared.quality["removed"]] == ["copy"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "prepared.json", "quality.json", "source.txt", "splits.csv", "stories.jsonl",
    ]  # fmt: skip
    assert prepared.index.source == "real"
    assert prepared.index.ids[0] == "out/s00000"
    assert not (prepared.fold[~prepared.labelled] != FOLDS.index("train")).any()
    again = read_prepared(tmp_path / "out")
    np.testing.assert_array_equal(again.fold, prepared.fold)
    assert again.ran == ()


def test_what_is_there_is_not_made_again(source: Path, tmp_path: Path) -> None:
    made(source, tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.[jc]s*")}
    assert made(source, tmp_path / "out").ran == ()
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_only_what_changed_is_made_again(source: Path, tmp_path: Path) -> None:
    root = tmp_path / "out"
    made(source, root)
    assert made(source, root, seed=1).ran == ("split",)
    # The texts of the kept stories stay the same at this threshold, and so do their folds.
    assert made(source, root, seed=1, threshold=91.5).ran == ("quality",)
    write_stories(source, story_objects(NUM - 20))
    assert made(source, root, seed=1, threshold=91.5).ran == ("quality", "split")
    (root / "splits.csv").unlink()
    assert made(source, root, seed=1, threshold=91.5).ran == ("split",)


def test_a_half_made_folder_is_finished(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from projects.redheart.data import prepared as module

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "split_stories", stop)
        with pytest.raises(KeyboardInterrupt):
            made(source, tmp_path / "out")
    with pytest.raises(DataError, match=r"is no complete folder of prepared stories; make one with `python -m"):
        read_prepared(tmp_path / "out")
    assert made(source, tmp_path / "out").ran == ("split",)


def test_a_moved_folder_keeps_its_sample_ids(source: Path, tmp_path: Path) -> None:
    made(source, tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "moved")
    assert read_prepared(tmp_path / "moved").index.ids[0] == "out/s00000"


def test_changed_files_and_foreign_folders_are_refused(source: Path, tmp_path: Path) -> None:
    root = tmp_path / "out"
    made(source, root)
    stories = root / "stories.jsonl"
    stories.write_text(stories.read_text().replace("joy", "toy", 1))
    with pytest.raises(DataError, match=r"stories.jsonl is not what was prepared; run"):
        read_prepared(root)
    (root / "prepared.json").write_text(json.dumps({"schema": 99, "steps": {}, "name": "out"}))
    with pytest.raises(DataError, match=r"prepared.json is not one of schema 1"):
        read_prepared(root)
    (root / "prepared.json").write_text("[")
    with pytest.raises(DataError, match=r"prepared.json cannot be read"):
        made(source, root)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(DataError, match=r"mine is not empty and has no prepared.json"):
        made(source, tmp_path / "mine")


def test_a_missing_file_and_an_unknown_kind_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.json does not exist"):
        made(tmp_path / "nowhere.json", tmp_path / "out")
    with pytest.raises(ValueError, match="kind is 'fake'; allowed are stand-in, real"):
        prepare(source, tmp_path / "out", PrepareOptions(), kind="fake")


def test_people_of_removed_stories_leave_the_table(source: Path, tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    table.write_text("id,subject,valence,arousal,dominance\ns00003,anna,5,1,2\ncopy,ben,4,1,2\ns00001,ben,7,1,2\n")
    prepare(source, tmp_path / "out", PrepareOptions(), subjects=table)
    lines = (tmp_path / "out" / "subjects.csv").read_text().splitlines()
    assert lines == ["id,subject,valence,arousal,dominance", "s00003,anna,5,1,2", "s00001,ben,7,1,2"]
    table.write_text("id,subject,valence,arousal,dominance\ns00003,anna,50,1,2\n")
    with pytest.raises(DataError, match=r"has valence '50'; allowed is"):
        prepare(source, tmp_path / "out", PrepareOptions(), subjects=table)
    table.write_text("name\nx\n")
    with pytest.raises(DataError, match=r"people\.csv lacks the columns id, subject"):
        prepare(source, tmp_path / "out", PrepareOptions(), subjects=table)
    table.write_text("id,subject,valence,arousal,dominance\ncopy,ben,4,1,2\n")
    with pytest.raises(DataError, match=r"people\.csv rates only stories that left as near-duplicates"):
        prepare(source, tmp_path / "out", PrepareOptions(), subjects=table)
    assert (tmp_path / "out" / "subjects.csv").read_text().splitlines() == lines  # the good table stays


def test_a_stand_in_is_known_by_its_record(source: Path, tmp_path: Path) -> None:
    made_up = generate_standin(tmp_path / "standin", StandinConfig(num_stories=200))
    prepared = prepare(made_up / "stories.json", tmp_path / "a", PrepareOptions())
    assert prepared.index.source == "stand-in"
    # What was prepared from it stays one, and a file of the user's beside the record is not named by it.
    assert prepare(tmp_path / "a" / "stories.jsonl", tmp_path / "b", PrepareOptions()).index.source == "stand-in"
    assert kind_of(Path(shutil.copy(source, made_up / "mine.json"))) == "real"
    assert kind_of(source) == "real"


def test_refused_input_leaves_no_new_folder(source: Path, tmp_path: Path) -> None:
    root = tmp_path / "out"
    few = write_stories(tmp_path / "few.json", story_objects(3))  # read, but too few to be cut into folds
    bad = tmp_path / "bad.json"
    bad.write_text("[{")
    for wrong in (few, bad):
        with pytest.raises(DataError):
            made(wrong, root)
        assert not root.exists()
    made(source, root)
    before = {path.name: path.read_bytes() for path in root.iterdir()}
    with pytest.raises(DataError):
        made(bad, root)
    assert {path.name: path.read_bytes() for path in root.iterdir()} == before


@pytest.mark.parametrize(("threshold", "shown"), [(40, "40"), (50, "50"), (float("nan"), "nan"), (101, "101")])
def test_a_threshold_out_of_range_is_refused(threshold: float, shown: str) -> None:
    with pytest.raises(ConfigError, match=rf"data.threshold is {shown}; allowed is above 50 to 100"):
        PrepareOptions(threshold=threshold)
    with pytest.raises(ConfigError, match=r"seed is -1; allowed is 0 or more"):
        PrepareOptions(seed=-1)
