import math
import re

import numpy as np
import pytest

from shared.sweet_spots.analyses import ANALYSES, WINDOWS, Series, Vote, local_spread, noise, smooth, vote

NAN = math.nan


def series(loss, num_epochs=None, epochs=None, **more):
    loss = np.array(loss, dtype=np.float64)
    epochs = np.arange(len(loss)) if epochs is None else np.array(epochs)
    more = {key: np.array(values, dtype=np.float64) for key, values in more.items()}
    return Series(epochs, num_epochs or int(epochs[-1]) + 1, loss, **more)


def test_overfit_by_hand():
    loss, train = [0.9, 0.5, 0.5, 0.8], [1.0, 0.5, 0.2, 0.1]
    spread = [0.2, np.std([0.9, 0.5, 0.5]), np.std([0.5, 0.5, 0.8]), 0.15]
    expected = [0.9 + 0.02, 0.5 + 0.1 * spread[1], 0.5 + 0.06 + 0.1 * spread[2], 0.8 + 0.14 + 0.015]
    found = vote("overfit", series(loss, train_loss=train))
    assert found.epoch == 1
    assert found.score == pytest.approx(expected[1])
    assert "lowest (0.5189) at epoch 1 of epochs 0 to 3" in found.reason
    only_gap = vote("overfit", series(loss, train_loss=train), overfit_weight=1.0, stability_weight=0.0)
    assert (only_gap.epoch, only_gap.score) == (1, pytest.approx(0.5))
    steady = vote("overfit", series([0.5, 0.9, 0.52, 0.5], train_loss=[1, 1, 1, 1]), stability_weight=3.0)
    assert steady.epoch == 3


def test_balance_by_hand_in_its_window():
    loss, accuracy = np.full(60, 1.0), np.full(60, 0.5)
    accuracy[[5, 30, 50]] = [1.0, 0.9, 1.0]  # the best two lie outside epochs 20 to 44 (from 1)
    found = vote("balance", series(loss, accuracy=accuracy))
    assert (found.epoch, found.score) == (30, pytest.approx(1.0 - 0.45))
    assert "epochs 19 to 43" in found.reason
    accuracy[[19, 43]] = 0.95
    assert vote("balance", series(loss, accuracy=accuracy)).epoch == 19
    accuracy[[18, 19]] = 1.0, 0.5
    assert vote("balance", series(loss, accuracy=accuracy)).epoch == 43


def test_stable_by_hand():
    loss = [9, 9, 9, 9, 9, 9, 0.5, 0.7, 0.6, 0.55, 0.6, 0.2]
    found = vote("stable", series(loss), window=(0.5, 1.0))
    assert found.epoch == 10
    assert found.score == pytest.approx(np.var([0.6, 0.55, 0.6]))
    # The three equal ones at the beginning lie before the window, and so does the beginning of the first triple.
    assert vote("stable", series(loss), window=(0.0, 1.0)).epoch == 2


def test_own_loss_by_hand():
    own = np.linspace(1.0, 0.0, 60)
    assert vote("own_loss", series(np.ones(60), own_loss=own)).epoch == 59
    window = (25 / 60, 53 / 60)
    assert vote("own_loss", series(np.ones(60), own_loss=own), window=window).epoch == 52  # of 25 to 53 (from 1)
    assert vote("own_loss", series(np.ones(60), own_loss=own), window=(0.5, 0.6)).epoch == 35


def test_plateau_by_hand():
    loss = np.array([8.0, 6.0, 4.0, 2.0, 2.0, 2.0, 2.0, 4.0, 6.0])
    found = vote("plateau", series(loss))
    sigma = math.sqrt(np.mean([0, 0, 4, 0, 0, 4, 0]) / 6.0)
    smoothed = [6.5, 17 / 3, 4.0, 8 / 3, 2.0, 2.0, 8 / 3, 11 / 3, 4.5]  # medians 7 6 4 2 2 2 2 4 5
    np.testing.assert_allclose(smooth(loss), smoothed)
    assert noise(loss) == pytest.approx(sigma)
    assert 2.0 + sigma / math.sqrt(3) < 8 / 3
    assert (found.epoch, found.score, found.span) == (4, pytest.approx(2.0), (4, 5))


