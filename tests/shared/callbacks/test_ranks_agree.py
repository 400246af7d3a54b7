"""How ranks end at the same place, with another rank's word put in by hand."""

from types import SimpleNamespace

import pytest

from shared.callbacks import ranks_agree
from shared.callbacks.ranks_agree import OneStop
from shared.sweep.halving import HalvingRule, SuccessiveHalving

HOOKS = {
    "on_train_start": (), "on_train_epoch_start": (), "on_train_batch_end": (None, None, 0), "on_validation_end": (),
    "on_train_epoch_end": (),
}  # fmt: skip


def with_other(monkeypatch, word):
    """A second rank that says `word` whenever it is asked; returns what this one says."""
    said = []

    def largest(numbers):
        said.append(list(numbers))
        return [max(number, word) for number in numbers]

    monkeypatch.setattr(ranks_agree, "largest_over_ranks", largest)
    return said


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize(("own", "other"), [(False, 1), (True, 0), (False, 0)])
def test_a_stop_of_one_rank_is_one_of_all_wherever_it_was_set(hook, own, other, monkeypatch):
    said = with_other(monkeypatch, other)
    trainer = SimpleNamespace(should_stop=own)
    getattr(OneStop(), hook)(trainer, None, *HOOKS[hook])
    assert trainer.should_stop is (own or bool(other))
    assert said == [[int(own)]]


def test_a_resumed_point_that_was_given_up_ends_on_all_ranks_before_the_first_batch(tmp_path, monkeypatch):
    """Rank 0 has the callback of the point, rank 1 has not."""
    halving = SuccessiveHalving(HalvingRule(1, 2), tmp_path, "b", 0, "min", lambda: 0.0, lambda _: None)
    halving.load_state_dict({"stopped_at": 1})
    trainers = [SimpleNamespace(should_stop=False), SimpleNamespace(should_stop=False)]
    said = with_other(monkeypatch, 0)
    for callback in (halving, OneStop()):  # in the order of the engine
        callback.on_train_start(trainers[0], None)
    with_other(monkeypatch, said[0][0])
    OneStop().on_train_start(trainers[1], None)
    assert [trainer.should_stop for trainer in trainers] == [True, True]
