"""Shares of ranks: together they are the whole, and no two have the same."""

import pytest
import torch
from torch.utils.data import Dataset

from shared.distributed.share import ALONE, RankShare
from shared.sampler import EpochSampler, ResumableLoader, SampleKey


class Echo(Dataset):
    def __getitem__(self, key: SampleKey) -> torch.Tensor:
        return torch.tensor([key.position, key.draw])


def loader(share, batch=6, num_samples=27):
    sampler = EpochSampler(num_samples, seed=4, share=share, used=num_samples - num_samples % batch)
    sampler.set_epoch(2)
    return ResumableLoader(Echo(), sampler, batch_size=batch // share.count, drop_last=True)


def rows(batches):
    return [sorted(map(tuple, batch.tolist())) for batch in batches]


@pytest.mark.parametrize("count", [2, 3, 6])
def test_the_ranks_batches_are_those_of_one_process_cut_into_equal_parts(count):
    whole = rows(loader(ALONE))
    ranks = [list(loader(RankShare(rank, count))) for rank in range(count)]
    assert [len(batches) for batches in ranks] == [len(whole)] * count == [4] * count
    assert {len(batch) for batches in ranks for batch in batches} == {6 // count}
    assert rows([torch.cat(parts) for parts in zip(*ranks, strict=True)]) == whole


def test_a_rank_goes_on_behind_the_batches_that_all_have_done():
    share = RankShare(1, 2)
    first = loader(share)
    iterator = iter(first)
    head = [next(iterator) for _ in range(3)]
    second = loader(share)
    second.load_state_dict(first.state_dict())
    assert rows(head) + rows(second) == rows(loader(share))
    assert first.state_dict() == {"handed_out": 3}


@pytest.mark.parametrize("num_samples", [2, 7, 8, 101])
def test_blocks_of_a_fold_hold_each_sample_once_and_in_order(num_samples):
    blocks = [list(range(num_samples))[RankShare(rank, 2).block(num_samples)] for rank in range(2)]
    assert blocks[0] + blocks[1] == list(range(num_samples))
    assert abs(len(blocks[0]) - len(blocks[1])) <= 1


@pytest.mark.parametrize(("rank", "count"), [(2, 2), (-1, 2), (0, 0)])
def test_a_rank_that_is_none_of_them(rank, count):
    with pytest.raises(ValueError, match=f"rank is {rank} of {count}, allowed: 0 up to, but not, their number"):
        RankShare(rank, count)
