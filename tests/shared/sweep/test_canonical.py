import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from shared.sweep.canonical import ValueIndex, canonical_value, point_id, same_number, same_values

NUMBERS = st.one_of(
    st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False), st.floats(1e-6, 1e-2)
)


@pytest.mark.parametrize("text", ["1e-4", "0.0001", "1E-4", "+1e-04", "10_0e-6", ".0001", "1.0e-4"])
def test_a_number_written_in_any_way_is_one_number(text):
    assert canonical_value(text) == canonical_value(1e-4) == 0.0001
    assert point_id({"lr": text}, 0) == point_id({"lr": 1e-4}, 0)


@pytest.mark.parametrize(
    "text", ["007", "1e", "e5", "--1", "1__0", "0x1", "1 ", "", "adam", "nan", "inf", "-Inf", "true", "."]
)
def test_other_text_stays_text(text):
    assert canonical_value(text) == text


@given(st.from_regex(r"[+-]?[0-9._eE]{1,6}[+-]?[0-9_]{0,2}", fullmatch=True))
def test_text_is_a_number_where_hydra_reads_one(text):
    try:
        read = OverridesParser.create().parse_override(f"x={text}").value()
    except Exception:
        return  # no override can be written so
    is_number = isinstance(read, int | float) and math.isfinite(read)
    assert isinstance(canonical_value(text), int | float) == is_number
    if is_number:
        assert canonical_value(text) == canonical_value(read)


def test_truth_values_null_containers_and_library_types():
    value = {
        "b": (True, None, 5.0),
        "a": {"x": np.float64(0.5), "n": np.int64(3)},
        "p": Path("a/b"),
        "y": np.bool_(True),
    }
    assert canonical_value(value) == {"a": {"n": 3, "x": 0.5}, "b": [True, None, 5], "p": "a/b", "y": True}
    assert canonical_value(OmegaConf.create({"a": [1, {"b": "2.0"}]})) == {"a": [1, {"b": 2}]}
    assert canonical_value(Fraction(1, 4)) == 0.25
    assert json.dumps(canonical_value(value))


def test_the_last_bit_of_a_logarithm_makes_no_new_point():
    rates = np.logspace(-5, math.log10(5e-4), 5)
    others = [1e-5 * 50 ** (k / 4) for k in range(5)]
    assert [point_id({"lr": rate}, 0) for rate in rates] == [point_id({"lr": rate}, 0) for rate in others]


def test_generation_and_value_make_another_id_and_order_does_not():
    ids = {point_id({"a": 1, "b": 2}, 0), point_id({"a": 1, "b": 2}, 1), point_id({"a": 2, "b": 1}, 0), point_id({}, 0)}
    assert len(ids) == 4
    assert point_id({"a": 1, "b": 2}, 0) == point_id({"b": 2.0, "a": "1"}, 0)
    assert all(len(id) == 12 and int(id, 16) >= 0 for id in ids)
    assert point_id({"a": True}, 0) != point_id({"a": 1}, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("nan"), [1, {"a": -math.inf}]])
def test_a_number_that_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match=r"a swept number must be finite, found (nan|-?inf)"):
        canonical_value(value)


@pytest.mark.parametrize("value", [b"a", {1, 2}, object(), np.zeros(3), 1j])
def test_what_has_no_plain_form_is_refused(value):
    with pytest.raises(ValueError, match="cannot be swept; allowed are truth values, null, finite numbers, text"):
        canonical_value(value)
    with pytest.raises(ValueError, match="generation must be at least 0, found -1"):
        point_id({}, -1)


@given(NUMBERS)
def test_canonical_is_idempotent_and_survives_text_and_json(number):
    once = canonical_value(number)
    assert canonical_value(once) == once
    assert canonical_value(json.loads(json.dumps(once))) == once
    assert canonical_value(repr(number)) == once
    assert same_number(number, once)


def test_tolerance_is_in_log_space_at_every_size():
    for scale in (1e-300, 1e-12, 3e-5, 0.7, 1e200):
        assert same_number(scale, scale * (1 + 9e-7))
        assert not same_number(scale, scale * (1 + 1.1e-6))
        assert same_number(-scale, -scale * (1 + 9e-7))
        assert not same_number(-scale, scale)
        assert not same_number(0, scale)
    assert same_number(1.0, 1.05, rel=0.1)
    assert same_number(0, 0.0)


def test_seeds_are_compared_exactly():
    assert not same_number(1_234_567, 1_234_568)
    assert not same_values({"seed": 2**53}, {"seed": 2**53 + 1})


def test_same_values_goes_into_containers_and_minds_types():
    assert same_values({"a": [1e-4, "x"]}, {"a": ["0.0001", "x"]})
    assert not same_values({"a": [1, 2]}, {"a": [1, 2, 3]})
    assert not same_values({"a": 1}, {"b": 1})
    assert not same_values({"a": True}, {"a": 1})
    assert not same_values({"a": None}, {"a": 0})
    assert not same_values({"a": "x"}, {"a": 1})


@given(st.lists(st.tuples(NUMBERS, st.floats(-2.5e-6, 2.5e-6)), min_size=1, max_size=8), st.sampled_from(["a", "b"]))
def test_the_index_answers_like_a_comparison_with_each(pairs, name):
    known = [{"x": number, "n": [name, number]} for number, _ in pairs]
    index = ValueIndex()
    for values in known:
        index.add(values)
    for number, off in pairs:
        moved = {"x": float(number) * (1 + off), "n": ["a", number]}
        if math.isfinite(moved["x"]) and abs(number) < 1e5:
            assert (moved in index) == any(same_values(moved, values) for values in known)
    assert all(values in index for values in known)
