import numpy as np
import pytest

from projects.battery.data.labels import CLASSES
from projects.battery.standin.config import StandinConfig
from projects.battery.standin.plan import apportion, class_counts, plan_batteries
from shared.errors import ConfigError


@pytest.fixture(scope="module")
def plans():
    return plan_batteries(StandinConfig())


def test_apportion_adds_up_and_gives_the_rest_to_the_largest_remainders():
    assert apportion((1, 1, 1), 10) == [4, 3, 3]
    assert apportion((0.5, 0.3, 0.2), 7) == [4, 2, 1]  # exact 3.5, 2.1, 1.4: the one left over goes to 0.5
    assert sum(apportion((39343, 12755, 39572, 45165, 1481), 4000)) == 4000


def test_class_counts_follow_the_reference_shares(plans):
    shares = dict(zip(CLASSES, (39343, 12755, 39572, 45165, 1481), strict=True))
    expected = {name: 4000 * share / sum(shares.values()) for name, share in shares.items()}
    counts = class_counts(plans)
    assert counts.keys() == expected.keys()
    assert all(abs(counts[name] - expected[name]) < 1 for name in counts)


def test_every_battery_once_and_a_third_of_the_slices_on_each_axis(plans):
    assert [plan.battery_id for plan in plans] == list(range(1, 321))
    assert sum(any(plan.overflow.values()) for plan in plans) == 32
    for axis in "xyz":
        assert abs(sum(plan.slices[axis] for plan in plans) - 4000 / 3) <= 2


def rate(plans, axes, **where):
    chosen = [plan for plan in plans if all(getattr(plan, key) == value for key, value in where.items())]
    porous = sum(plan.porous[axis] for plan in chosen for axis in axes)
    return porous / sum(plan.slices[axis] for plan in chosen for axis in axes)


@pytest.mark.parametrize("kind", ["cell", "module"])
def test_y_and_z_have_one_rate_and_the_form_says_nothing(plans, kind):
    assert rate(plans, "y", kind=kind) == pytest.approx(rate(plans, "z", kind=kind), abs=0.01)
    forms = [rate(plans, "yz", kind=kind, form=form) for form in ("pouch", "cylindrical", "prismatic")]
    assert max(forms) - min(forms) < 0.06
    assert rate(plans, "x", kind=kind) < 0.002


def test_rates_are_a_property_of_the_battery(plans):
    # Were slices drawn one by one, hardly a battery would be all clean or all porous.
    values = np.array([rate([plan], "yz") for plan in plans if not any(plan.overflow.values())])
    assert ((values == 0) | (values > 0.85)).mean() > 0.6
    one_axis = [plan for plan in plans if (plan.porous["y"] == 0) != (plan.porous["z"] == 0)]
    assert len(one_axis) > 5


def test_x_slices_are_porous_as_often_as_the_configuration_says():
    many = plan_batteries(StandinConfig(num_slices=60_000, x_normal_share=0.99))
    assert sum(plan.porous["x"] for plan in many) / sum(plan.slices["x"] for plan in many) == pytest.approx(
        0.01, abs=2e-4
    )


def test_small_sets_keep_the_number_of_slices():
    for batteries, slices in ((1, 7), (2, 5), (3, 40), (12, 96)):
        plans = plan_batteries(StandinConfig(num_batteries=batteries, num_slices=slices))
        assert sum(plan.num_slices for plan in plans) == slices


def test_plan_is_not_drawn_from_the_stream_of_a_plain_seed():
    # default_rng([0, 0]) is default_rng(0): a split drawn with it would sort the batteries as the plan did.
    split = np.random.default_rng(0).permutation(np.arange(1, 321))[:120]
    kinds = {plan.battery_id: plan.kind for plan in plan_batteries(StandinConfig())}
    assert 0.2 < np.mean([kinds[int(i)] == "cell" for i in split]) < 0.6


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_batteries", 0), ("size_px", 8), ("void_contrast", 1.5), ("class_shares", (1, 1)), ("num_slices", 10**9)],
)
def test_a_bad_value_is_named(key, value):
    with pytest.raises(ConfigError, match=key):
        StandinConfig(**{key: value})
