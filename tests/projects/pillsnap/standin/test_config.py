import pytest

from projects.pillsnap.standin.config import StandinConfig, photo_name, sitting_number, stream
from shared.errors import ConfigError


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("num_classes", 0, "1 to 1000"),
        ("num_unknown_classes", -1, "0 to 1000"),
        ("size_px", 47, "48 to 1024"),
        ("studio_sittings", 100, "0 to 99"),
        ("studio_per_sitting", 0, "1 to 99"),
        ("real_sittings", -1, "0 to 99"),
        ("real_per_sitting", 100, "1 to 99"),
        ("look_alike_share", 1.01, "0 to 1"),
        ("seed", -1, "0 or more"),
    ],
)
def test_values_out_of_range_are_named(key, value, allowed):
    with pytest.raises(ConfigError, match=rf"^standin\.{key} is {value}; allowed: {allowed}\.$"):
        StandinConfig(**{key: value})


def test_defaults_hold_at_least_twenty_pairs_and_enough_real_photos():
    config = StandinConfig()
    assert config.num_pairs >= 20
    studio = config.studio_sittings * config.studio_per_sitting
    real = config.real_sittings * config.real_per_sitting
    assert studio + real >= 50  # what the chain asks for
    assert studio / (studio + real) >= 0.3  # studio:real of 3:7 can be reached
    assert StandinConfig(**config.as_dict()) == config


def test_sittings_are_named_by_domain():
    config = StandinConfig(studio_sittings=2, real_sittings=3, studio_per_sitting=4, real_per_sitting=5)
    assert config.sittings("studio") == ("s00", "s01")
    assert config.sittings("real") == config.sittings("others") == ("r00", "r01", "r02")
    assert (config.per_sitting("studio"), config.per_sitting("real"), config.per_sitting("others")) == (4, 5, 5)
    assert photo_name("r07", 2) == "r07_02.jpg"
    assert sitting_number("others", "r07") == 7


def test_wrong_domains_and_sittings_are_named():
    with pytest.raises(ValueError, match=r"domain is 'field'; allowed: studio, real, others"):
        sitting_number("field", "r00")
    for sitting in ("s01", "r1", "r001", "01"):
        with pytest.raises(ValueError, match=rf"sitting is '{sitting}'; allowed for real: r00 to r99"):
            sitting_number("real", sitting)


def test_streams_differ_by_purpose_and_ids_and_repeat():
    draws = [
        stream(*key).random() for key in (("shot", 0, 1, 2), ("noise", 0, 1, 2), ("shot", 1, 1, 2), ("shot", 0, 2, 1))
    ]
    assert len(set(draws)) == 4
    assert stream("shot", 0, 1, 2).random() == draws[0]
