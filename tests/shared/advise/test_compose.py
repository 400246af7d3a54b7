"""A suggestion's overrides make the run again, with the change and with nothing else."""

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf

from shared.advise.compose import ready, written
from shared.advise.records import read_run
from shared.config import differing_keys, to_plain
from shared.errors import ConfigError
from tests.fabricate.battery_run import composed
from tests.fabricate.past_run import past_run

FALL = 1 + np.exp(-np.arange(12) / 3)


@pytest.fixture
def folder(tmp_path):
    typed = ("+experiment=late_fusion", "optimizer.lr=0.01", "callbacks.ema.enabled=false", "resume=auto")
    return past_run(tmp_path, "a", FALL, FALL, *typed)


def made(command):
    return to_plain(composed(command.project, *command.overrides))


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        (["optimizer.lr=0.003"], {"optimizer.lr"}),
        (["optimizer.lr=0.003", "data.batch_size=64"], {"optimizer.lr", "data.batch_size"}),
        (["data.augmentation.flip_probability=0"], {"data.augmentation.flip_probability"}),
    ],
)
def test_only_the_change_differs_from_the_run(folder, changes, differing):
    record = read_run(folder)
    command = ready(record, changes)
    keys = set(differing_keys(record.config, made(command))) - {"resume"}
    assert keys == differing
    assert not any(text.startswith("resume") for text in command.overrides)
    assert sum(text.startswith("optimizer.lr=") for text in command.overrides) == 1
    assert command.notes == ()


def test_a_group_takes_the_place_of_the_runs_own(folder):
    command = ready(read_run(folder), ["scheduler=warmup_cosine"])
    assert made(command)["scheduler"]["name"] == "warmup_cosine"


def test_what_the_overrides_do_not_explain_is_pinned_and_said(folder):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["optimizer"]["weight_decay"] = 0.5
    config["data"]["meta_columns"] = ["axis"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command = ready(read_run(folder), ["optimizer.lr=0.003"])
    assert made(command)["optimizer"]["weight_decay"] == 0.5
    assert made(command)["data"]["meta_columns"] == ["axis"]
    assert "its overrides alone give another value: data.meta_columns, optimizer.weight_decay" in command.notes[0]


def test_keys_that_are_new_since_the_run_are_left_at_their_default_and_said(folder):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    del config["callbacks"]["sweet_spot"]["every_n_epochs"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (note,) = ready(read_run(folder), ["optimizer.lr=0.003"]).notes
    assert "taken as it is now: callbacks.sweet_spot.every_n_epochs" in note


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("optimizer.learning_rate=1", r"has no config key optimizer\.learning_rate"),
        ("optimizer.lr=-1", r"optimizer\.lr is -1"),
        ("data.batch_size=0", r"data\.batch_size is 0"),
        ("runtime.monitor_mode=up", "runtime.monitor_mode is 'up'"),
        ("trainer.max_epochs=[", "does not compose"),
        ("model=no_such_network", "does not compose"),
        ("data.sampler=nonsense", "sampler"),
    ],
)
def test_a_change_that_a_start_would_refuse_is_refused(folder, change, sentence):
    with pytest.raises(ConfigError, match=sentence):
        ready(read_run(folder), [change])


def test_a_run_without_configuration_cannot_be_changed(folder):
    (folder / "config.yaml").unlink()
    with pytest.raises(ConfigError, match="no readable configuration"):
        ready(read_run(folder), ["optimizer.lr=1"])


VALUES = [0.1, 1e-7, 3, None, True, "plain", "it's $x, {a}: [b]\\", [1, "a b", None], {"a": [0.5]}]


@pytest.mark.parametrize("value", VALUES)
def test_a_written_value_comes_back_through_hydra(value):
    config = composed("battery", f"++data.root={written(value)}")
    back = config.data.root
    assert (OmegaConf.to_container(back) if OmegaConf.is_config(back) else back) == value
