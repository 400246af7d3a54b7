"""The kinds of parts."""

import torch

from projects.redheart.models.parts import kind_masks, kind_means

PART = torch.tensor([[1, 2, 0, 0, 0], [0, 0, 0, 0, 0]])
MASK = torch.tensor([[True, True, True, True, False], [True, False, False, False, False]])


def test_masks_of_text_title_action() -> None:
    masks = kind_masks(MASK, PART)

    assert masks[0].int().tolist() == [[0, 0, 1, 1, 0], [1, 0, 0, 0, 0], [0, 1, 0, 0, 0]]
    assert masks[1].int().tolist() == [[1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]


def test_means_by_kind_are_zero_where_there_is_none() -> None:
    sequence = torch.arange(10.0).reshape(2, 5, 1)

    means = kind_means(sequence, kind_masks(MASK, PART))[..., 0]

    assert means.tolist() == [[2.5, 0.0, 1.0], [5.0, 0.0, 0.0]]
