"""The heads answer all tasks; the emotion of the parts counts."""

import pytest
import torch

from projects.redheart.models.heads import EmotionHead, Heads, TaskHead
from projects.redheart.tasks import TASKS
from tests.fabricate.story_network import fabricated_context, tiny_sizes


@pytest.fixture
def heads() -> Heads:
    """The heads of the tiny network."""
    torch.manual_seed(0)
    return Heads(64, tiny_sizes()["heads"]).eval()


def test_every_task_is_answered(heads: Heads) -> None:
    context = fabricated_context()

    answers, trajectory = heads(context.sequence, context.mask, context.pooled)

    assert {task: tuple(answer.shape) for task, answer in answers.items()} == {
        task: (4, size) for task, size in TASKS.items()
    }
    assert trajectory.shape == (4, 8, 7)


def test_each_number_has_its_own_direction() -> None:
    head = TaskHead("surd", 4, hidden=8, blocks=1, dropout=0.0)
    with torch.no_grad():
        head.direction.copy_(torch.eye(4))
        head.bias.copy_(torch.tensor([0.0, 1.0, 2.0, 3.0]))
    states = torch.randn(2, 4, 4)

    logits = head(states)

    torch.testing.assert_close(logits, torch.diagonal(head.blocks(states), dim1=1, dim2=2) + torch.arange(4.0))


def test_emotion_adds_the_mean_of_the_parts() -> None:
    head = EmotionHead(8, hidden=8, blocks=1, dropout=0.0)
    context = fabricated_context(width=8)
    states = torch.randn(4, 7, 8)

    added = head.read(states, context.trajectory, context.mask) - head(states)

    torch.testing.assert_close(added[2], context.trajectory[2, :3].mean(dim=0), atol=1e-6, rtol=1e-5)
