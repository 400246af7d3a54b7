import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import ConfigError
from shared.metric_keys import STAGES, MetricKey, group_loss_key, metric_key, parse

NAMES = st.from_regex(r"[a-z][a-z0-9_.-]{0,12}", fullmatch=True)


def test_the_three_forms() -> None:
    assert metric_key("val", "loss") == "val/loss"
    assert metric_key("test", "f1_macro", task="emotion") == "test/emotion/f1_macro"
    assert group_loss_key("backbone") == "val/group/backbone/loss"
    assert parse("val/group/backbone/loss") == MetricKey("val", "loss", group="backbone")
    assert parse("calibrate/ece") == MetricKey("calibrate", "ece")
    assert parse("train/valence/mae") == MetricKey("train", "mae", task="valence")


@settings(deadline=None, derandomize=True)
@given(stage=st.sampled_from(STAGES), metric=NAMES, task=st.none() | NAMES.filter(lambda name: name != "group"))
def test_parse_undoes_metric_key(stage: str, metric: str, task: str | None) -> None:
    key = metric_key(stage, metric, task)
    assert parse(key) == MetricKey(stage, metric, task)
    assert str(parse(key)) == key


def test_a_group_key_survives_the_round_trip() -> None:
    assert str(parse("val/group/heads/loss")) == "val/group/heads/loss"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "loss",
        "val_loss",
        "/loss",
        "val/",
        "val//loss",
        "valid/loss",
        "Val/loss",
        "val/f1 macro",
        "val/loss\n",
        "val/group/loss",
        "val/group/backbone/ece",
        "train/group/backbone/loss",
        "val/group//loss",
        "val/a/b/c",
        "val/loss/dataloader_idx_0",
    ],
)
def test_other_forms_are_refused(key: str) -> None:
    with pytest.raises(ConfigError, match="allowed: <stage>/<metric>") as caught:
        parse(key)
    assert repr(key) in str(caught.value)


def test_building_a_wrong_key_says_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="stage is 'fit', allowed: train, val, test, calibrate"):
        metric_key("fit", "loss")
    with pytest.raises(ValueError, match="reserved"):
        metric_key("val", "loss", task="group")
    with pytest.raises(ValueError, match="name 'a/b' holds"):
        metric_key("val", "a/b")
    with pytest.raises(ValueError, match="add_dataloader_idx=False"):
        metric_key("val", "dataloader_idx_1", task="loss")
