import re

import pytest

from shared.builders import build_by_name

BUILDERS = {"wide": lambda size, width=1: (size, width), "deep": lambda size, depth=2: (size, depth)}


def test_what_is_given_and_what_is_configured_both_arrive():
    assert build_by_name(BUILDERS, "wide", {"size": 3}, {"width": 4}) == (3, 4)


@pytest.mark.parametrize(
    ("name", "parameters", "sentence"),
    [
        ("wider", {}, "network is 'wider', allowed: deep, wide; did you mean 'wide'?"),
        ("xyz", {}, "network is 'xyz', allowed: deep, wide"),
        ("deep", {"dept": 1}, "network 'deep' has no parameter 'dept', allowed: depth; did you mean 'depth'?"),
        ("deep", {"size": 1}, "network 'deep' has no parameter 'size', allowed: depth"),
    ],
)
def test_unknown_names_and_parameters_are_refused(name, parameters, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        build_by_name(BUILDERS, name, {"size": 3}, parameters)
