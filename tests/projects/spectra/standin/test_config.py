import json

import pytest

from projects.spectra.standin import StandinConfig
from projects.spectra.standin.config import WAVELENGTHS_NM
from shared.errors import ConfigError


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_samples", 0), ("side_px", 100), ("side_px", 0), ("sigma_px", 0.1), ("sigma_px", 33.0),
        ("thickness_um", 0.0), ("distance_um", float("nan")), ("pitch_um", -1.0), ("index_a", 0.9),
        ("index_b_um2", -0.1), ("padding_share", 1.0), ("num_files", 0), ("num_files", 1001), ("seed", -1),
    ],
)  # fmt: skip
def test_values_without_meaning_are_named(key, value):
    with pytest.raises(ConfigError, match=rf"standin\.{key} is .*; allowed: "):
        StandinConfig(**{key: value})


def test_dictionary_makes_the_same_configuration_again():
    config = StandinConfig(num_samples=7, seed=3)
    assert StandinConfig(**json.loads(json.dumps(config.as_dict()))) == config


def test_wavelengths_are_those_of_the_file_format():
    assert WAVELENGTHS_NM.shape == (301,)
    assert (WAVELENGTHS_NM[0], WAVELENGTHS_NM[1], WAVELENGTHS_NM[-1]) == (400, 401, 700)
