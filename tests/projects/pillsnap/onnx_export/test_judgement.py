import pytest
from scipy.stats import binomtest

from projects.pillsnap.onnx_export.judgement import TOLERANCES, agreement_lower_bound, reasons_against

GOOD = {
    "images": 100, "max_abs_probability": 1e-4, "top1_agreement": 1.0, "none_of_these_agreement": 1.0,
    "accuracy_loss": 0.0,
}  # fmt: skip
EXACT = {"max_grey_levels": 0, "tolerance": 1}


@pytest.mark.parametrize(("agreeing", "images"), [(100, 100), (99, 100), (0, 7), (1, 7), (495, 500)])
def test_the_bound_is_that_of_clopper_and_pearson(agreeing, images):
    expected = binomtest(agreeing, images).proportion_ci(0.95, method="exact").low
    assert agreement_lower_bound(agreeing / images, images) == pytest.approx(expected, abs=1e-12)


def test_the_bound_by_hand():
    assert agreement_lower_bound(1.0, 25) == pytest.approx(0.025 ** (1 / 25))


@pytest.mark.parametrize(("agreement", "images"), [(1.0, 0), (1.2, 10), (float("nan"), 10)])
def test_no_bound_without_photos(agreement, images):
    with pytest.raises(ValueError, match=r"a share in \[0, 1\] of 1 or more is needed"):
        agreement_lower_bound(agreement, images)


@pytest.mark.parametrize("variant", list(TOLERANCES))
def test_nothing_speaks_against_what_keeps_to_all(variant):
    assert reasons_against(variant, GOOD, EXACT) == []


@pytest.mark.parametrize("variant", list(TOLERANCES))
@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("max_abs_probability", 1.5, "a probability differs by 1.5, allowed: "),
        ("max_abs_probability", float("nan"), "a probability differs by nan, allowed: "),
        ("top1_agreement", 0.98, "the most probable class agrees on 98.00 %, 99 % are needed"),
        ("none_of_these_agreement", 0.98, "the decision 'none of these' agrees on 98.00 %, 99 % are needed"),
        ("accuracy_loss", 0.01, "1.00 points of accuracy are lost, allowed: 0.5"),
    ],
)
def test_each_number_can_speak_against_each_variant(variant, key, value, reason):
    (found,) = reasons_against(variant, GOOD | {key: value}, EXACT)
    assert found.startswith(reason)


def test_another_preprocessing_speaks_against():
    assert reasons_against("fp32", GOOD, {"max_grey_levels": 2, "tolerance": 1}) == [
        "the preprocessing differs by 2 grey levels, allowed: 1"
    ]


def test_only_float32_is_certified_on_few_photos():
    few = GOOD | {"images": 25}
    assert reasons_against("fp32", few, EXACT) == []
    for variant in ("fp16", "int8"):
        assert reasons_against(variant, few, EXACT) == ["too few photos to certify: 25, 100 are needed"]
        assert reasons_against(variant, GOOD | {"images": 99}, EXACT)
