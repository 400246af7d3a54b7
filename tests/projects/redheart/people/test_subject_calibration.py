from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from projects.redheart.people.subject_calibration import (
    RatedStories,
    aim,
    calibrate,
    corrected,
    fit_correction,
    leave_one_out,
    refuse_overlap,
)  # fmt: skip
from shared.errors import DataError, LeakError

CLASSES = 4


def rated(num_subjects=8, per_subject=30, effect=2.0, shared_stories=0, seed=0):
    """Labels that follow the network's stated probabilities, shifted by how people felt as far as `effect` says."""
    rng = np.random.default_rng(seed)
    count = num_subjects * per_subject
    subject = np.repeat(np.arange(num_subjects), per_subject)
    story = np.arange(count)
    for number in range(shared_stories):
        story[subject * 0 + np.arange(count) == number * per_subject + 1] = 0  # rated by several people
    log_probs = log_softmax(rng.normal(size=(count, CLASSES)), axis=1)
    features = rng.normal(size=(count, 2))
    truth = softmax(log_probs + effect * np.outer(features[:, 0], [1.0, -1.0, 0.5, -0.5]), axis=1)
    label = np.array([rng.choice(CLASSES, p=row) for row in truth])
    names = tuple(f"p{number}" for number in range(num_subjects))
    fit = story % 2 == 0
    return RatedStories(story, subject, names, log_probs, features, label, fit, ~fit)


def test_nobody_is_fitted_on_and_measured_on_and_no_story_is():
    data = rated(shared_stories=5)
    seen = np.zeros(len(data.story), dtype=int)
    for code, fitted, measured in leave_one_out(data):
        assert set(data.subject[measured]) == {code}
        assert code not in data.subject[fitted]
        assert not set(data.story[fitted]) & set(data.story[measured])
        seen[measured] += 1
    assert (seen == data.may_measure).all()
    # Story 0 was rated by five people, so each of them left out takes the others' ratings of it from the fit.
    _, fitted, _ = next(leave_one_out(data))
    assert 0 not in data.story[fitted]


def test_only_what_may_serve_a_calibrator_is_fitted_on():
    data = rated()
    for _, fitted, measured in leave_one_out(data):
        assert data.may_fit[fitted].all()
        assert data.may_measure[measured].all()
    data.may_fit[:] = False
    with pytest.raises(
        DataError, match="subject 'p0' leaves no story of the calibrate fold that only others have rated"
    ):
        calibrate(data)


def test_what_the_calibrator_was_fitted_on_is_not_measured_on():
    data = rated(num_subjects=4, per_subject=10)
    before = calibrate(data, draws=100)["scores"]["nll"]["before"]["value"]
    data.log_probs[data.may_fit] = log_softmax(np.zeros((1, CLASSES)), axis=1)
    assert calibrate(data, draws=100)["scores"]["nll"]["before"]["value"] == before
    with pytest.raises(LeakError, match="story in row 0 may be fitted on and measured on; a fold serves one"):
        replace(data, may_measure=data.may_fit)
    data.may_measure[data.subject == 1] = False
    fewer = calibrate(data, draws=100)
    assert list(fewer["subjects"]) == ["p0", "p2", "p3"]
    assert (fewer["n_subjects"], fewer["n_measured"], fewer["n_per_fold"]["calibrate"]) == (3, 15, 20)
    data.may_measure[:] = False
    with pytest.raises(DataError, match="no rating is of a story of the test fold"):
        calibrate(data)


def test_a_story_or_a_person_on_both_sides_is_refused():
    data = rated(shared_stories=2)
    with pytest.raises(LeakError, match="subject 'p0' would be fitted on and measured on"):
        refuse_overlap(data, np.array([0]), np.array([1]))
    with pytest.raises(LeakError, match="story in row 0 would be fitted on and measured on"):
        refuse_overlap(data, np.array([1]), np.array([31]))


def test_the_correction_is_ridge_logistic_regression():
    data = rated()
    design = np.concatenate([data.features, np.ones((len(data.label), 1))], axis=1)
    parameters = fit_correction(np.zeros_like(data.log_probs), data.features, data.label)
    theirs = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-8, max_iter=1000).fit(design, data.label)
    ours = corrected(parameters, np.zeros_like(data.log_probs), data.features)
    assert ours == pytest.approx(theirs.predict_proba(design), abs=1e-3)
    with pytest.raises(ValueError, match="penalty is 0; it must be above 0"):
        fit_correction(data.log_probs, data.features, data.label, penalty=0)


def test_without_evidence_the_network_s_own_answer_stays():
    data = rated()
    parameters = fit_correction(data.log_probs[:1], data.features[:1], data.label[:1], penalty=1e6)
    assert corrected(parameters, data.log_probs, data.features) == pytest.approx(np.exp(data.log_probs), abs=1e-4)


def test_feelings_that_tell_something_help_and_those_that_do_not_are_not_said_to():
    helped = calibrate(rated(num_subjects=12, per_subject=80))
    for score in ("brier", "nll"):
        assert helped["scores"][score]["change"]["hi"] < 0
    assert helped["n_measured"] == 480
    assert helped["n_per_fold"] == {"calibrate": 480, "test": 480}
    assert (helped["subjects"]["p3"]["n"], helped["subjects"]["p3"]["n_fitted"]) == (40, 440)
    assert "t interval" in helped["scores"]["brier"]["change"]["method"]
    useless = calibrate(rated(num_subjects=12, per_subject=80, effect=0.0))
    assert useless["scores"]["nll"]["change"]["hi"] > 0
    assert useless["aims"]["brier"].startswith("aim of -0.200 for the Brier score: not met; the change is ")
    few = calibrate(rated(num_subjects=3))
    assert few["scores"]["nll"]["change"]["method"] == "no interval: 3 groups"
    with pytest.raises(DataError, match=r"the ratings are of 1 subject\(s\); leaving one out needs two or more"):
        calibrate(rated(num_subjects=1))


def test_the_words_of_an_aim():
    def said(value, hi):
        estimate = {"value": value, "lo": None if hi is None else value - 0.1, "hi": hi}
        return aim("the calibration error", estimate, -0.3, relative=True)

    assert said(-0.5, -0.4) == (
        "aim of -30 % for the calibration error: met; the change is -50 % (95 %: -60 % to -40 %)"
    )  # fmt: skip
    assert "met in value, but not beyond what the spread between people allows" in said(-0.4, -0.1)
    assert said(-0.1, 0.1).startswith("aim of -30 % for the calibration error: not met")
    assert "met in value" in said(-0.4, None)
    assert "cannot be told" in said(None, None)