def test_plateau_ignores_one_lucky_epoch():
    rng = np.random.default_rng(3)
    loss = 1.0 + 0.002 * np.abs(np.arange(30) - 18) + rng.normal(0, 0.002, 30)
    loss[4] = 0.5
    assert int(np.argmin(loss)) == 4
    assert smooth(loss)[4] == pytest.approx(smooth(np.delete(loss, 4))[3], abs=0.01)  # the median has removed it
    assert vote("plateau", series(loss), window=(0.3, 1.0)).epoch in range(14, 20)


def test_noise_is_unbiased_under_a_trend():
    rng = np.random.default_rng(0)
    values = 5.0 - 0.3 * np.arange(20_000) + rng.normal(0, 0.7, 20_000)
    assert noise(values) == pytest.approx(0.7, rel=0.02)


def test_the_earliest_of_equals_wins():
    flat = series(np.ones(12), train_loss=np.ones(12), accuracy=np.ones(12), own_loss=np.ones(12))
    epochs = [vote(analysis, flat).epoch for analysis in ANALYSES]
    assert epochs == [0, 3, 9, 0, 0]


def test_epochs_that_are_not_finite_are_left_out_and_said():
    loss = [0.9, NAN, 0.3, 0.4, NAN, 0.8]
    train = [0.9, 0.1, NAN, 0.4, 0.1, 0.8]
    found = vote("overfit", series(loss, train_loss=train), stability_weight=0.0)
    assert found.epoch == 3
    assert "3 of 6 snapshots left out (not finite)" in found.reason
    own = vote("own_loss", series(loss, own_loss=[NAN, 1.0, math.inf, 0.5, 0.6, NAN]), window=(0.0, 1.0))
    assert own.epoch == 3
    gaps = vote("plateau", series([3.0, 2.0, NAN, 1.0, 1.0, 1.0, 2.0]))
    assert gaps.epoch in (3, 4)
    assert "1 of 7 snapshots left out" in gaps.reason
    np.testing.assert_allclose(local_spread(np.array([1.0, NAN, 2.0, 4.0])), [0.0, NAN, 1.0, 1.0])


def test_stable_needs_three_finite_in_a_row():
    found = vote("stable", series([1.0, 1.0, NAN, 1.0, 1.0, 2.0]), window=(0.0, 1.0))
    assert found.epoch == 5
    assert "3 of 4 snapshots left out" in found.reason


@pytest.mark.parametrize(
    ("analysis", "given", "reason"),
    [
        ("overfit", {}, "abstains: no loss on train is logged"),
        ("balance", {}, "abstains: no accuracy is logged"),
        ("own_loss", {}, "abstains: the group logs no loss of its own"),
        ("balance", {"accuracy": [NAN] * 12}, r"abstains: .* is nowhere finite in epochs 3 to 7"),
        ("stable", {"epochs": [*range(10), 50, 59]}, "abstains: fewer than three snapshots lie in epochs 39 to 59"),
        (
            "balance",
            {"epochs": range(12), "num_epochs": 60, "accuracy": np.ones(12)},
            "abstains: no snapshot lies in epochs 19 to 43",
        ),
        ("plateau", {"loss": [1.0, 1.0, 1.0, 1.0] + [NAN] * 8}, "abstains: 4 finite val losses in epochs 0 to 11"),
    ],
)
def test_an_analysis_without_what_it_needs_abstains(analysis, given, reason):
    given = dict(given)
    found = vote(analysis, series(given.pop("loss", np.ones(12)), **given))
    assert found.epoch is None
    assert found.score is None
    assert re.search(reason, found.reason)


def test_windows_are_the_shares_of_the_reference():
    assert {name: tuple(round(60 * share) for share in window) for name, window in WINDOWS.items()} == {
        "overfit": (0, 60), "balance": (20, 44), "stable": (40, 60), "own_loss": (0, 60), "plateau": (0, 60),
    }  # fmt: skip


def test_an_unknown_analysis_is_refused():
    with pytest.raises(ValueError, match="analysis is 'best'; allowed: overfit, balance, stable, own_loss, plateau"):
        vote("best", series(np.ones(6)))


def test_a_vote_survives_json():
    found = vote("plateau", series([3.0, 2.0, 1.0, 1.0, 1.0, 2.0]))
    assert Vote.from_dict(found.as_dict()) == found
    abstains = vote("balance", series(np.ones(6)))
    assert Vote.from_dict(abstains.as_dict()) == abstains
