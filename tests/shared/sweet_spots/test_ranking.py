import math

import numpy as np
import pytest

from shared.sweet_spots import ANALYSES, choose, rank_epochs

DECIDING = {"o": "overfit", "b": "balance", "s": "stable", "own": "own_loss"}
WINDOWS = {"o": [0.0, 1.0], "b": [0.3333, 0.7333], "s": [0.6667, 1.0], "own": [0.5, 0.8]}


def rows_of(losses, epochs=None, **more):
    series = {"val/loss": losses} | {key.replace("__", "/"): values for key, values in more.items()}
    return [
        {"epoch": epoch, "step": epoch, "metrics": {key: float(values[i]) for key, values in series.items()}}
        for i, epoch in enumerate(epochs or range(len(losses)))
    ]


def ranked(rows, analysis, window=None, fallback=None, num_epochs=None):
    windows = None if window is None else {"a": window}
    settings = {"deciding": {"a": analysis}, "windows": windows, "num_epochs": num_epochs}
    return rank_epochs(rows, ["a"], fallback or {}, **settings)["a"]


def test_inside_the_window_comes_first_and_of_equals_the_earlier():
    rows = rows_of([1.0, 0.5, 3.0, 2.0, 2.0, math.nan], val__accuracy=[0.0] * 6)
    assert ranked(rows, "balance", [0.5, 1.0]) == [3, 4, 2, 1, 0, 5]  # epoch 5 has no number
    assert ranked(rows, "balance", [0.0, 1.0]) == [1, 0, 3, 4, 2, 5]


def test_before_the_window_begins_what_there_is_counts():
    rows = rows_of([1.0, 0.5, 3.0], val__accuracy=[0.0, 0.0, 6.0])
    assert ranked(rows, "balance", [0.5, 1.0], num_epochs=12) == [2, 1, 0]  # 3 - 0.5 * 6 = 0
    assert ranked(rows, "balance", [0.0, 0.2], num_epochs=12)[0] == 1  # epoch 2 lies behind the window


def test_stable_may_not_have_the_first_two_of_its_window():
    rows = rows_of([5.0, 5.0, 5.0, 1.0, 1.0, 2.0, 4.0])
    # Of 4, 5 and 6, variances 32/9, 2/9 and 14/9: the window begins with 2 and 3, of which no three end there.
    assert ranked(rows, "stable", [3 / 7, 1.0]) == [5, 6, 4, 2, 3, 0, 1]


def test_the_newest_of_overfit_is_ranked_last_for_its_score_is_not_final():
    rows = rows_of([3.0, 2.0, 1.0], train__loss=[3.0, 2.0, 1.0])
    assert ranked(rows, "overfit") == [1, 0, 2]


def test_what_the_analysis_cannot_read_is_ranked_by_the_fallback():
    rows = rows_of([3.0, 2.0, 1.0])
    for analysis in ("overfit", "balance", "own_loss"):
        assert ranked(rows, analysis, fallback={0: 2.0, 1: 1.0, 2: 3.0}) == [1, 0, 2]
    assert rank_epochs(rows, ["a"], {0: 2.0, 1: 1.0, 2: 3.0}) == {"a": [1, 0, 2]}  # overfit without train/loss


def test_the_plateau_has_its_vote_first_and_then_the_lowest_of_the_smoothed_curve():
    losses = [4.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 2.0, 3.0]
    first, *others = ranked(rows_of(losses), "plateau")
    assert first == choose(rows_of(losses), ["a"], deciding={"a": "plateau"}).epochs["a"]
    assert set(others[:3]) <= {3, 4, 5, 6}


@pytest.mark.parametrize("keep", [1, 4])
@pytest.mark.parametrize("num_epochs", [12, 60])
def test_what_is_chosen_at_the_end_was_never_given_up(keep, num_epochs):
    """Thinned behind every snapshot, as the callback does: 30 runs of noise, each group with its own window."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        epochs = list(range(1, num_epochs, 2))
        kept = {group: set() for group in DECIDING}
        loss, train, accuracy, own = 1 + 0.05 * rng.normal(size=(4, len(epochs)))
        rows = rows_of(loss, epochs, train__loss=train, val__accuracy=accuracy, val__group__own__loss=own)
        for count, epoch in enumerate(epochs, start=1):
            ranking = rank_epochs(rows[:count], list(DECIDING), {}, num_epochs=num_epochs, deciding=DECIDING,
                                  windows=WINDOWS)  # fmt: skip
            for group, order in ranking.items():
                assert sorted(order) == epochs[:count]
                kept[group] = (kept[group] | {epoch}) & {*order[:keep], epoch}
        found = choose(rows, list(DECIDING), num_epochs=num_epochs, deciding=DECIDING, windows=WINDOWS)
        deciders = {vote.epoch for group in DECIDING for vote in found.votes[group] if vote.analysis == DECIDING[group]}
        assert None not in deciders or num_epochs == 12  # with six snapshots `stable` has two in its window
        for group, votes in found.votes.items():
            decider = next(vote for vote in votes if vote.analysis == DECIDING[group])
            assert decider.epoch is None or decider.epoch in kept[group], (seed, group)


def test_every_analysis_ranks_every_epoch():
    rows = rows_of(
        [3.0, 1.0, math.nan, 2.0], train__loss=[1.0] * 4, val__accuracy=[1.0] * 4, val__group__a__loss=[1] * 4
    )
    for analysis in ANALYSES:
        assert sorted(ranked(rows, analysis)) == [0, 1, 2, 3]
        assert rank_epochs([], ["a"], {}, deciding={"a": analysis}) == {"a": []}
