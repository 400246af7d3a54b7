import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from shared.sampler import EpochSampler, ResumableLoader, SampleKey


class Echo(Dataset):
    def __getitem__(self, key: SampleKey) -> torch.Tensor:
        return torch.tensor([key.position, key.draw])


def batches(loader):
    return [batch.tolist() for batch in loader]


def test_an_epoch_is_a_permutation_and_epochs_differ():
    sampler = EpochSampler(50, seed=3)
    first = [key.position for key in sampler]
    sampler.set_epoch(1)
    second = [key.position for key in sampler]
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second


def test_draws_never_repeat_over_epochs():
    sampler = EpochSampler(20, seed=0)
    draws = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        draws += [key.draw for key in sampler]
    assert draws == list(range(60))


def test_weights_give_the_asked_shares():
    sampler = EpochSampler(10_000, seed=1, weights=np.r_[np.full(5_000, 3.0), np.full(5_000, 1.0)])
    positions = np.array([key.position for key in sampler])
    assert (positions < 5_000).mean() == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumed_pass_equals_the_rest_of_the_uninterrupted_one(num_workers):
    def loader():
        sampler = EpochSampler(26, seed=5)
        sampler.set_epoch(4)
        return ResumableLoader(Echo(), sampler, batch_size=4, num_workers=num_workers, drop_last=True)

    whole = batches(loader())
    first = loader()
    iterator = iter(first)
    head = [next(iterator).tolist() for _ in range(2)]
    state = first.state_dict()
    second = loader()
    second.load_state_dict(state)
    assert head + batches(second) == whole
    assert batches(second) != whole[2:]  # the offset counts once: the next pass is a whole one
    assert len(batches(second)) == len(whole) == 6


def test_order_does_not_depend_on_the_number_of_workers():
    def run(num_workers):
        return batches(ResumableLoader(Echo(), EpochSampler(17, seed=2), batch_size=5, num_workers=num_workers))

    assert run(0) == run(2)


@pytest.mark.parametrize("weights", [np.array([1.0, -1.0]), np.array([0.0, 0.0]), np.array([1.0, np.nan]), np.ones(3)])
def test_unusable_weights_are_refused(weights):
    with pytest.raises(ValueError, match="2 finite numbers"):
        EpochSampler(2, seed=0, weights=weights)
