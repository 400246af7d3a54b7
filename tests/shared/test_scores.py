import time

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score
from torchmetrics.functional.classification import multiclass_auroc, multiclass_calibration_error, multiclass_f1_score

from shared.calibration import brier_score, expected_calibration_error, negative_log_likelihood
from shared.scores import ClassificationScores
from shared.statistics import estimate, estimate_difference

NUM_GROUPS = 20


def fabricate(num_classes=4, num_samples=400, num_groups=NUM_GROUPS, seed=0):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, num_classes, num_samples)
    logits = rng.normal(size=(num_samples, num_classes)) + 1.2 * np.eye(num_classes)[target]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    group = np.concatenate([np.arange(num_groups), rng.integers(0, num_groups, num_samples - num_groups)])
    return probs, target, 7 * group - 3  # codes with gaps, one below zero


def reference(probs, target):
    """Every score by another library, or by the unweighted function where there is no other."""
    num_classes = probs.shape[1]
    present = np.unique(target)
    auroc = (
        roc_auc_score(target, probs[:, 1])
        if num_classes == 2
        else np.mean([roc_auc_score(target == c, probs[:, c]) for c in present])
    )
    predicted = probs.argmax(axis=1)
    return {
        "accuracy": accuracy_score(target, predicted),
        "f1_macro": f1_score(target, predicted, labels=present, average="macro"),
        "auroc_macro": auroc,
        "ece": multiclass_calibration_error(
            torch.tensor(probs), torch.tensor(target), num_classes=num_classes, n_bins=15
        ).item(),
        "brier": np.mean(np.sum((probs - np.eye(num_classes)[target]) ** 2, axis=1)),
        "nll": log_loss(target, probs, labels=np.arange(num_classes)),
    }


@pytest.mark.parametrize("num_classes", [2, 4])
def test_unit_weights_equal_other_libraries(num_classes):
    probs, target, group = fabricate(num_classes)
    scores = ClassificationScores(probs, target, group)
    assert scores.num_groups == NUM_GROUPS
    found = {name: score(np.ones((1, NUM_GROUPS)))[0] for name, score in scores.all().items()}
    assert found == pytest.approx(reference(probs, target), abs=1e-6)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_integer_weights_equal_repeated_samples(num_classes):
    probs, target, group = fabricate(num_classes)
    scores = ClassificationScores(probs, target, group)
    weights = np.random.default_rng(3).multinomial(NUM_GROUPS, np.full(NUM_GROUPS, 1 / NUM_GROUPS), size=5)
    found = {name: score(weights.astype(float)) for name, score in scores.all().items()}
    position = np.searchsorted(scores.group_values, group)
    for draw, row in enumerate(weights):
        repeated = np.repeat(np.arange(len(target)), row[position])
        one = {name: values[draw] for name, values in found.items()}
        assert one == pytest.approx(reference(probs[repeated], target[repeated]), abs=1e-6)


def test_torchmetrics_agrees_on_macro_scores():
    probs, target, group = fabricate()
    scores = ClassificationScores(probs, target, group)
    ones, p, t = np.ones((1, NUM_GROUPS)), torch.tensor(probs), torch.tensor(target)
    assert scores.f1_macro()(ones)[0] == pytest.approx(multiclass_f1_score(p, t, 4, average="macro").item(), abs=1e-6)
    assert scores.auroc_macro()(ones)[0] == pytest.approx(multiclass_auroc(p, t, 4).item(), abs=1e-6)


def test_f1_per_class():
    probs, target, group = fabricate()
    scores = ClassificationScores(probs, target, group)
    theirs = f1_score(target, probs.argmax(axis=1), average=None)
    np.testing.assert_allclose([scores.f1(c)(np.ones((1, NUM_GROUPS)))[0] for c in range(4)], theirs)
    with pytest.raises(ValueError, match="class_index is 4"):
        scores.f1(4)


def test_same_definitions_as_calibration():
    probs, target, group = fabricate()
    scores, ones = ClassificationScores(probs, target, group, num_bins=7), np.ones((1, NUM_GROUPS))
    assert scores.ece()(ones)[0] == pytest.approx(expected_calibration_error(probs, target, 7))
    assert scores.brier()(ones)[0] == pytest.approx(brier_score(probs, target))
    assert scores.nll()(ones)[0] == pytest.approx(negative_log_likelihood(probs, target))


def test_ece_is_exact_at_confidence_one():
    scores = ClassificationScores([[0.05, 0.95], [0.0, 1.0]], [1, 0], [0, 1], num_bins=10)
    assert scores.ece()(np.ones((1, 2)))[0] == pytest.approx(0.475)


def test_absent_class_is_left_out_of_macro_and_has_no_f1():
    probs, target, group = fabricate(num_classes=5)
    kept = target != 4
    scores = ClassificationScores(probs[kept], target[kept], group[kept])
    expected = reference(probs[kept], target[kept])
    ones = np.ones((1, scores.num_groups))
    assert scores.f1_macro()(ones)[0] == pytest.approx(expected["f1_macro"])
    assert scores.auroc_macro()(ones)[0] == pytest.approx(expected["auroc_macro"])
    found = estimate(scores.f1(4), scores.num_groups)
    assert found.as_dict()["value"] is None
    assert found.method == "no interval: undefined on these data"


def test_class_that_only_a_draw_lacks_makes_it_undefined():
    probs = np.full((4, 2), 0.5)
    scores = ClassificationScores(probs, [0, 0, 1, 0], [0, 1, 2, 3])
    weights = np.array([[1.0, 1, 1, 1], [2.0, 1, 0, 1]])
    for statistic in (scores.f1(1), scores.f1_macro(), scores.auroc_macro()):
        assert np.isnan(statistic(weights)).tolist() == [False, True]
    assert np.isfinite(scores.accuracy()(weights)).all()


def test_class_in_two_groups_has_no_interval():
    probs, target, group = fabricate(num_classes=3, num_samples=600, num_groups=60)
    rare = np.isin(group, [-3, 4])  # the first two groups
    target = np.where(rare, 2, target % 2)
    found = estimate(ClassificationScores(probs, target, group).f1_macro(), 60)
    assert found.lo is None
    assert found.method.startswith("no interval: undefined on")


def test_paired_difference_of_a_model_with_itself_is_zero():
    scores = ClassificationScores(*fabricate(num_groups=40))
    for statistic in scores.all().values():
        found = estimate_difference(statistic, statistic, 40)
        assert (found.value, found.lo, found.hi) == (0.0, 0.0, 0.0)


def test_bad_groups_and_logits_are_refused():
    probs, target, group = fabricate()
    with pytest.raises(ValueError, match="if these are logits, apply softmax"):
        ClassificationScores(np.log(probs), target, group)
    with pytest.raises(ValueError, match="group has shape"):
        ClassificationScores(probs, target, group[:-1])
    with pytest.raises(ValueError, match="dtype float64"):
        ClassificationScores(probs, target, group.astype(float))


def test_all_scores_are_quick():
    scores = ClassificationScores(*fabricate(5, 4000, 64))
    start = time.process_time()
    for statistic in scores.all().values():
        estimate(statistic, 64)
    assert time.process_time() - start < 3.0  # 0.05 s measured, one core, 2026-11-21
