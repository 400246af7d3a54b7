"""The learning rate that a sweep has found, found by folder or as the latest, or refused in one sentence."""

import json
import os

import pytest

from shared.errors import ConfigError
from shared.learning_rate import difference_from_sweep, rate_from_sweep, without_origin

PLAIN = {"name": "adamw", "lr": 1e-3, "weight_decay": 0.1}


def sweep(folder, content):
    folder.mkdir(parents=True)
    (folder / "optimal_lr.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_without_a_sweep_the_number_stays(tmp_path):
    assert rate_from_sweep(PLAIN, tmp_path) == PLAIN
    assert rate_from_sweep(PLAIN | {"lr_from": None}, tmp_path)["lr"] == 1e-3


def test_a_sweeps_folder_gives_its_rate(tmp_path):
    folder = sweep(tmp_path / "a", {"lr": 5e-5})
    found = rate_from_sweep(PLAIN | {"lr_from": str(folder)}, tmp_path)
    assert found == PLAIN | {"lr": 5e-5, "lr_from": str(folder)}
    assert without_origin(found) == PLAIN | {"lr": 5e-5}


def test_latest_is_the_sweep_that_ended_last(tmp_path):
    for age, (name, rate) in enumerate((("a", 1e-4), ("b", 2e-4), ("c", 3e-4))):
        folder = sweep(tmp_path / name, {"lr": rate})
        os.utime(folder / "optimal_lr.json", (1000 - age, 1000 - age))
    found = rate_from_sweep(PLAIN | {"lr_from": "latest"}, tmp_path)
    assert (found["lr"], found["lr_from"]) == (1e-4, str(tmp_path / "a"))


def test_latest_is_named_for_good_so_that_a_resumed_run_does_not_follow_a_newer_sweep(tmp_path):
    sweep(tmp_path / "a", {"lr": 1e-4})
    first = rate_from_sweep(PLAIN | {"lr_from": "latest"}, tmp_path)
    sweep(tmp_path / "b", {"lr": 9e-4})
    assert rate_from_sweep(first, tmp_path)["lr"] == 1e-4


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", r"optimal_lr.json cannot be read"),
        ({}, r"has the lr None; a number above 0 is needed"),
        ({"lr": 0}, r"has the lr 0; a number above 0 is needed"),
        ({"lr": True}, r"has the lr True"),
        ({"lr": float("inf")}, r"has the lr inf"),
        ([1], r"has the lr None"),
    ],
)
def test_a_sweep_without_a_rate_is_refused(tmp_path, content, sentence):
    folder = sweep(tmp_path / "a", content)
    with pytest.raises(ConfigError, match=sentence):
        rate_from_sweep(PLAIN | {"lr_from": str(folder)}, tmp_path)


def test_a_sweep_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"lr_from is 'nowhere', but there is no nowhere/optimal_lr\.json"):
        rate_from_sweep(PLAIN | {"lr_from": "nowhere"}, tmp_path)
    with pytest.raises(ConfigError, match=r"lr_from is 'latest', but no sweep below .* has found a rate"):
        rate_from_sweep(PLAIN | {"lr_from": "latest"}, tmp_path)


def test_a_rate_that_was_found_for_another_model_or_other_data_is_told_apart_from_a_subset(tmp_path):
    folder = sweep(tmp_path / "a", {"lr": 1e-4})
    config = {"model": {"width": 8, "init_from": "x"}, "data": {"root": "r", "num_stories": 100}}
    plain = {"model": {"width": 8, "init_from": "y"}, "data": {"root": "r", "num_stories": 900}}
    plain |= {"optimizer": PLAIN | {"lr_from": str(folder)}}
    assert difference_from_sweep(plain) is None, "nothing is known of it"
    facts = {"config": config, "settings": {"subset_key": "data.num_stories"}}
    (folder / "sweep.json").write_text(json.dumps(facts))
    assert difference_from_sweep(plain) is None
    assert difference_from_sweep(plain | {"optimizer": PLAIN}) is None
    other = plain | {"model": {"width": 9, "init_from": None}, "data": {"root": "q", "num_stories": 100}}
    assert difference_from_sweep(other) == (
        f"optimizer.lr_from: the sweep {folder} found its rate for another configuration; "
        "it differs in data.root, model.init_from, model.width"
    )
    (folder / "sweep.json").write_text("{}")
    assert difference_from_sweep(other) is None
