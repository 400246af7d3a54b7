import json
from dataclasses import replace

import pytest

from projects.pillsnap.evaluation.open_set import NoneOfThese
from projects.pillsnap.onnx_export.description import UNFITTED, ModelDescription, PillClass, pill_classes


@pytest.fixture
def description():
    return ModelDescription(
        form="photo", classes=(PillClass("K-1", "Aspirin"), PillClass("K-2", "타이레놀")),
        preprocessing={"version": 1, "size_px": 64}, preprocessing_digest="d",
        calibration={"method": "temperature", "temperature": 1.25},
        none_of_these=NoneOfThese("energy", slope=0.5, offset=1.0, threshold=0.7), version="v", run="r", variant="int8",
    )  # fmt: skip


def test_metadata_are_strings_that_are_read_back(description):
    metadata = description.as_metadata()
    assert all(isinstance(value, str) for value in metadata.values())
    assert metadata["format"] == "pillsnap-1"
    assert json.loads(metadata["classes"])[1] == {"kcode": "K-2", "name": "타이레놀"}
    assert ModelDescription.from_metadata(metadata) == description


def test_it_says_whether_none_of_these_was_fitted(description):
    assert json.loads(description.as_metadata()["none_of_these"])["fitted"] is True
    unfitted = replace(description, none_of_these=UNFITTED)
    assert json.loads(unfitted.as_metadata()["none_of_these"])["fitted"] is False


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("format", "x", "has format 'x', allowed: 'pillsnap-1'"),
        ("classes", "nonsense", "has metadata that cannot be used"),
        ("classes", "[]", "one or more different kcodes are needed"),
        ("classes", '[{"name": "A"}]', "has metadata that cannot be used .'kcode'"),
        ("calibration", "[1]", "is no JSON dict"),
        ("none_of_these", '{"score": "msp"}', "none of these lacks slope, offset, threshold"),
        ("form", "x", "form is 'x', allowed: photo, pixels"),
    ],
)
def test_strange_metadata_are_refused(description, key, value, sentence):
    with pytest.raises(ValueError, match=sentence):
        ModelDescription.from_metadata(description.as_metadata() | {key: value})


def test_missing_metadata_are_named(description):
    metadata = description.as_metadata()
    del metadata["run"], metadata["form"]
    with pytest.raises(ValueError, match="lacks the metadata form, run"):
        ModelDescription.from_metadata(metadata)


def test_one_name_for_each_code():
    assert pill_classes(["K-1"], ["Aspirin"]) == (PillClass("K-1", "Aspirin"),)
    with pytest.raises(ValueError, match="there are 2 codes and 1 names"):
        pill_classes(["K-1", "K-2"], ["Aspirin"])
