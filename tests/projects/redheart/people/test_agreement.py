import numpy as np
import pytest
from scipy.stats import spearmanr

from projects.redheart.people.agreement import agreement, alpha_statistic, library_alpha
from projects.redheart.people.export import SCORE_COLUMNS
from projects.redheart.people.ratings import Ratings
from projects.redheart.tasks import EMOTIONS

# Krippendorff's own example (four observers, twelve units): nominal 0.743, interval 0.849, ordinal 0.815.
NAN = np.nan
EXAMPLE = np.array([
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
])  # fmt: skip


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("interval", 0.849)])
def test_alpha_is_the_published_one_and_the_library_s(level, published):
    statistic, count = alpha_statistic(EXAMPLE, level)
    assert count == 11  # one unit has a single rating
    value = statistic(np.ones((1, count)))[0]
    assert value == pytest.approx(published, abs=5e-4)
    assert value == pytest.approx(library_alpha(EXAMPLE, level))
    assert library_alpha(EXAMPLE, "ordinal") == pytest.approx(0.815, abs=5e-4)


@pytest.mark.parametrize("level", ["nominal", "interval"])
def test_a_weight_of_two_is_a_story_twice(level):
    statistic, count = alpha_statistic(EXAMPLE[:, :11], level)
    weights = np.array([[2.0, 1, 0, 1, 3, 1, 1, 2, 1, 1, 1]])
    assert count == 11
    repeated = np.repeat(EXAMPLE[:, :11], weights[0].astype(int), axis=1)
    assert statistic(weights)[0] == pytest.approx(library_alpha(repeated, level))


def test_alpha_without_spread_or_pairs_is_not_defined():
    same = np.ones((2, 5))
    assert np.isnan(alpha_statistic(same, "interval")[0](np.ones((1, 5)))[0])
    assert library_alpha(same, "ordinal") is None
    assert alpha_statistic(np.array([[1.0, NAN], [NAN, 2.0]]), "interval")[1] == 0
    with pytest.raises(ValueError, match="level is 'ordinal'; allowed are nominal and interval"):
        alpha_statistic(same, "ordinal")


def made_up(count=60):
    rng = np.random.default_rng(0)
    truth, label = rng.random(count), rng.integers(0, 7, count)
    items = tuple(f"s{number:04d}" for number in range(count))
    rater = np.where(rng.random((3, count)) < 0.8, label, rng.integers(0, 7, (3, count))).astype(float)
    scores = {column: np.full((3, count), NAN) for column in SCORE_COLUMNS}
    scores["regret_regret_factor"] = np.clip(truth + rng.normal(0, 0.1, (3, count)), 0, 1)
    scores["regret_regret_factor"][0, :4] = NAN
    key = {
        "emotions": list(EMOTIONS),
        "items": {
            item: {
                "label": EMOTIONS[label[n]], "predicted": EMOTIONS[label[n] if n % 2 else (label[n] + 1) % 7],
                "predicted_scores": {"regret_regret_factor": float(truth[n])}, "label_scores": {},
            }
            for n, item in enumerate(items)
        },
    }  # fmt: skip
    return Ratings(("a", "b", "c"), items, rater, scores), key, truth


def test_raters_are_set_beside_each_other_the_network_and_the_annotation():
    ratings, key, truth = made_up()
    found = agreement(ratings, key, draws=200)
    assert found["emotion"]["alpha"]["lo"] > 0.3
    assert found["emotion"]["annotation"]["value"] > 0.9
    assert found["emotion"]["model"]["value"] == pytest.approx(0.5, abs=0.1)
    assert list(found["scores"]) == ["regret_regret_factor"]
    score = found["scores"]["regret_regret_factor"]
    values = ratings.scores["regret_regret_factor"]
    pairs = [(0, 1), (0, 2), (1, 2)]
    each = [spearmanr(values[a], values[b], nan_policy="omit").statistic for a, b in pairs]
    assert score["between_raters"]["value"] == pytest.approx(np.mean(each))
    assert score["between_raters"]["lo"] < np.mean(each) < score["between_raters"]["hi"]
    assert score["model"]["value"] == pytest.approx(spearmanr(np.nanmean(values, axis=0), truth).statistic)
    assert score["annotation"]["value"] is None
    assert found["raters"] == ["a", "b", "c"]
    assert "no majority emotion" in found["notes"][0]


def test_what_nobody_rated_is_left_out():
    ratings, key, _ = made_up()
    ratings.emotion[:] = NAN
    assert "emotion" not in agreement(ratings, key, draws=100)
