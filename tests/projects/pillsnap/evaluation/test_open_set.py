import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from projects.pillsnap.evaluation.open_set import SCORES, NoneOfThese, fit_none_of_these, none_score, score_aurocs


def logits(seed: int, number: int, strength: float, classes: int = 6) -> np.ndarray:
    """Return noise with one class raised by `strength` on average."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(number, classes))
    values[np.arange(number), rng.integers(classes, size=number)] += strength * rng.uniform(0.5, 1.5, number)
    return values


def test_scores_are_the_published_ones() -> None:
    values = logits(1, 50, 4.0) * 30
    np.testing.assert_allclose(np.exp(-none_score(values, "msp")), softmax(values, axis=1).max(axis=1), rtol=1e-9)
    np.testing.assert_allclose(none_score(values, "energy"), -logsumexp(values, axis=1), rtol=1e-12)
    np.testing.assert_array_equal(none_score(values, "max_logit"), -values.max(axis=1))


def test_auroc_of_each_score_is_sklearns() -> None:
    known, unknown = logits(2, 80, 4.0), logits(3, 50, 1.0)
    positive = np.repeat([0, 1], [80, 50])
    found = score_aurocs(known, unknown)
    for kind in SCORES:
        scores = np.concatenate([none_score(known, kind), none_score(unknown, kind)])
        assert found[kind] == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("base_rate", [0.02, 0.5])
def test_slope_and_offset_are_sklearns_weighted_logistic_regression(score: str, base_rate: float) -> None:
    known, unknown = logits(4, 90, 4.0), logits(5, 40, 1.5)
    fitted = fit_none_of_these(known, unknown, base_rate=base_rate, score=score)
    scores = np.concatenate([none_score(known, score), none_score(unknown, score)])
    # A soft target t is a sample of class 1 with weight t and one of class 0 with weight 1 - t.
    soft = np.repeat([1 / 92, 41 / 42], [90, 40])
    weight = np.repeat([(1 - base_rate) / 90, base_rate / 40], [90, 40])
    reference = LogisticRegression(C=1e12, tol=1e-10, max_iter=10_000).fit(
        np.tile(scores, 2)[:, None],
        np.repeat([1, 0], 130),
        sample_weight=1e3 * np.concatenate([weight * soft, weight * (1 - soft)]),
    )
    assert fitted.slope == pytest.approx(reference.coef_[0, 0], rel=1e-4)
    assert fitted.offset == pytest.approx(reference.intercept_[0], rel=1e-4, abs=1e-4)
    stated = reference.predict_proba(none_score(unknown, score)[:, None])[:, 1]
    np.testing.assert_allclose(fitted.probability(unknown), stated, atol=1e-5)


def test_mean_probability_at_the_base_rate_is_the_base_rate() -> None:
    known, unknown = logits(6, 4000, 4.0), logits(7, 3000, 1.0)
    fitted = fit_none_of_these(known, unknown, base_rate=0.1)
    mean = 0.9 * fitted.probability(known).mean() + 0.1 * fitted.probability(unknown).mean()
    assert mean == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize("accept_known", [0.5, 0.9, 0.95, 1.0])
def test_the_threshold_answers_the_stated_share_and_not_one_photo_more_than_needed(accept_known: float) -> None:
    known, unknown = logits(8, 20, 4.0), logits(9, 30, 1.0)
    fitted = fit_none_of_these(known, unknown, base_rate=0.2, accept_known=accept_known)
    assert (~fitted.decide(known)).sum() == round(20 * accept_known)


def test_the_threshold_can_come_from_other_known_photos() -> None:
    known, unknown, other = logits(8, 60, 4.0), logits(9, 30, 1.0), logits(10, 40, 2.5)
    own = fit_none_of_these(known, unknown, base_rate=0.2)
    moved = fit_none_of_these(known, unknown, base_rate=0.2, threshold_known=other)
    assert (moved.slope, moved.offset) == (own.slope, own.offset)
    assert moved.threshold > own.threshold
    assert (~moved.decide(other)).sum() == 38


def test_the_decision_is_the_same_in_float32() -> None:
    known, unknown = logits(11, 400, 4.0).astype(np.float32), logits(12, 100, 1.0).astype(np.float32)
    fitted = fit_none_of_these(known, unknown, base_rate=0.1)
    highest = known.max(axis=1)
    energy = highest + np.log(np.exp(known - highest[:, None]).sum(axis=1, dtype=np.float32))
    score = {"msp": energy - highest, "max_logit": -highest, "energy": -energy}[fitted.score]
    stated = 1 / (1 + np.exp(-(np.float32(fitted.slope) * score + np.float32(fitted.offset))))
    assert stated.dtype == np.float32
    np.testing.assert_array_equal(stated > fitted.threshold, fitted.decide(known))


def test_the_best_score_on_the_tuning_photos_is_chosen() -> None:
    rng = np.random.default_rng(13)
    # Known photos have large logits all over and no clear winner, so only size tells them apart.
    known, unknown = rng.normal(5.0, 1.0, (80, 6)), rng.normal(0.0, 1.0, (80, 6))
    areas = score_aurocs(known, unknown)
    assert areas["msp"] < 0.7 < areas["energy"]
    assert fit_none_of_these(known, unknown, base_rate=0.1).score == max(areas, key=areas.__getitem__) != "msp"


def test_parts_that_separate_give_a_finite_slope_and_the_right_decisions() -> None:
    known, unknown = 20.0 * np.eye(4)[np.arange(40) % 4], 0.01 * np.eye(4)[np.arange(30) % 4]
    fitted = fit_none_of_these(known, unknown, base_rate=0.1)
    assert np.isfinite([fitted.slope, fitted.offset]).all()
    assert not fitted.decide(known).any()
    assert fitted.decide(unknown).all()


@pytest.mark.parametrize("swap", [True, False])
def test_a_score_that_says_nothing_turns_no_photo_away(swap: bool) -> None:
    known, unknown = (logits(14, 60, 1.0), logits(15, 60, 4.0)) if swap else (np.ones((9, 3)), np.ones((4, 3)))
    fitted = fit_none_of_these(known, unknown, base_rate=0.1, score="msp")
    assert fitted.slope == 0.0
    np.testing.assert_allclose(fitted.probability(unknown), 0.1)
    assert not fitted.decide(known).any()
    assert not fitted.decide(unknown).any()


def test_a_dict_and_back() -> None:
    fitted = NoneOfThese("energy", 1.5, -2.0, 0.4)
    assert NoneOfThese.from_dict(fitted.as_dict() | {"base_rate": 0.1}) == fitted
    with pytest.raises(ValueError, match=r"none of these lacks offset, threshold; it holds score, slope"):
        NoneOfThese.from_dict({"score": "msp", "slope": 1})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"score": "odin"}, r"score is 'odin'; allowed are msp, max_logit, energy"),
        ({"slope": -1.0}, r"slope is -1.0 and offset 0.0; a slope >= 0"),
        ({"offset": float("nan")}, r"a finite offset"),
        ({"threshold": 1.5}, r"threshold is 1.5; it is a probability"),
    ],
)
def test_wrong_fields_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NoneOfThese(**({"score": "msp", "slope": 1.0, "offset": 0.0, "threshold": 0.5} | arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base_rate": 0.0}, r"base_rate is 0.0"),
        ({"base_rate": 0.1, "accept_known": 0.0}, r"accept_known is 0.0"),
        ({"base_rate": 0.1, "unknown": np.empty((0, 3))}, r"unknown have no photo"),
        ({"base_rate": 0.1, "known": np.full((2, 3), np.nan)}, r"finite \(N, K\)"),
        ({"base_rate": 0.1, "known": np.zeros(3)}, r"logits have shape \(3,\)"),
        ({"base_rate": 0.1, "score": "odin"}, r"score is 'odin'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, message: str) -> None:
    given = {"known": np.eye(3), "unknown": np.zeros((2, 3))} | arguments
    with pytest.raises(ValueError, match=message):
        fit_none_of_these(given.pop("known"), given.pop("unknown"), **given)


def test_numpy_is_all_it_needs(repo_root: Path) -> None:
    code = (
        "import sys\nsys.modules.update(dict.fromkeys(('torch', 'scipy', 'lightning', 'sklearn')))\n"
        "import projects.pillsnap.evaluation.open_set"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repo_root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
