import numpy as np
import pytest

from projects.pillsnap.evaluation.attributes import attribute_scores
from shared.report.evaluation import Intervals

INTERVALS = Intervals(seed=0, draws=200)
GROUP = np.array([0, 0, 1, 1, 2, 3, 4, 5], np.int32)


def test_heads_are_judged_on_the_photos_that_have_the_label() -> None:
    codes = {"shape": np.array([0, 1, 1, -1, 1, 0, 1, 1]), "color": np.full(8, -1)}
    logits = {"shape": np.eye(3)[[0, 1, 0, 2, 1, 2, 1, 1]], "color": np.zeros((8, 2))}
    names = {"shape": ["oval", "round", "capsule"], "color": ["red", "white"]}
    train = {"shape": np.array([1, 1, -1, 0]), "color": np.array([0])}
    found = attribute_scores(logits, codes, train, names, GROUP, INTERVALS)
    assert found["color"] == {"n": 0, "unlabelled": 8}
    shape = found["shape"]
    assert (shape["n"], shape["unlabelled"], shape["values"]) == (7, 1, 2)
    assert shape["accuracy"]["value"] == pytest.approx(5 / 7)
    assert shape["accuracy"]["n_groups"] == 6
    assert shape["accuracy"]["lo"] is not None
    assert (shape["most_common"], shape["floor"]["value"]) == ("round", pytest.approx(5 / 7))


def test_the_floor_says_what_is_most_common_in_train_and_is_compared_by_group() -> None:
    codes, names = {"shape": np.array([0, 1, 1, 1, 1, 0, 1, 1])}, {"shape": ["oval", "round"]}
    logits = {"shape": np.eye(2)[[0, 1, 1, 1, 1, 1, 1, 1]]}
    shape = attribute_scores(logits, codes, {"shape": np.array([0, 0, 1, -1])}, names, GROUP, INTERVALS)["shape"]
    # Round is more common here, but nobody could know that when the floor was chosen.
    assert shape["most_common"] == "oval"
    assert shape["floor"]["value"] == pytest.approx(2 / 8)
    difference = shape["head_minus_floor"]
    assert difference["value"] == pytest.approx(7 / 8 - 2 / 8)
    assert difference["n_groups"] == 6
    assert difference["lo"] < difference["value"]


def test_without_a_label_in_train_there_is_no_floor() -> None:
    codes, names = {"shape": np.zeros(8, np.int64)}, {"shape": ["oval", "round"]}
    row = attribute_scores({"shape": np.zeros((8, 2))}, codes, {"shape": np.array([-1])}, names, GROUP, INTERVALS)
    assert set(row["shape"]) == {"n", "unlabelled", "values", "accuracy"}


def test_a_head_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"head 'shape' gave \(4, 2\); \(4, 3\) is needed"):
        attribute_scores(
            {"shape": np.zeros((4, 2))}, {"shape": np.zeros(4, np.int64)}, {"shape": np.zeros(1, np.int64)},
            {"shape": ["a", "b", "c"]}, np.arange(4, dtype=np.int32), INTERVALS,
        )  # fmt: skip
