"""The backbone reads what is there, in order, and nothing else."""

import pytest
import torch
from torch import Tensor

from projects.redheart.models.backbone import RedHeartUnifiedBackbone
from tests.fabricate.story_network import fabricated_batch

Story = tuple[Tensor, Tensor, Tensor]


@pytest.fixture
def backbone() -> RedHeartUnifiedBackbone:
    """A small backbone without dropout's chance."""
    torch.manual_seed(0)
    sizes = {"num_layers": 2, "num_heads": 2, "feedforward": 32, "dropout": 0.1, "max_parts": 12}
    return RedHeartUnifiedBackbone(24, 16, **sizes).eval()


@pytest.fixture
def story() -> Story:
    """Embedding, mask and part of four stories of up to 8 parts."""
    batch = fabricated_batch(4, 8, embedding_dim=24)
    return batch["embedding"], batch["embedding_mask"], batch["part"]


def padded(story: Story, more: int) -> Story:
    """The same stories with padding full of junk."""
    embedding, mask, part = story
    return (
        torch.cat([embedding, torch.full((4, more, 24), 9.0)], dim=1),
        torch.cat([mask, mask.new_zeros(4, more)], dim=1),
        torch.cat([part, part.new_full((4, more), 2)], dim=1),
    )


def test_shapes_and_nothing_where_no_part_is(backbone: RedHeartUnifiedBackbone, story: Story) -> None:
    sequence, pooled = backbone(*story)

    assert sequence.shape == (4, 8, 16)
    assert pooled.shape == (4, 16)
    assert (sequence[~story[1]] == 0).all()


def test_padding_changes_nothing(backbone: RedHeartUnifiedBackbone, story: Story) -> None:
    sequence, pooled = backbone(*story)
    longer, pooled_longer = backbone(*padded(story, 4))

    torch.testing.assert_close(longer[:, :8], sequence, atol=1e-6, rtol=0)
    torch.testing.assert_close(pooled_longer, pooled, atol=1e-6, rtol=0)


def test_a_gap_in_the_mask_does_not_shift_positions(backbone: RedHeartUnifiedBackbone, story: Story) -> None:
    embedding, mask, part = (tensor[1:2, :4] for tensor in story)
    order = [0, 3, 1, 2]
    spread = torch.tensor([[True, False, True, True]])
    three = mask.clone()
    three[:, 3] = False

    plain = backbone(embedding, three, part)[1]
    gap = backbone(embedding[:, order], spread, part[:, order])[1]

    torch.testing.assert_close(gap, plain, atol=1e-6, rtol=0)


@pytest.mark.parametrize("what", ["order", "part"])
def test_order_and_kind_of_parts_matter(backbone: RedHeartUnifiedBackbone, story: Story, what: str) -> None:
    embedding, mask, part = story
    other = (embedding.flip(1), mask, part) if what == "order" else (embedding, mask, torch.zeros_like(part))

    difference = (backbone(*other)[1] - backbone(*story)[1]).abs()

    assert difference[0].max() > 1e-3


def test_a_story_without_parts_has_a_finite_state(backbone: RedHeartUnifiedBackbone, story: Story) -> None:
    embedding, mask, part = story

    for mix in (True, False):
        sequence, pooled = backbone(embedding, torch.zeros_like(mask), part, mix=mix)
        assert (sequence == 0).all()
        assert pooled.isfinite().all()


def test_without_mixing_parts_do_not_hear_each_other(backbone: RedHeartUnifiedBackbone, story: Story) -> None:
    embedding, mask, part = story
    changed = embedding.clone()
    changed[:, 1] += 1

    for mix, same in ((False, True), (True, False)):
        first = backbone(embedding, mask, part, mix=mix)[0][0, 0]
        second = backbone(changed, mask, part, mix=mix)[0][0, 0]
        assert torch.equal(first, second) is same


def test_a_sequence_longer_than_the_positions_is_refused(backbone: RedHeartUnifiedBackbone, story: Story) -> None:
    with pytest.raises(ValueError, match=r"^a story has 13 parts; allowed: up to max_parts = 12$"):
        backbone(*padded(story, 5))
