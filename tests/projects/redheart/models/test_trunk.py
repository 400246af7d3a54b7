"""The trunk gives every number of an answer a state."""

import pytest
import torch

from projects.redheart.models.trunk import SharedTrunk
from projects.redheart.tasks import TASKS
from tests.fabricate.story_network import fabricated_context, padded


@pytest.fixture
def trunk() -> SharedTrunk:
    """A small trunk."""
    torch.manual_seed(0)
    return SharedTrunk(16, num_layers=2, num_heads=2, hidden=32, dropout=0.1).eval()


def test_a_state_for_each_number_and_a_trajectory(trunk: SharedTrunk) -> None:
    context = fabricated_context(width=16)

    states, trajectory = trunk(context.sequence, context.mask, context.pooled)

    assert {task: tuple(state.shape) for task, state in states.items()} == {
        task: (4, size, 16) for task, size in TASKS.items()
    }
    assert trajectory.shape == (4, 8, 7)
    assert (trajectory[~context.mask] == 0).all()


def test_padding_changes_nothing(trunk: SharedTrunk) -> None:
    context = fabricated_context(width=16)
    longer = padded(context, 3)

    states, trajectory = trunk(context.sequence, context.mask, context.pooled)
    states_longer, trajectory_longer = trunk(longer.sequence, longer.mask, longer.pooled)

    for task in TASKS:
        torch.testing.assert_close(states_longer[task], states[task], atol=1e-6, rtol=0)
    torch.testing.assert_close(trajectory_longer[:, :8], trajectory)


def test_tasks_share_what_they_find(trunk: SharedTrunk) -> None:
    """Another query of regret changes the states of surd."""
    context = fabricated_context(width=16)
    before = trunk(context.sequence, context.mask, context.pooled)[0]["surd"]
    with torch.no_grad():
        trunk.queries[7 + 10] += torch.randn(16)

    after = trunk(context.sequence, context.mask, context.pooled)[0]["surd"]

    assert (after - before).abs().max() > 1e-4
