import json

import numpy as np
import pytest
import torch

from shared.calibration import (
    adaptive_calibration_error,
    brier_score,
    classwise_calibration_error,
    expected_calibration_error,
    negative_log_likelihood,
)
from shared.calibrators.choose import choose_calibrator
from shared.calibrators.effect import measure_effect
from tests.shared.calibrators.samples import planted

SCORES = {
    "ece": expected_calibration_error,
    "classwise_ece": classwise_calibration_error,
    "adaptive_ece": adaptive_calibration_error,
    "brier": brier_score,
    "nll": negative_log_likelihood,
}


def case(temperature=3.0, num_groups=40, **settings):
    logits, target = planted(1200, 4, temperature, seed=0)
    group = 100 + np.arange(1200) % num_groups
    return logits, target, group, choose_calibrator(logits, target, group, **settings)


def test_values_are_the_metrics_on_held_out_probabilities():
    logits, target, group, choice = case()
    effect = measure_effect(choice, logits, target, group, draws=200)
    before = torch.softmax(logits, dim=1).numpy()
    for name, metric in SCORES.items():
        assert effect["before"][name]["value"] == pytest.approx(metric(before, target.numpy())), name
        assert effect["after"][name]["value"] == pytest.approx(metric(choice.held_out, target.numpy())), name
    right = before.argmax(axis=1) == target.numpy()
    assert effect["before"]["confidence_right"]["value"] == pytest.approx(before.max(axis=1)[right].mean())
    assert effect["before"]["confidence_wrong"]["value"] == pytest.approx(before.max(axis=1)[~right].mean())


def test_over_confidence_is_mended_and_the_difference_is_sure():
    logits, target, group, choice = case()
    effect = measure_effect(choice, logits, target, group)
    for name in ("ece", "classwise_ece", "adaptive_ece", "brier", "nll"):
        difference = effect["difference"][name]
        assert difference["value"] == pytest.approx(effect["after"][name]["value"] - effect["before"][name]["value"])
        assert difference["hi"] < 0, name
    assert effect["after"]["confidence_wrong"]["value"] < effect["before"]["confidence_wrong"]["value"] - 0.1
    assert effect["before"]["ece"]["method"] == "group bootstrap, 2000 draws"
    json.dumps(effect, allow_nan=False)


@pytest.mark.parametrize(("num_groups", "method"), [(12, "t interval over jackknife pseudo-values"), (1, "1 group")])
def test_intervals_follow_the_number_of_groups(num_groups, method):
    effect = measure_effect(*_reordered(case(num_groups=num_groups)))
    assert method in effect["before"]["ece"]["method"]
    assert effect["before"]["ece"]["n_groups"] == num_groups


def test_identity_changes_nothing():
    logits, target, group, choice = case(methods=[])
    effect = measure_effect(choice, logits, target, group, draws=200)
    assert effect["after"] == effect["before"]
    assert all(row["value"] == 0 for row in effect["difference"].values())


def _reordered(found):
    logits, target, group, choice = found
    return choice, logits, target, group
