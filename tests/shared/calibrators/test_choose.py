import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from shared.calibrators.choose import METHODS, choose_calibrator
from shared.calibrators.cross_fit import deal_folds
from shared.calibrators.domain_temperature import DomainTemperatureCalibrator
from shared.calibrators.temperature import fit_temperatures
from shared.errors import DataError
from tests.shared.calibrators.samples import planted


def groups(num_samples, num_groups):
    return np.arange(num_samples) % num_groups


def choose(temperature, seed=0, num_samples=1200, num_groups=40, **settings):
    logits, target = planted(num_samples, 4, temperature, seed)
    return choose_calibrator(logits, target, groups(num_samples, num_groups), **settings)


@pytest.mark.parametrize("num_groups", [12, 40])
def test_a_calibrated_model_is_left_alone_in_most_cases(num_groups):
    chosen = [choose(1.0, seed=seed, num_groups=num_groups).method for seed in range(20)]
    assert chosen.count("identity") >= 14  # a gain of one standard error by chance alone: about one in six


def test_identity_is_left_only_for_more_than_one_standard_error():
    small = 0
    for seed in range(30):
        choice = choose(1.1, seed=seed, num_samples=300, num_groups=12, methods=["temperature"])
        gain, error = choice.cv["temperature"]["gain"], choice.cv["temperature"]["se"]
        assert choice.method == ("temperature" if gain > error else "identity")
        small += 0 < gain <= error
        if choice.method == "identity":
            assert "no method lowers the mean NLL over 12 groups" in choice.reason
    assert small >= 3  # gains that are there and do not count


@pytest.mark.parametrize("temperature", [0.5, 2.5])
def test_wrong_confidence_is_mended_by_temperature(temperature):
    found = [choose(temperature, seed=seed) for seed in range(5)]
    assert [choice.method for choice in found].count("temperature") >= 4  # nothing more flexible has anything to add
    for choice in found:
        assert choice.cv["temperature"]["gain"] > choice.cv["temperature"]["se"]
    chosen = next(choice for choice in found if choice.method == "temperature")
    assert chosen.temperature == pytest.approx(temperature, rel=0.15)
    assert "temperature lowers the mean NLL over 40 groups" in chosen.reason


def test_the_final_calibrator_is_fitted_on_all_samples():
    logits, target = planted(1200, 4, 2.5, seed=0)
    everything = [torch.ones(1200, dtype=torch.bool)]
    assert choose(2.5).temperature == fit_temperatures(logits, target, everything, [40])[0].temperature


def test_held_out_scores_are_those_of_fits_without_the_fold():
    logits, target = planted(600, 3, 2.0, seed=1)
    group = groups(600, 20)
    choice = choose_calibrator(logits, target, group, methods=["temperature"], folds=4, seed=3)
    fold = deal_folds(target.numpy(), group, 4, 3)
    expected = np.empty((600, 3))
    for part in range(4):
        inside = torch.from_numpy(fold != part)
        fitted = fit_temperatures(
            logits[inside], target[inside], [torch.ones(int(inside.sum()), dtype=torch.bool)], [1]
        )
        expected[fold == part] = log_softmax(logits.numpy()[fold == part] / fitted[0].temperature, axis=1)
    np.testing.assert_allclose(choice.held_out, np.exp(expected), atol=1e-8)
    rows = np.arange(600)
    before = -log_softmax(logits.numpy(), axis=1)[rows, target]
    gain = np.array([(before + expected[rows, target])[group == code].mean() for code in range(20)])
    assert choice.cv["temperature"]["gain"] == pytest.approx(gain.mean())
    assert choice.cv["temperature"]["se"] == pytest.approx(gain.std(ddof=1) / np.sqrt(20))


def test_a_class_with_an_offset_is_mended_by_platt():
    logits, target = planted(3000, 4, 1.0, seed=2)
    right = -log_softmax(logits.numpy(), axis=1)[np.arange(3000), target].mean()
    logits[:, 0] += 2.0  # no temperature moves one class against the others
    choice = choose_calibrator(logits, target, groups(3000, 50))
    assert choice.method in ("platt", "isotonic")
    possible = choice.cv["identity"]["nll"] - right
    assert choice.cv["platt"]["gain"] > 0.9 * possible > choice.cv["temperature"]["gain"]
    assert choice.temperature is None


def test_a_curve_that_no_line_follows_is_mended_by_isotonic():
    rng = np.random.default_rng(0)
    margin = rng.uniform(-4, 4, 6000)
    happens = np.select([margin < -2, margin < 2], [0.05, 0.5], 0.95)  # stairs
    target = (rng.random(6000) < happens).astype(np.int64)
    logits = torch.from_numpy(np.stack([np.zeros(6000), margin], axis=1))
    choice = choose_calibrator(logits, torch.from_numpy(target), groups(6000, 60))
    assert choice.method == "isotonic"


def two_domains(unknown=False):
    """Domain 1 states its log-odds three times too large, domain 0 is right."""
    logits, target = planted(4000, 4, 1.0, seed=4)
    group = groups(4000, 80)
    domain = group % 2
    logits[domain == 1] *= 3.0
    return logits, target, group, np.where(domain == 0, -1, 0) if unknown else domain


def test_one_domain_that_is_off_is_corrected():
    logits, target, group, domain = two_domains()
    choice = choose_calibrator(logits, target, group, domain, ("cell", "module"))
    assert choice.method == "domain_temperature"
    cell, module = choice.per_group["cell"], choice.per_group["module"]
    assert (cell["groups"], cell["n"], cell["weight"]) == (40, 2000, pytest.approx(40 / 60))
    assert module["own_temperature"] == pytest.approx(3.0, rel=0.1)
    expected = module["own_temperature"] ** (2 / 3) * choice.temperature ** (1 / 3)
    assert module["temperature"] == pytest.approx(expected)
    assert module["nll_after"] < module["nll_before"] - 0.3
    assert isinstance(choice.calibrator, DomainTemperatureCalibrator)
    unknown = choice.calibrator(logits, torch.full((4000,), -1))
    torch.testing.assert_close(unknown, logits / choice.temperature)


