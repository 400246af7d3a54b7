import json
import math

import numpy as np
import pytest

from shared.errors import ConfigError
from shared.sweet_spots import ANALYSES, Keys, SweetSpots, choose


def rows_of(curves, epochs):
    return [
        {"epoch": epoch, "step": 10 * epoch, "metrics": {key: float(values[i]) for key, values in curves.items()}}
        for i, epoch in enumerate(epochs)
    ]


@pytest.fixture
def planted():
    """60 epochs, 30 snapshots; each analysis and each group has a best epoch that was put there."""
    epochs = np.arange(1, 60, 2)
    rng = np.random.default_rng(11)

    def noise():
        return rng.normal(0, 0.001, len(epochs))

    loss = 1.0 + 0.0008 * (epochs - 27.0) ** 2 + noise()
    train = np.where(epochs <= 27, loss, 1.0 - 0.01 * (epochs - 27.0))
    late = epochs >= 45
    loss[late] = 1.3 + rng.normal(0, 0.05, late.sum())
    loss[(epochs >= 51) & (epochs <= 55)] = 1.3
    accuracy = 0.9 - 0.03 * np.abs(epochs - 35)
    curves = {"val/loss": loss, "train/loss": train, "val/accuracy": accuracy}
    curves["val/group/early/loss"] = 0.5 + 0.02 * np.abs(epochs - 25) + noise()
    curves["val/group/late/loss"] = 0.5 + 0.02 * np.abs(epochs - 49) + noise()
    return rows_of(curves, epochs.tolist())


def test_planted_sweet_spots_are_recovered(planted):
    groups = ["trunk", "middle", "calm", "early", "late"]
    found = choose(planted, groups, deciding={"middle": "balance", "calm": "stable"})
    assert found.decision == "chosen"
    assert found.epochs["calm"] == 55
    assert found.epochs["early"] == 25
    assert found.epochs["late"] == 49
    assert abs(found.epochs["trunk"] - 27) <= 2
    assert abs(found.epochs["middle"] - 33) <= 2  # loss - 0.5 accuracy: 0.0016 (e - 27) = 0.015
    assert [vote.analysis for vote in found.votes["trunk"]] == list(ANALYSES)
    deciders = {group: choice["deciding"] for group, choice in found.choices.items()}
    assert deciders == {
        "trunk": "overfit", "middle": "balance", "calm": "stable", "early": "own_loss", "late": "own_loss",
    }  # fmt: skip
    assert found.choices["early"]["reason"].startswith("own_loss decides: the group's own loss is lowest")
    plateau = next(vote for vote in found.votes["trunk"] if vote.analysis == "plateau")
    assert plateau.span[0] <= 27 <= plateau.span[1]


def test_windows_of_a_group_hold_for_its_deciding_analysis_only(planted):
    found = choose(planted, ["early", "trunk"], windows={"early": [0.6, 1.0], "trunk": [0.0, 0.2]})
    assert found.epochs["early"] == 35
    assert found.epochs["trunk"] == 11
    free = choose(planted, ["early", "trunk"])
    assert found.votes["early"][0] == free.votes["early"][0]


@pytest.mark.parametrize("number", [0, 1, 5])
def test_too_few_snapshots_are_declined(planted, number):
    found = choose(planted[:number], ["trunk"])
    assert found.decision == "declined"
    assert found.reason == f"{number} snapshot{'s' * (number != 1)}; at least 6 are needed"
    assert found.epochs == {}
    assert choose(planted[:6], ["trunk"]).decision == "chosen"


def test_too_few_finite_losses_are_declined(planted):
    for row in planted[5:]:
        row["metrics"]["val/loss"] = math.nan
    assert choose(planted, ["a"]).reason == "5 of 30 snapshots have a finite val/loss; at least 6 are needed"
    assert choose(planted, ["a"], keys=Keys("val_loss")).reason.startswith("0 of 30 snapshots have a finite val_loss")


def test_an_epoch_that_is_nan_is_never_chosen(planted):
    best = choose(planted, ["early"]).epochs["early"]
    row = next(row for row in planted if row["epoch"] == best)
    row["metrics"] = dict.fromkeys(row["metrics"], math.nan)
    found = choose(planted, ["early"])
    assert abs(found.epochs["early"] - best) == 2
    assert "1 of 30 snapshots left out (not finite)" in found.choices["early"]["reason"]


