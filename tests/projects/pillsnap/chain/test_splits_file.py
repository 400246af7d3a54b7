import json

import pytest

from projects.pillsnap.chain.integrated import read_integrated
from projects.pillsnap.chain.splits_file import read_splits
from projects.pillsnap.chain.splitting import split
from shared.errors import DataError


@pytest.fixture
def parts(integrated):
    """Everything that `read_splits` takes, and the splits as they were written."""
    summary = split(integrated)
    mapping, rows, sha256 = read_integrated(integrated)
    return integrated, rows, mapping, sha256, summary.splits


def read(parts):
    return read_splits(*parts[:4])


def change(parts, edit):
    path = parts[0] / "splits.json"
    found = json.loads(path.read_text())
    edit(found)
    path.write_text(json.dumps(found))


def test_splits_are_read_as_they_were_written(parts):
    found = read(parts)
    assert found == parts[4]
    assert found.shares == {"train": 0.8, "val": 0.05, "accept": 0.03, "calibrate": 0.02, "test": 0.1}


def move_one(found):
    row = found["folds"]["test"].pop()
    found["folds"]["train"].append(row)


def swap_label(found):
    found["folds"]["train"][0]["label"] = 3 - found["folds"]["train"][0]["label"]


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (move_one, r"has the group '.*' in the folds (train and test|test and train); a group must stay"),
        (swap_label, "'folds' contradicts captures.csv or class_mapping.json; run `python -m projects.pillsnap.split`"),
        (lambda found: found["folds"]["val"].pop(), r"lacks the photo 'combined/.*' of captures\.csv"),
        (lambda found: found["others"]["tune"].pop(), r"lacks the photo 'others/.*' of captures\.csv"),
        (lambda found: found["folds"]["val"].append(found["folds"]["val"][0]), "'folds' contradicts"),
        (lambda found: found["groups"].clear(), "'groups' contradicts"),
        (lambda found: found.pop("folds"), r"splits\.json is damaged \(KeyError\('folds'\)\)"),
        (lambda found: found.update(seed="x"), r"splits\.json is damaged \(ValueError"),
        (lambda found: found.update(version=2), "has version 2, this code reads 1"),
        (lambda found: found["sources"].update({"captures.csv": "0" * 64}), r"but splits\.json was made from 0{12}"),
        (lambda found: found.pop("sources"), r"class_mapping\.json has sha256 .* but splits\.json was made from None"),
    ],
)  # fmt: skip
def test_splits_that_contradict_the_rest_are_refused(parts, edit, sentence):
    change(parts, edit)
    with pytest.raises(DataError, match=sentence):
        read(parts)


def test_missing_splits_name_their_command(parts):
    (parts[0] / "splits.json").unlink()
    with pytest.raises(
        DataError, match=r"splits\.json does not exist; run `python -m projects\.pillsnap\.split` first"
    ):
        read(parts)
