import numpy as np
import pytest
import torch

from shared.calibrators.inputs import check_part, too_few_groups
from shared.errors import DataError

SCALES = [1e-6, 1e-3, 0.01, 0.1, 0.3, 0.5, 1.0, 3.0, 10.0, 30.0, 100.0]


def check(values):
    number = len(values)
    return check_part(values, torch.zeros(number, dtype=torch.int64), np.arange(number))


def normal(number, classes, scale, seed):
    return scale * torch.randn(number, classes, generator=torch.Generator().manual_seed(seed))


def probabilities(number=400, classes=4, scale=3.0, seed=0):
    return normal(number, classes, scale, seed).double().softmax(1)


def one_row_off():
    values = probabilities()
    values[7, 0] += 0.01 if values[7, 0] < 0.9 else -0.01
    return values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (probabilities().half(), "look like probabilities .400 of 400 rows sum to about 1 "),
        (probabilities(classes=10).mul(100).round() / 100, "look like probabilities .[34].. of 400 rows"),
        (one_row_off(), "look like probabilities .400 of 400 rows"),
        (100 * probabilities(), "look like percentages .400 of 400 rows sum to about 100 and every value"),
        (probabilities().mul(100).round(), "look like percentages"),
        (normal(400, 4, 3.0, 1).sigmoid(), "look like probabilities of each class for itself .all 1600 values spread"),
        ((normal(400, 4, 6.0, 1) - 4).sigmoid().double().mul(100).round() / 100, "of each class for itself"),
        (normal(20, 2, 3.0, 2).sigmoid(), "of each class for itself .all 40 values"),
    ],
    ids=["half", "two digits", "a row off", "percent", "whole percent", "sigmoids", "two digits each", "few sigmoids"],
)
def test_probabilities_are_refused(values, message):
    with pytest.raises(DataError, match=message):
        check(values)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("classes", [2, 4, 20])
@pytest.mark.parametrize("number", [6, 300])
def test_logits_are_taken(scale, classes, number):
    for seed in range(10):
        logits = normal(number, classes, scale, seed)
        assert (logits < 0).any()
        check(logits)
        check(logits.relu())
        check(logits.double().log_softmax(1))


def test_small_logits_that_are_never_negative_are_taken_with_a_warning():
    logits = normal(300, 4, 0.01, 0)
    for doubtful in (logits.relu(), logits.abs(), normal(300, 4, 0.3, 1).relu().clamp(max=1.0)):
        (sentence,) = check(doubtful).warnings
        assert sentence.startswith(
            "every logit lies between 0 and 1: if these are probabilities, pass what stands before"
        )
    assert check(normal(300, 4, 3.0, 0).relu()).warnings == ()
    assert check(normal(300, 4, 3.0, 0)).warnings == ()


def test_weak_sigmoids_are_at_least_doubted():
    assert len(check(normal(300, 4, 0.3, 0).sigmoid()).warnings) == 1


def test_log_probabilities_are_logits():
    assert check(probabilities().log()).warnings == ()


def test_the_fewest_groups():
    assert too_few_groups(5) == "5 groups, 6 are needed to tell a gain from chance"
    assert too_few_groups(6) is None
