import numpy as np
import pytest

from projects.pillsnap.evaluation.attributes import attribute_scores
from shared.report.evaluation import Intervals

INTERVALS = Intervals(seed=0, draws=200)


def test_heads_are_judged_on_the_photos_that_have_the_label() -> None:
    codes = {"shape": np.array([0, 1, 1, -1, 1, 0, 1, 1]), "color": np.full(8, -1)}
    logits = {"shape": np.eye(3)[[0, 1, 0, 2, 1, 2, 1, 1]], "color": np.zeros((8, 2))}
    names = {"shape": ["oval", "round", "capsule"], "color": ["red", "white"]}
    found = attribute_scores(logits, codes, names, np.array([0, 0, 1, 1, 2, 3, 4, 5], np.int32), INTERVALS)
    assert found["color"] == {"n": 0, "unlabelled": 8}
    shape = found["shape"]
    assert (shape["n"], shape["unlabelled"], shape["values"]) == (7, 1, 2)
    assert shape["accuracy"]["value"] == pytest.approx(5 / 7)
    assert shape["accuracy"]["n_groups"] == 6
    assert shape["accuracy"]["lo"] is not None
    assert (shape["most_common"], shape["most_common_share"]) == ("round", pytest.approx(5 / 7))


def test_a_head_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"head 'shape' gave \(4, 2\); \(4, 3\) is needed"):
        attribute_scores(
            {"shape": np.zeros((4, 2))}, {"shape": np.zeros(4, np.int64)}, {"shape": ["a", "b", "c"]},
            np.arange(4, dtype=np.int32), INTERVALS,
        )  # fmt: skip
