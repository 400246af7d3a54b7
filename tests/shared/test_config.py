import pytest

from shared.config import ROOTS, check_config, differing_keys, enabled_nodes
from shared.errors import ConfigError
from shared.instantiate import check_arguments, instantiate


def plain(**changes):
    config = {root: {} for root in ROOTS}
    config |= {
        "data": {"_target_": "projects.battery.data.datamodule.CtDataModule"},
        "optimizer": {"name": "adamw", "lr": 1e-3},
        "scheduler": {"name": "constant"},
        "audit": {"permutations": 199, "warn_above": 0.05, "fail_above": None},
        "runtime": {
            "threads": None,
            "monitor": "val/f1_macro",
            "monitor_mode": "max",
            "save_every_minutes": 5,
            "keep_top": 0,
        },
        "paths": {"outputs": "outputs", "cache": "data"},
        "stages": ["report", "fit", "test"],
        "seed": 3,
        "resume": None,
        "experiment": "late_fusion",
    }
    return config | changes


def test_a_whole_configuration_passes_and_stages_come_in_their_order():
    settings = check_config(plain())
    assert settings.stages == ("fit", "test", "report")
    assert settings.project == "battery"
    assert settings.runtime.save_every_minutes == 5


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"trianer": {}}, "unknown config key trianer; the nearest is trainer"),
        ({"audit": {"permutation": 199}}, "unknown config key audit.permutation; the nearest is audit.permutations"),
        ({"audit": {"permutations": 199, "warn_above": 0.05}}, "lacks audit.fail_above"),
        (
            {"audit": {"permutations": "x", "warn_above": 0.05, "fail_above": None}},
            "permutations is 'x'; it must be int",
        ),
        ({"audit": {"permutations": True, "warn_above": 0.1, "fail_above": None}}, "is True; it must be int"),
        ({"audit": {"permutations": 5, "warn_above": 0.1, "fail_above": None}}, "below 19"),
        ({"stages": ["fti"]}, "the nearest is stages.fit"),
        ({"stages": []}, "must be a list"),
        ({"stages": ["test", "report"]}, "stages holds test but not fit"),
        ({"audit": {"permutations": 99, "warn_above": 0.9, "fail_above": None}}, "audit.warn_above is 0.9"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": True}, "seed is True"),
        ({"experiment": "../x"}, "it names a folder"),
        ({"paths": None}, "paths must be a mapping"),
        ({"optimizer": {"lr": 1.0}}, "optimizer must be a mapping with a name"),
    ],
)
def test_wrong_keys_and_values_are_one_sentence(change, sentence):
    with pytest.raises(ConfigError, match=sentence):
        check_config(plain(**change))


def test_monitor_must_be_a_metric_key():
    config = plain()
    config["runtime"] |= {"monitor": "f1"}
    with pytest.raises(ConfigError, match="metric key 'f1'"):
        check_config(config)


def test_mandatory_values_name_their_key():
    with pytest.raises(ConfigError, match=r"data\.root"):
        check_config(plain(data={"_target_": "projects.battery.data.x", "root": "???"}))


def test_switched_off_nodes_are_left_out():
    nodes = enabled_nodes({"a": {"enabled": True, "x": 1}, "b": {"enabled": False}}, "callbacks")
    assert nodes == {"a": {"x": 1}}
    with pytest.raises(ConfigError, match=r"callbacks\.c must be a mapping with enabled"):
        enabled_nodes({"c": None}, "callbacks")


def test_differing_keys_are_named_by_their_path():
    first = {"a": {"b": 1, "c": 2}, "d": 3}
    second = {"a": {"b": 1, "c": 4}, "e": 3}
    assert differing_keys(first, second) == ["a.c", "d", "e"]


class Base:
    def __init__(self, *, inherited: int = 0) -> None: ...


class Child(Base):
    def __init__(self, own: int, **more: int) -> None:
        super().__init__(**more)


def test_arguments_of_base_classes_count_where_they_are_passed_on():
    check_arguments({"_target_": "x", "own": 1, "inherited": 2}, "data", Child, ())
    with pytest.raises(ConfigError, match=r"unknown config key data\.ownn; the nearest is data\.own"):
        check_arguments({"ownn": 1}, "data", Child, ())
    with pytest.raises(ConfigError, match=r"data\.own is set by the engine"):
        check_arguments({"own": 1}, "data", Child, ("own",))


@pytest.mark.parametrize("target", ["os.system", "builtins.eval", "subprocess.run", None, 3])
def test_targets_outside_the_allowed_packages_are_refused(target):
    with pytest.raises(ConfigError, match=r"model\._target_ .* must begin with one of projects\."):
        instantiate({"_target_": target}, "model")


def test_a_target_that_does_not_exist_is_one_sentence():
    with pytest.raises(ConfigError, match="cannot be imported"):
        instantiate({"_target_": "shared.no_such_module.Thing"}, "model")