def test_where_the_deciding_analysis_abstains_the_others_decide(planted):
    found = choose(planted, ["trunk"], deciding={"trunk": "own_loss"})
    votes = [vote.epoch for vote in found.votes["trunk"] if vote.epoch is not None]
    assert len(votes) == 4
    assert found.epochs["trunk"] in votes
    assert found.choices["trunk"]["reason"].startswith("own_loss abstains: the group logs no loss of its own; the maj")


def test_majority_by_hand():
    # Train loss equals val loss, so over-fit and plateau see the same valley; accuracy and variance point elsewhere.
    epochs = list(range(12))
    loss = [3.0, 2.0, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.0, 4.0, 5.0]
    rows = rows_of({"val/loss": loss, "train/loss": loss, "val/accuracy": [0.0] * 12}, epochs)
    found = choose(rows, ["a"], deciding={"a": "own_loss"})
    assert [vote.epoch for vote in found.votes["a"]][:4] == [2, 3, 10, None]
    assert found.votes["a"][4].epoch == 2
    assert found.epochs == {"a": 2}
    assert (found.choices["a"]["agreement"], found.choices["a"]["voted"]) == (3, 4)


def test_without_any_vote_the_choice_is_declined():
    rows = rows_of({"val/loss": [1.0] * 6}, [0, 1, 2, 3, 4, 55])
    found = choose(rows, ["a"], windows={"a": [0.5, 0.6]}, deciding={"a": "plateau"}, num_epochs=60)
    assert found.decision == "declined"
    assert found.reason.startswith("no analysis could vote for a: abstains")


def test_groups_far_apart_are_recommended_for_an_ensemble(planted):
    found = choose(planted, ["early", "late", "calm"], deciding={"calm": "stable"})
    assert found.recommendations[0] == (
        "the best epochs of early (25) and calm (55) (and 1 more pairs) are more than a third of the run apart: "
        "try the ensemble of both epochs"
    )
    near = choose(planted, ["early", "trunk"])
    assert not any("apart" in sentence for sentence in near.recommendations)


def test_further_recommendations():
    falling = np.linspace(2.0, 1.0, 12)
    rows = rows_of({"val/loss": falling, "train/loss": falling}, range(12))
    found = choose(rows, ["a", "b"])
    assert found.epochs == {"a": 11, "b": 11}
    assert "all groups choose epoch 11: there is nothing to cross but neighbours" in found.recommendations
    assert "a, b: the last snapshot was the best; more epochs may still help" in found.recommendations
    weak = rows_of({"val/loss": [1.0, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9], "val/group/a/loss": falling[::-1]}, range(12))
    alone = choose(weak, ["a"], windows={"a": [0.5, 0.8]})
    assert any(sentence.startswith("a: no second analysis votes near") for sentence in alone.recommendations)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"deciding": {"x": "overfit"}}, r"callbacks\.sweet_spot\.deciding names the module group 'x'; there are a, b"),
        ({"windows": {"x": [0, 1]}}, r"callbacks\.sweet_spot\.windows names the module group 'x'; there are a, b"),
        ({"deciding": {"a": "best"}}, r"deciding\.a is 'best'; allowed: overfit, balance"),
        ({"windows": {"a": [0.5]}}, r"windows\.a is \[0\.5\]; two shares"),
        ({"windows": {"a": [20, 44]}}, r"windows\.a is \[20, 44\]; two shares"),
        ({"windows": {"a": [0.5, 0.4]}}, r"windows\.a is \[0\.5, 0\.4\]; two shares"),
    ],
)
def test_settings_that_cannot_be_are_refused(planted, settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        choose(planted, ["a", "b"], **settings)


def test_the_result_survives_json(planted):
    planted[3]["metrics"]["val/loss"] = math.nan
    found = choose(planted, ["early", "trunk"])
    content = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert content["schema"] == 1
    assert content["snapshots"][3]["metrics"]["val/loss"] is None
    again = SweetSpots.from_dict(content)
    assert again.as_dict() == content
    assert again.votes == found.votes
    assert math.isnan(again.snapshots[3]["metrics"]["val/loss"])
    with pytest.raises(ConfigError, match=r"sweet_spots\.json is of schema 7; this version reads 1"):
        SweetSpots.from_dict({**content, "schema": 7})
