import torch
from torch import nn

from shared.crossover.takeover import copied, random_state, repeatable, set_random_state


def test_a_former_random_state_gives_the_same_draws_and_the_present_one_goes_on():
    module = nn.Linear(1, 1)
    with repeatable(module):
        state = random_state(module)
        first = torch.rand(3)
        with set_random_state(module, state):
            assert torch.equal(torch.rand(3), first)
        second = torch.rand(3)
    with repeatable(module):
        assert torch.equal(torch.rand(6), torch.cat([first, second]))


def test_a_copied_batch_shares_neither_tensors_nor_containers():
    batch = {"image": torch.zeros(2), "names": ["a", "b"]}
    other = copied(batch)
    other["image"] += 1
    other["names"].append("c")
    assert batch["image"].tolist() == [0, 0]
    assert batch["names"] == ["a", "b"]
