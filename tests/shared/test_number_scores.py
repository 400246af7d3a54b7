import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import mean_absolute_error, r2_score

from shared.number_scores import NumberScores


@pytest.fixture
def numbers():
    """Three numbers of 80 samples in 10 groups, a fifth of the targets missing."""
    rng = np.random.default_rng(0)
    target = rng.random((80, 3))
    predictions = {"a": target + 0.1 * rng.normal(size=(80, 3)), "b": rng.random((80, 3))}
    mask = rng.random((80, 3)) < 0.8
    return predictions, np.where(mask, target, np.nan), mask, np.repeat(np.arange(10), 8)


def test_scores_are_those_of_sklearn_and_scipy_on_the_samples_that_have_a_target(numbers):
    predictions, target, mask, group = numbers
    scores = NumberScores(predictions, target, mask, group)
    counts = np.random.default_rng(1).multinomial(10, np.full(10, 0.1), size=5)
    found = scores.values(counts.astype(float))
    for draw, count in enumerate(counts):
        for place, row in enumerate(scores.rows):
            for number in range(3):
                drawn = np.repeat(np.arange(80), count[group])
                drawn = drawn[mask[drawn, number]]
                true, said = target[drawn, number], predictions[row][drawn, number]
                expected = {
                    "mae": mean_absolute_error(true, said),
                    "rmse": np.sqrt(np.mean((true - said) ** 2)),
                    "r2": r2_score(true, said),
                    "spearman": spearmanr(true, said).statistic,
                }
                for metric, value in expected.items():
                    assert found[metric][draw, place, number] == pytest.approx(value, abs=1e-12), (metric, row, number)


def test_constant_and_missing_numbers_are_known(numbers):
    predictions, target, mask, group = numbers
    mask = mask.copy()
    mask[:, 1] = False
    target[:, 2] = 0.5
    predictions["b"][:, 0] = 0.25
    scores = NumberScores(predictions, target, mask, group)
    assert scores.present.tolist() == [True, False, True]
    assert scores.constant.tolist() == [False, True, True]
    assert scores.still["b"].tolist() == [True, True, False]
    assert scores.counted("mae").tolist() == [True, False, True]
    assert scores.counted("spearman").tolist() == [True, False, False]
    found = scores.values(np.ones((1, 10)))
    assert np.isnan(found["r2"][0, 0]).tolist() == [False, True, True]
    assert np.isnan(found["spearman"][0]).tolist() == [[False, True, True], [True, True, True]]


def test_only_groups_with_a_target_are_counted(numbers):
    predictions, target, mask, group = numbers
    mask = mask & (group < 7)[:, None]
    scores = NumberScores(predictions, target, mask, group)
    assert scores.num_groups == 7
    assert scores.num_samples == int(mask.any(axis=1).sum())


def test_what_does_not_fit_is_refused(numbers):
    predictions, target, mask, group = numbers
    with pytest.raises(ValueError, match=r"mask \(80, 3\) \(float64\)"):
        NumberScores(predictions, target, mask.astype(float), group)
    with pytest.raises(ValueError, match="integer codes"):
        NumberScores(predictions, target, mask, group.astype(float))
    with pytest.raises(ValueError, match="no target"):
        NumberScores(predictions, target, np.zeros_like(mask), group)
    with pytest.raises(ValueError, match=r"numbers of a have shape \(80, 2\)"):
        NumberScores({"a": predictions["a"][:, :2]}, target, mask, group)
    with pytest.raises(ValueError, match="numbers of target hold NaN"):
        NumberScores(predictions, target, np.ones_like(mask), group)
