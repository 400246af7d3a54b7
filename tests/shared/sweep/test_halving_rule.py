import pytest

from shared.errors import ConfigError
from shared.sweep.halving_rule import HalvingRule


def test_rungs_stand_at_powers_of_eta():
    assert [epochs for epochs in range(1, 100) if HalvingRule(1, 3).is_rung(epochs)] == [1, 3, 9, 27, 81]
    assert [epochs for epochs in range(1, 40) if HalvingRule(5, 2).is_rung(epochs)] == [5, 10, 20]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (3, r"halving is 3; allowed are null and \{first_epoch: 1, eta: 3\}"),
        ({"eta": 3}, "halving lacks first_epoch; a whole number from 1 on is needed"),
        ({"first_epoch": 1, "eta": 3, "last": 2}, "unknown config key hydra.sweeper.halving.last"),
        ({"first_epoch": 1, "eta": 1}, "hydra.sweeper.halving.eta is 1; a whole number from 2 on is needed"),
        ({"first_epoch": True, "eta": 2}, "hydra.sweeper.halving.first_epoch is True; a whole number from 1 on"),
    ],
)
def test_a_wrong_rule_is_refused_naming_its_key(given, sentence):
    with pytest.raises(ConfigError, match=sentence):
        HalvingRule.of({"halving": given})


def test_a_rule_is_null_or_two_numbers():
    assert HalvingRule.of({"halving": None}) is None
    assert HalvingRule.of({"halving": {"first_epoch": 2, "eta": 4}}) == HalvingRule(2, 4)
