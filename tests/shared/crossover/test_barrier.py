import doctest

import pytest
import torch

import shared.crossover.barrier as barrier
from shared.crossover.barrier import between, loss_barrier


def test_examples():
    assert doctest.testmod(barrier).failed == 0


def test_a_convex_bowl_has_no_barrier():
    """L(a) = (a - 0.2)^2 lies under its chord by a (1 - a): 0.1875 at the outer points, 0.25 in the middle."""
    found = loss_barrier(lambda share: (share - 0.2) ** 2)
    assert found.height == pytest.approx(-0.1875)
    assert found.at in (0.25, 0.75)


def test_a_hill_between_unequal_ends_is_measured_from_the_line_between_them():
    found = loss_barrier(lambda share: 2 * share + 3 * share * (1 - share), points=(0.75, 0.5))
    assert (found.height, found.at) == (pytest.approx(0.75), 0.5)
    assert [share for share, _ in found.curve] == [0.0, 0.5, 0.75, 1.0]


def test_a_loss_that_is_not_finite_is_an_infinite_barrier():
    assert loss_barrier(lambda share: float("nan") if share == 0.5 else 1.0).height == float("inf")


@pytest.mark.parametrize("points", [(), (0.0,), (1.5,)])
def test_points_are_checked(points):
    with pytest.raises(ValueError, match="points are"):
        loss_barrier(lambda share: 0.0, points)


def test_weights_between_two_networks():
    a = {"w": torch.tensor([0.0, 4.0]), "n": torch.tensor(3)}
    b = {"w": torch.tensor([2.0, 0.0]), "n": torch.tensor(9)}
    assert between(a, b, 0.25)["w"].tolist() == [0.5, 3.0]
    assert [int(between(a, b, share)["n"]) for share in (0.0, 0.4, 0.5, 1.0)] == [3, 3, 9, 9]
    assert torch.equal(between(a, b, 1.0)["w"], b["w"])
