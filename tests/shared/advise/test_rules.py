"""Each rule on curves by hand, then all of them on labelled logs that were not looked at when thresholds were set."""

import numpy as np
import pytest

from shared.advise.curves import Curves
from shared.advise.rules import GRAVITY, diagnose, rest
from tests.fabricate.judged_curves import NOISES, SEEDS, judged, markdown, precision, recall
from tests.fabricate.loss_curves import KINDS, losses

T = np.arange(40.0)


def curves(train, val=None, lr=None, **more):
    train = np.asarray(train, dtype=float)
    columns = {"train/loss": train, "val/loss": train if val is None else np.asarray(val, dtype=float), **more}
    if lr is not None:
        columns["lr"] = np.asarray(lr, dtype=float)
    return Curves(np.arange(1, len(train) + 1), columns)


def names(given, **more):
    return [finding.rule for finding in diagnose(given, **more)]


def test_a_run_that_falls_and_levels_off_is_left_in_peace():
    assert names(curves(1 + np.exp(-T / 6), 1.05 + np.exp(-T / 6))) == []


def test_a_val_loss_that_turns_is_overfitting_with_its_turning_point():
    (found,) = diagnose(curves(np.exp(-T / 10), np.exp(-T / 4) + 0.01 * np.clip(T - 12, 0, None)))
    assert found.rule == "overfit"
    assert abs(found.numbers["best_epoch"] - 14) <= 2
    assert found.window[1] == 40
    assert f"{found.numbers['best']:.4g}" in found.sentence


def test_a_val_loss_that_rises_while_train_stands_still_is_not_called_overfitting():
    train = np.where(T < 10, 2 - T / 10, 1.0)
    assert "overfit" not in names(curves(train, train + 0.02 * np.clip(T - 12, 0, None)))


def test_nan_is_found_with_its_first_epoch_but_a_missing_validation_is_none():
    broken = 1 + np.exp(-T / 6)
    broken[25:] = np.nan
    (found,) = diagnose(curves(broken, 1 + np.exp(-T / 6)))
    assert (found.rule, found.numbers["first_epoch"], found.window) == ("nan", 26, (26, 40))
    every_fifth = np.where(T % 5 == 4, 1 + np.exp(-T / 6), np.nan)
    assert names(curves(1 + np.exp(-T / 6), every_fifth)) == []
    (found,) = diagnose(curves(1 + np.exp(-T / 6), broken))
    assert "val loss is not finite from epoch 26" in found.sentence


def test_nothing_learned_slowly_learned_and_not_finished_are_told_apart():
    rng = np.random.default_rng(3)
    assert names(curves(1.1 + 0.002 * rng.normal(size=40))) == ["dead"]
    assert names(curves(1.1 - 0.002 * T + 0.0005 * rng.normal(size=40))) == ["lr_too_low"]
    assert names(curves(0.2 + np.exp(-T / 25) + 0.002 * rng.normal(size=40))) == ["underfit"]


def test_a_slow_fall_under_a_decaying_rate_is_still_a_straight_one():
    lr = 0.5 * (1 + np.cos(np.pi * np.arange(1, 41) / 41))
    fall = 1.1 - 0.004 * np.cumsum(lr)
    assert names(curves(fall, lr=lr)) == ["lr_too_low"]


def test_an_unfinished_run_is_not_told_to_take_more_epochs():
    falling = curves(0.2 + np.exp(-T / 25))
    assert names(falling, complete=True) == ["underfit"]
    assert names(falling, complete=False) == []


def test_shaking_and_giving_back_come_from_a_high_rate():
    rng = np.random.default_rng(4)
    assert names(curves(1 + np.exp(-T / 3) + 0.3 * rng.normal(size=40))) == ["lr_too_high"]
    assert names(curves(np.where(T < 15, 2 - T / 10, 3.0))) == ["diverged"]


