import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from projects.battery.sampling import (
    correction_warning,
    effective_number_weights,
    inverse_frequency_weights,
    sampling_probabilities,
)
from shared.errors import DataError

LABEL = np.repeat(np.arange(5, dtype=np.int16), [39, 13, 40, 45, 2])


def test_inverse_frequency_is_sklearns_balanced() -> None:
    expected = compute_class_weight("balanced", classes=np.arange(5), y=LABEL)
    np.testing.assert_allclose(inverse_frequency_weights(LABEL, 5), expected)


def test_effective_number_by_hand() -> None:
    label = np.array([0, 0, 0, 1])  # E_3 = 1 + .5 + .25 = 1.75, E_1 = 1 at beta .5: ratio 1 : 1.75
    weights = effective_number_weights(label, 2, beta=0.5)
    assert weights[1] / weights[0] == pytest.approx(1.75)
    assert weights[label].mean() == pytest.approx(1.0)


def test_effective_number_spans_from_none_to_inverse_frequency() -> None:
    np.testing.assert_allclose(effective_number_weights(LABEL, 5, beta=0.0), np.ones(5))
    almost = effective_number_weights(LABEL, 5, beta=1 - 1e-12)
    np.testing.assert_allclose(almost, inverse_frequency_weights(LABEL, 5), rtol=1e-4)


def test_probabilities_give_each_class_its_share() -> None:
    probability = sampling_probabilities(LABEL, 5)
    assert probability.dtype == np.float64
    assert probability.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(np.bincount(LABEL, probability), np.full(5, 0.2))


def test_with_groups_each_battery_of_a_class_gets_its_share() -> None:
    label = np.array([0] * 10 + [1] * 4)
    group = np.array([7] * 9 + [3] + [7] * 2 + [5] * 2)  # battery 7 has both classes
    probability = sampling_probabilities(label, 2, group)
    assert probability.sum() == pytest.approx(1.0)
    mass = {(int(k), int(g)): probability[(label == k) & (group == g)].sum() for k, g in zip(label, group, strict=True)}
    assert mass == pytest.approx({(0, 7): 0.25, (0, 3): 0.25, (1, 7): 0.25, (1, 5): 0.25})


@pytest.mark.parametrize("function", [inverse_frequency_weights, effective_number_weights, sampling_probabilities])
def test_an_absent_or_unknown_class_is_an_error(function) -> None:
    with pytest.raises(DataError, match="class 1 has no sample in the train fold"):
        function(np.array([0, 2, 2]), 3)
    with pytest.raises(DataError, match=r"labels are -1..1, allowed: 0..2"):
        function(np.array([0, 1, -1]), 3)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"beta is 1.0"):
        effective_number_weights(LABEL, 5, beta=1.0)
    with pytest.raises(DataError, match="139 labels and 3 groups"):
        sampling_probabilities(LABEL, 5, np.zeros(3, np.int64))


@pytest.mark.parametrize("sampler", [False, True])
@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("smoothing", [False, True])
def test_the_warning_names_exactly_what_is_on(sampler: bool, weights: bool, smoothing: bool) -> None:
    warning = correction_warning(sampler, weights, smoothing)
    if sampler + weights + smoothing < 2:
        assert warning is None
        return
    assert warning is not None
    assert ("sampler" in warning, "(alpha)" in warning, "label smoothing" in warning) == (sampler, weights, smoothing)
    assert warning.count(".") == 1