def test_per_domain_temperature_abstains_with_a_reason():
    logits, target, group, _ = two_domains()
    without = choose_calibrator(logits, target, group)
    assert without.abstained["domain_temperature"] == "fewer than two domains are known here"
    few = choose_calibrator(logits, target, group % 8, group % 2, ("a", "b"))
    assert few.abstained["domain_temperature"] == "no domain has 5 groups (the largest has 4)"


def test_one_against_rest_abstains_where_a_class_is_rare():
    logits, target = planted(400, 4, 2.0, seed=5)
    target[target == 3] = 0
    choice = choose_calibrator(logits, target, groups(400, 20))
    assert choice.abstained["platt"] == "class 3 has 0 samples, 1 are needed"
    assert choice.abstained["isotonic"] == "class 3 has 0 samples, 50 are needed"
    assert set(choice.cv) == {"identity", "temperature"}


@pytest.mark.parametrize(
    ("target", "num_groups", "reason"),
    [
        (torch.ones(30, dtype=torch.int64), 10, "nothing can be fitted: all 30 samples are of class 1"),
        (torch.arange(30) % 3, 1, "nothing can be fitted: 1 group, 6 are needed to tell a gain from chance"),
        (torch.arange(30) % 3, 5, "nothing can be fitted: 5 groups, 6 are needed to tell a gain from chance"),
    ],
)
def test_where_nothing_can_be_fitted_it_is_identity(target, num_groups, reason):
    logits = torch.randn(30, 3)
    choice = choose_calibrator(logits, target, groups(30, num_groups))
    assert (choice.method, choice.reason, choice.cv) == ("identity", reason, {})
    torch.testing.assert_close(choice.calibrator(logits), logits)


def test_six_groups_are_enough_to_try():
    assert choose(3.0, num_groups=5).method == "identity"
    assert choose(3.0, num_groups=6).method == "temperature"


def test_doubtful_logits_carry_their_warning_fitted_or_not():
    logits, target = planted(200, 3, 1.0, seed=0)
    for num_groups in (1, 20):
        warnings = choose_calibrator(logits.clamp(min=0) / 100, target, groups(200, num_groups)).warnings
        assert any("every logit lies between 0 and 1" in sentence for sentence in warnings)


def test_separable_samples_carry_their_warning():
    logits = torch.eye(3).repeat(40, 1) * 3
    choice = choose_calibrator(logits, torch.arange(120) % 3, np.arange(120) // 4, methods=["temperature"])
    assert choice.method == "temperature"
    assert "every sample is right" in choice.warnings[0]


def test_equal_inputs_give_an_equal_choice():
    assert choose(2.0, seed=6).as_dict() == choose(2.0, seed=6).as_dict()


def test_only_the_methods_asked_for_are_tried():
    assert set(choose(2.0, methods=["platt"]).cv) == {"identity", "platt"}
    assert choose(2.0, methods=[]).reason == "no other method was tried"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"logits": torch.tensor([[float("nan"), 1.0], [0.0, 1.0]])}, DataError, "not finite .* in 1 of 2 rows"),
        ({"logits": torch.tensor([[float("-inf"), 1.0], [0.0, 1.0]])}, DataError, "not finite .* in 1 of 2 rows"),
        ({"logits": torch.tensor([[0.2, 0.8], [0.5, 0.5]])}, DataError, "look like probabilities .2 of 2 rows sum to"),
        ({"logits": torch.ones(2)}, ValueError, r"logits have shape \(2,\)"),
        ({"logits": torch.ones(2, 1)}, ValueError, "C >= 2 is needed"),
        ({"target": torch.tensor([0, 2])}, DataError, "target holds 0 to 2; allowed are 0 to 1"),
        ({"target": torch.tensor([0.0, 1.0])}, ValueError, "target has shape .* dtype float32"),
        ({"group": np.array([0, 1, 2])}, ValueError, r"group has shape \(3,\)"),
        ({"domain": np.array([0, 1])}, DataError, "domain holds 0 to 1; allowed are -1 to 0"),
        ({"methods": ["beta"]}, ValueError, r"methods \['beta'\] do not exist; allowed are identity, temperature"),
        ({"folds": 1}, ValueError, "folds is 1; at least 2"),
        ({"isotonic_min_per_class": 0}, ValueError, "isotonic_min_per_class is 0"),
    ],
)
def test_bad_input_is_named(change, error, message):
    given = {
        "logits": torch.tensor([[2.0, -1.0], [0.0, 1.0]]), "target": torch.tensor([0, 1]), "group": np.array([0, 1]),
        "domain": np.array([0, -1]), "domain_names": ("cell",), "methods": METHODS,
    } | change  # fmt: skip
    with pytest.raises(error, match=message):
        choose_calibrator(**given)


def test_folds_keep_groups_whole_and_spread_classes():
    rng = np.random.default_rng(0)
    group = rng.permutation(np.arange(600) % 24)
    target = (group < 6).astype(np.int64)  # 6 of 24 groups are of class 1
    fold = deal_folds(target, group, 3, seed=1)
    assert all(len(np.unique(fold[group == code])) == 1 for code in range(24))
    assert [len(np.unique(group[(fold == part) & (target == 1)])) for part in range(3)] == [2, 2, 2]
    assert [len(np.unique(group[fold == part])) for part in range(3)] == [8, 8, 8]
    assert not np.array_equal(fold, deal_folds(target, group, 3, seed=2))