def test_jumps_by_factors_are_found_behind_an_absurd_first_epoch():
    rng = np.random.default_rng(5)
    train = np.exp(np.log(3) + 0.3 * rng.normal(size=14))
    train[0] = 2848.0
    val = np.exp(np.log(3) + 1.2 * rng.normal(size=14))
    assert names(curves(train, val)) == ["lr_too_high"]


def test_a_blown_first_epoch_before_a_standstill_is_no_progress():
    blown = np.concatenate([[424.0, 27.0], np.ones(38)])
    (found,) = diagnose(curves(blown))
    assert (found.rule, "thrown out by its first steps" in found.sentence) == ("lr_too_high", True)


def test_restarts_of_the_schedule_are_no_divergence():
    saw = 1 + np.exp(-T / 8) + 0.1 * (1 - (T % 10) / 10)
    assert not {"diverged", "lr_too_high", "overfit"} & set(names(curves(saw)))


def test_a_standstill_says_whether_the_network_memorises():
    flat = 1 + np.exp(-T / 1.5)
    (both,) = diagnose(curves(flat))
    assert (both.rule, "so did the train loss" in both.sentence) == ("plateau", True)
    (memorises,) = diagnose(curves(flat - 0.012 * T, flat))
    assert (memorises.rule, "does not carry over" in memorises.sentence) == ("plateau", True)


def test_a_part_that_learned_nothing_is_named():
    part = {"val/group/head/loss": np.full(40, 0.7), "val/group/stem/loss": np.exp(-T / 5)}
    (found,) = diagnose(curves(1 + np.exp(-T / 6), **part))
    assert (found.rule, "val/group/head/loss" in found.sentence) == ("dead_part", True)


def test_a_log_with_one_of_the_losses_is_judged_by_it():
    only = Curves(np.arange(1, 41), {"val/loss": 1.1 - 0.002 * T})
    assert [finding.rule for finding in diagnose(only)] == ["lr_too_low"]


def test_too_few_epochs_say_nothing():
    assert names(curves([3.0, 2.0, 9.0, 1.0, 9.0])) == []


def test_what_a_healthy_run_did_at_its_end_is_said_modestly():
    assert "no clear trend" in rest(curves(np.where(T < 15, 2 - T / 10, 0.5)))
    assert rest(curves(1 + np.exp(-T / 20))).startswith("train and val loss were still falling")
    alternating = 1 + 0.1 * (-1.0) ** T
    assert "its scatter does not tell" in rest(curves(1 + np.exp(-T / 20), alternating))


def test_no_verdict_depends_on_the_unit_of_the_loss():
    for kind in KINDS:
        train, val, lr = losses(kind, 7, 0.03)
        small, large = (names(curves(train * factor, val * factor, lr)) for factor in (1e-3, 1e3))
        assert small == large


def test_every_finding_has_its_place_in_the_order_and_a_receipt():
    for kind in KINDS:
        for seed in range(20):
            for found in diagnose(curves(*losses(kind, seed, 0.03))):
                assert found.rule in GRAVITY
                assert found.numbers
                assert found.window is not None
                assert 1 <= found.window[0] <= found.window[1]


@pytest.fixture(scope="module")
def tables():
    return {noise: judged(noise) for noise in NOISES}


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_found_at_low_noise(tables, kind):
    assert recall(tables[0.01], kind) >= 0.9
    assert precision(tables[0.01], kind) >= 0.9


@pytest.mark.parametrize("noise", NOISES)
def test_healthy_runs_are_left_in_peace_at_every_noise(tables, noise):
    alarms = {rule: n for (kind, rule), n in tables[noise].items() if kind == "healthy" and rule != "healthy"}
    assert sum(alarms.values()) <= 0.05 * len(SEEDS), alarms


@pytest.mark.parametrize("noise", NOISES)
def test_grave_faults_are_found_at_every_noise(tables, noise):
    for kind in ("nan", "dead", "lr_too_high"):
        assert recall(tables[noise], kind) >= 0.9


def test_the_table_in_the_docs_is_the_measured_one(tables, repo_root):
    assert markdown(tables) in (repo_root / "docs" / "advise.md").read_text(encoding="utf-8")
