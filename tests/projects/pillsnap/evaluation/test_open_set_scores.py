import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score, roc_curve

from projects.pillsnap.evaluation import open_set_scores
from projects.pillsnap.evaluation.open_set import SCORES, NoneOfThese, fit_none_of_these, none_score
from projects.pillsnap.evaluation.open_set_scores import (
    OpenSetSample,
    calibration_at,
    false_positive_rate,
    none_of_these_content,
    open_set_report,
    risk_coverage,
)
from projects.pillsnap.evaluation.two_samples import TwoSampleIntervals
from shared.calibration import expected_calibration_error

INTERVALS = TwoSampleIntervals(seed=0, draws=200)


def sample(unknown_classes: int = 12, seed: int = 0) -> OpenSetSample:
    """Return 240 known photos of 60 groups and 8 photos of each held-out class."""
    rng = np.random.default_rng(seed)
    known, unknown = rng.normal(size=(240, 5)), rng.normal(size=(8 * unknown_classes, 5))
    target = rng.integers(5, size=240)
    known[np.arange(240), target] += 3.0
    unknown[:, 0] += 1.0
    return OpenSetSample(
        known, unknown, known.argmax(axis=1) == target, np.repeat(np.arange(60), 4),
        np.repeat(100 + np.arange(unknown_classes), 8),
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted() -> NoneOfThese:
    tuning = sample(seed=1)
    return fit_none_of_these(tuning.known, tuning.unknown, base_rate=0.1)


def test_auroc_and_false_positive_rate_are_sklearns(fitted: NoneOfThese) -> None:
    photos = sample()
    report = open_set_report(photos, fitted, base_rate=0.1, intervals=INTERVALS)
    positive = np.repeat([0, 1], [240, 96])
    for kind in SCORES:
        scores = np.concatenate([none_score(photos.known, kind), none_score(photos.unknown, kind)])
        assert report["scores"][kind]["auroc"]["value"] == pytest.approx(roc_auc_score(positive, scores))
        # Known photos are the positives of the usual name: the first point that keeps 95 % of them.
        false_rate, true_rate, _ = roc_curve(1 - positive, -scores, drop_intermediate=False)
        expected = false_rate[np.argmax(true_rate >= 0.95)]
        assert report["scores"][kind]["fpr95"]["value"] == pytest.approx(expected)
        assert report["scores"][kind]["auroc"]["lo"] < report["scores"][kind]["auroc"]["value"]


def test_false_positive_rate_by_hand_with_ties_and_weights() -> None:
    known, unknown = np.array([1.0, 2.0, 2.0, 3.0]), np.array([2.0, 2.5, 9.0])
    rate = false_positive_rate(known, unknown, np.array([0, 0, 1, 1, 2, 2, 3]), 4, kept=0.5)
    weights = np.array([[1.0, 1, 1, 1], [1, 0, 1, 1], [0, 1, 1, 0], [0, 5, 2, 1], [1, 1, 0, 0], [0, 0, 1, 1]])
    # Half of the known photos: 1, 2 (and with it the other 2). Of group 0 only: 1. Of group 1 only: 2. Last two: none.
    np.testing.assert_allclose(rate(weights), [1 / 3, 0.0, 0.5, 2 / 5, np.nan, np.nan])


def test_false_positive_rate_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    rate = false_positive_rate(rng.normal(size=40), rng.normal(1, 1, 30), rng.integers(9, size=70), 9)
    weights = rng.integers(0, 3, (50, 9)).astype(np.float64)
    whole = rate(weights)
    monkeypatch.setattr(open_set_scores, "_CELLS_PER_CHUNK", 200)
    np.testing.assert_array_equal(rate(weights), whole)


def test_calibration_at_the_base_rate_at_hand_is_the_plain_one() -> None:
    rng = np.random.default_rng(4)
    stated = rng.uniform(size=300)
    is_unknown = rng.uniform(size=300) < stated**2
    found = calibration_at(stated, is_unknown, np.arange(300) % 20, 20, base_rate=float(is_unknown.mean()))
    ones = np.ones((1, 20))
    assert found["ece"](ones)[0] == pytest.approx(expected_calibration_error(stated, is_unknown.astype(int)))
    assert found["brier"](ones)[0] == pytest.approx(brier_score_loss(is_unknown, stated))


def test_calibration_at_another_base_rate_is_that_of_repeated_photos() -> None:
    stated, is_unknown = np.array([0.1, 0.3, 0.6, 0.8]), np.array([False, False, True, True])
    found = calibration_at(stated, is_unknown, np.arange(4), 4, base_rate=0.25)
    again = np.array([0, 0, 0, 1, 1, 1, 2, 3])
    weights = np.array([[1.0, 1, 1, 1], [1, 1, 0, 0]])
    ece, brier = found["ece"](weights), found["brier"](weights)
    assert ece[0] == pytest.approx(expected_calibration_error(stated[again], is_unknown[again].astype(int)))
    assert brier[0] == pytest.approx(brier_score_loss(is_unknown[again], stated[again]))
    assert np.isnan([ece[1], brier[1]]).all()


def test_decisions_count_photos(fitted: NoneOfThese) -> None:
    photos = sample()
    decisions = open_set_report(photos, fitted, base_rate=0.1, intervals=INTERVALS)["decisions"]
    answered = ~fitted.decide(photos.known)
    assert decisions["known_answered"]["value"] == pytest.approx(answered.mean())
    assert decisions["known_answered"]["n_groups"] == 60
    assert decisions["right_among_answered"]["value"] == pytest.approx(photos.right[answered].mean())
    assert decisions["right_without_open_set"]["value"] == pytest.approx(photos.right.mean())
    assert decisions["unknown_declined"]["value"] == pytest.approx(fitted.decide(photos.unknown).mean())
    assert decisions["unknown_declined"]["n_groups"] == 12


def test_no_interval_with_fewer_than_six_held_out_classes(fitted: NoneOfThese) -> None:
    report = open_set_report(sample(unknown_classes=5), fitted, base_rate=0.1, intervals=INTERVALS)
    for part in (
        report["scores"]["msp"]["auroc"],
        report["calibration"]["ece"],
        report["decisions"]["unknown_declined"],
    ):
        assert part["lo"] is None
        assert part["method"] == "no interval: 5 held-out classes"
    assert report["decisions"]["known_answered"]["lo"] is not None


def test_numbers_of_both_sides_rest_on_the_held_out_classes(fitted: NoneOfThese) -> None:
    report = open_set_report(sample(unknown_classes=12), fitted, base_rate=0.1, intervals=INTERVALS)
    for part in (*report["scores"]["msp"].values(), *report["calibration"].values()):
        assert part["n_groups"] == 12
        assert part["method"].startswith("t interval over 60 and 12 groups")
        assert part["lo"] < part["value"] < part["hi"]


def test_nothing_answered_leaves_no_share() -> None:
    closed = NoneOfThese("msp", 0.0, 0.0, 0.4)
    decisions = open_set_report(sample(), closed, base_rate=0.1, intervals=INTERVALS)["decisions"]
    assert decisions["known_answered"]["value"] == 0.0
    assert decisions["right_among_answered"] == {
        "value": None, "lo": None, "hi": None, "n_groups": 0, "method": "no interval: no photo"
    }  # fmt: skip


def test_risk_and_coverage_by_hand() -> None:
    known = np.log([[0.9, 0.1], [0.6, 0.4]])  # surprise .105, .511
    unknown = np.log([[0.7, 0.3], [0.5, 0.5]])  # .357, .693
    photos = OpenSetSample(known, unknown, np.array([True, False]), np.arange(2), np.arange(2))
    coverage, risk = risk_coverage(photos, "msp", base_rate=0.2)
    np.testing.assert_allclose(coverage, [0.4, 0.5, 0.9, 1.0])
    np.testing.assert_allclose(risk, [0.0, 0.2, 5 / 9, 0.6])


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    photos = sample()
    coverage, risk = risk_coverage(photos, "energy", 0.1, points=20)
    whole = risk_coverage(photos, "energy", 0.1, points=10**6)
    assert len(coverage) == 20
    assert (coverage[0], coverage[-1]) == (whole[0][0], pytest.approx(1.0))
    assert risk[-1] == pytest.approx(0.1 + 0.9 * (~photos.right).mean())


def test_parts_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"have the lengths \(3, 2, 3, 1, 1\)"):
        OpenSetSample(np.eye(3), np.zeros((1, 3)), np.ones(2, dtype=bool), np.arange(3), np.arange(1))


def test_content_for_the_export_reads_back(fitted: NoneOfThese) -> None:
    content = none_of_these_content(fitted, {"msp": 0.9}, {"base_rate": 0.1}, "ab" * 32)
    assert NoneOfThese.from_dict(content) == fitted
    assert content["tuning"] == {"base_rate": 0.1, "auroc": {"msp": 0.9}}
    assert content["final_sha256"] == "ab" * 32
