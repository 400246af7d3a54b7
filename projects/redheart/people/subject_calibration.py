"""Calibration with people: probabilities corrected by how a reader felt, measured on readers left out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from shared.errors import DataError, LeakError
from shared.scores import ClassificationScores
from shared.statistics import Statistic, estimate

Floats = NDArray[np.float64]
PENALTY = 1.0
AIM_ECE, AIM_BRIER = -0.30, -0.2
"""Aims of the reference work: relative change of the calibration error, change of the Brier score."""


@dataclass(frozen=True, eq=False)
class RatedStories:
    """M ratings of stories by people.

    Attributes:
        story: (M,) row of the sample index.
        subject: (M,) code of the person.
        names: Of the persons, by code.
        log_probs: (M, K) calibrated log-probabilities of the network.
        features: (M, F) ratings and signals, z-scored within the person; no NaN.
        label: (M,) emotion.
        may_fit: (M,) bool, whether the story may be fitted on: it lies in the calibrate fold.
        may_measure: (M,) bool, whether it may be measured on: it lies in the test fold. The run's own calibrator was
            fitted on the calibrate fold, so "before" would look better there than it is.

    Raises:
        LeakError: If a rating may serve both.
    """

    story: NDArray[np.int64]
    subject: NDArray[np.int64]
    names: tuple[str, ...]
    log_probs: Floats
    features: Floats
    label: NDArray[np.int64]
    may_fit: NDArray[np.bool_]
    may_measure: NDArray[np.bool_]

    def __post_init__(self) -> None:
        both = np.flatnonzero(self.may_fit & self.may_measure)
        if len(both):
            raise LeakError(
                f"story in row {int(self.story[both[0]])} may be fitted on and measured on; a fold serves one"
            )


def leave_one_out(rated: RatedStories) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """Yield (code, rows to fit on, rows to measure on) for each person who rated a story of the test fold.

    What is fitted on comes from other people, from the calibrate fold, and is about stories that the person left out
    has not rated.

    Raises:
        DataError: If nothing is left to fit on for a person.
    """
    for code, name in enumerate(rated.names):
        own = rated.subject == code
        measured = np.flatnonzero(own & rated.may_measure)
        if len(measured) == 0:
            continue
        foreign = ~own & ~np.isin(rated.story, rated.story[own])
        fitted = np.flatnonzero(foreign & rated.may_fit)
        if len(fitted) == 0:
            raise DataError(
                f"subject {name!r} leaves no story of the calibrate fold that only others have rated; give people "
                "different stories, or more of the calibrate fold"
            )
        refuse_overlap(rated, fitted, measured)
        yield code, fitted, measured


def refuse_overlap(rated: RatedStories, fitted: NDArray[np.int64], measured: NDArray[np.int64]) -> None:
    """Refuse a person or a story on both sides.

    Raises:
        LeakError: Naming one.
    """
    people = np.intersect1d(rated.subject[fitted], rated.subject[measured])
    if len(people):
        raise LeakError(f"subject {rated.names[int(people[0])]!r} would be fitted on and measured on")
    stories = np.intersect1d(rated.story[fitted], rated.story[measured])
    if len(stories):
        raise LeakError(f"story in row {int(stories[0])} would be fitted on and measured on")


def fit_correction(log_probs: Floats, features: Floats, label: NDArray[np.int64], penalty: float = PENALTY) -> Floats:
    """Fit softmax(a log p + W z + b), drawn by a ridge penalty towards a = 1, W = 0, b = 0: the network's own answer.

    So few ratings change little, and a class that nobody rated keeps its probability.

    Args:
        log_probs: (M, K).
        features: (M, F).
        label: (M,).
        penalty: Weight of half the squared distance from the network's own answer, beside the summed NLL, > 0.

    Returns:
        Parameters (1 + (F + 1) K,): a, then W and b as (F + 1, K).

    Raises:
        ValueError: If the penalty is not above 0.
    """
    if penalty <= 0:
        raise ValueError(f"penalty is {penalty}; it must be above 0")
    count, classes = log_probs.shape
    design = np.concatenate([features, np.ones((count, 1))], axis=1)
    one_hot = np.eye(classes)[label]
    start = np.zeros(1 + design.shape[1] * classes)
    start[0] = 1.0

    def objective(parameters: Floats) -> tuple[float, Floats]:
        logits = parameters[0] * log_probs + design @ parameters[1:].reshape(-1, classes)
        stated = log_softmax(logits, axis=1)
        residual = np.exp(stated) - one_hot
        away = parameters - start
        gradient = np.concatenate([[np.sum(residual * log_probs)], (design.T @ residual).ravel()])
        return float(-np.sum(stated * one_hot) + penalty / 2 * away @ away), gradient + penalty * away

    return np.asarray(minimize(objective, start, jac=True, method="L-BFGS-B").x)


def corrected(parameters: Floats, log_probs: Floats, features: Floats) -> Floats:
    """Probabilities (M, K) under fitted parameters."""
    design = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    logits = parameters[0] * log_probs + design @ parameters[1:].reshape(design.shape[1], -1)
    return np.asarray(softmax(logits, axis=1))


def calibrate(rated: RatedStories, *, seed: int = 0, draws: int = 2000) -> dict[str, Any]:
    """Fit and measure, each person left out once.

    Args:
        rated: Ratings of two people or more.
        seed: Of the bootstrap, which only 30 people or more make use of; below, t intervals over people.
        draws: Number of bootstrap draws.

    Returns:
        {n_subjects, n_measured, n_per_fold: {calibrate, test}, scores: {ece, brier, nll: {before, after, change}},
        subjects: {name: {n, n_fitted, ece, brier, nll: {before, after}}}, aims}. Everything is measured on ratings of
        the test fold, of the people who gave any; n_per_fold counts the ratings that could be fitted on and those that
        were measured. The change of ece is relative, those of brier and nll are differences; below 0 is better.

    Raises:
        DataError: If there are fewer than two people, or nothing to fit or measure on.
    """
    if len(rated.names) < 2:
        raise DataError(f"the ratings are of {len(rated.names)} subject(s); leaving one out needs two or more")
    if not rated.may_measure.any():
        raise DataError("no rating is of a story of the test fold; only there can the correction be measured")
    before = softmax(rated.log_probs, axis=1)
    after = np.full_like(before, np.nan)
    subjects: dict[str, dict[str, Any]] = {}
    for code, fitted, measured in leave_one_out(rated):
        parameters = fit_correction(rated.log_probs[fitted], rated.features[fitted], rated.label[fitted])
        after[measured] = corrected(parameters, rated.log_probs[measured], rated.features[measured])
        counts = {"n": len(measured), "n_fitted": len(fitted)}
        subjects[rated.names[code]] = counts | _of_subject(before, after, rated, measured)
    content: dict[str, Any] = {
        "n_subjects": len(subjects),
        "n_measured": int(rated.may_measure.sum()),
        "n_per_fold": {"calibrate": int(rated.may_fit.sum()), "test": int(rated.may_measure.sum())},
        "scores": _scores(before, after, rated, {"seed": seed, "draws": draws}),
        "subjects": subjects,
    }
    content["aims"] = {
        "ece": aim("the calibration error", content["scores"]["ece"]["change"], AIM_ECE, relative=True),
        "brier": aim("the Brier score", content["scores"]["brier"]["change"], AIM_BRIER, relative=False),
    }
    return content


def _scores(before: Floats, after: Floats, rated: RatedStories, settings: dict[str, int]) -> dict[str, Any]:
    rows = rated.may_measure
    was, now = (ClassificationScores(probs[rows], rated.label[rows], rated.subject[rows]) for probs in (before, after))
    count = was.num_groups
    pairs: dict[str, tuple[Statistic, Statistic]] = {
        "ece": (was.ece(), now.ece()),
        "brier": (was.brier(), now.brier()),
        "nll": (was.nll(), now.nll()),
    }

    def change(name: str) -> Statistic:
        first, second = pairs[name]
        if name == "ece":
            return lambda weights: np.asarray(second(weights) / np.maximum(first(weights), 1e-12) - 1.0)
        return lambda weights: np.asarray(second(weights) - first(weights))

    return {
        name: {
            "before": estimate(first, count, **settings).as_dict(),
            "after": estimate(second, count, **settings).as_dict(),
            "change": estimate(change(name), count, **settings).as_dict(),
        }
        for name, (first, second) in pairs.items()
    }


def _of_subject(before: Floats, after: Floats, rated: RatedStories, rows: NDArray[np.int64]) -> dict[str, Any]:
    """Plain values of one person's measured ratings."""
    one, label = np.zeros(len(rows), dtype=np.int64), rated.label[rows]
    scores = [ClassificationScores(probs[rows], label, one) for probs in (before, after)]
    weight = np.ones((1, 1))
    return {
        name: {
            when: float(getattr(score, name)()(weight)[0])
            for when, score in zip(("before", "after"), scores, strict=True)
        }
        for name in ("ece", "brier", "nll")
    }


def aim(what: str, change: Mapping[str, Any], target: float, *, relative: bool) -> str:
    """One sentence: whether an aim is met, with its interval or without.

    Args:
        what: Name of the score.
        change: Estimate of the change, below 0 is better.
        target: Change that is aimed at, below 0.
        relative: Whether both are shares.
    """

    def shown(value: float) -> str:
        return f"{100 * value:+.0f} %" if relative else f"{value:+.3f}"

    value, hi = change["value"], change["hi"]
    if value is None:
        return f"aim of {shown(target)} for {what}: cannot be told, it is not defined"
    within = "" if hi is None else f" (95 %: {shown(change['lo'])} to {shown(hi)})"
    if value > target:
        verdict = "not met"
    elif hi is not None and hi <= target:
        verdict = "met"
    else:
        verdict = "met in value, but not beyond what the spread between people allows"
    return f"aim of {shown(target)} for {what}: {verdict}; the change is {shown(value)}{within}"
