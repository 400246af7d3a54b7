import doctest

import pytest
import torch

import shared.crossover.averages as averages
from shared.crossover.averages import RunningMean, average, greedy_soup


def state(value, count=0):
    return {"w": torch.tensor([value, 2 * value]), "count": torch.tensor(count), "half": torch.tensor(value).bfloat16()}


def test_examples():
    assert doctest.testmod(averages).failed == 0


def test_hand_values_and_integers_of_the_newest():
    found = average([state(1.0, 3), state(2.0, 5), state(6.0, 4)])
    assert found["w"].tolist() == [3.0, 6.0]
    assert int(found["count"]) == 4
    assert found["count"].dtype == torch.int64
    assert found["half"].dtype == torch.bfloat16
    assert float(found["half"]) == 3.0


def test_the_sum_is_kept_in_double():
    """In float32 16,777,216 + 1 is 16,777,216: ones would be lost."""
    states = [{"w": torch.tensor([2.0**24])}] + [{"w": torch.tensor([1.0])}] * 3
    assert average(states)["w"].item() == torch.tensor((2**24 + 3) / 4, dtype=torch.float64).float().item()


def test_inputs_are_left_alone():
    first = state(1.0)
    mean = RunningMean()
    mean.add(first)
    mean.add(state(3.0))
    assert first["w"].tolist() == [1.0, 2.0]
    assert mean.mean(also=state(5.0))["w"].tolist() == [3.0, 6.0]
    assert mean.mean()["w"].tolist() == [2.0, 4.0]


def test_greedy_soup_leaves_out_what_raises_the_loss():
    values = {0: 0.0, 1: 4.0, 2: -10.0, 3: 2.0}
    told = []
    soup, members, loss = greedy_soup(
        [0, 2, 1, 3], lambda epoch: state(values[epoch], epoch), lambda s: abs(float(s["w"][0]) - 2.0), told.append
    )
    # 0 alone: 2. With -10: 7, out. With 4: mean 2, loss 0, in. With 2: mean 2, loss 0, does not rise, in.
    assert members == [0, 1, 3]
    assert loss == 0.0
    assert soup["w"].tolist() == [2.0, 4.0]
    assert int(soup["count"]) == 3
    assert told == [1, 2, 3, 4]


def test_greedy_soup_of_one():
    soup, members, loss = greedy_soup([7], lambda epoch: state(1.0, 7), lambda s: 1.0)
    assert (members, loss) == ([7], 1.0)
    assert torch.equal(soup["w"], state(1.0)["w"])


def test_wrong_arguments():
    with pytest.raises(ValueError, match="there is no state to average"):
        average([])
    with pytest.raises(ValueError, match="different names or shapes"):
        average([state(1.0), {"w": torch.zeros(2)}])
    with pytest.raises(ValueError, match="epochs is empty"):
        greedy_soup([], lambda epoch: {}, lambda s: 0.0)
