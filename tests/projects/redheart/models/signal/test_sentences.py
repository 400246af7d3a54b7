"""The signal is that of the sentences: title and action stand before the text but are no moments of it."""

import pytest
import torch

from projects.redheart.models.signal.dsp import EmotionDSPSimulator
from projects.redheart.models.signal.kalman import DynamicKalmanFilter
from projects.redheart.models.signal.trajectory import sentences
from tests.fabricate import analyzer_contract as contract
from tests.fabricate.story_network import fabricated_context

BUILT = [
    (EmotionDSPSimulator, {"hidden": 24, "filters": 3, "blocks": 1, "transform_length": 64, "dropout": 0.0}),
    (DynamicKalmanFilter, {"hidden": 14, "dropout": 0.0}),
]


def test_samples_are_sentences_and_all_parts_where_there_is_none():
    context = fabricated_context(3, 4, contract.WIDTH)._replace(
        mask=torch.tensor([[True, True, True, True], [True, True, False, False], [False] * 4]),
        part=torch.tensor([[1, 2, 0, 0], [1, 2, 0, 0], [0, 0, 0, 0]]),
    )
    assert sentences(context).tolist() == [
        [False, False, True, True], [True, True, False, False], [False, False, False, False]
    ]  # fmt: skip


@pytest.mark.parametrize(("kind", "numbers"), BUILT, ids=["dsp", "kalman"])
def test_the_emotion_of_title_and_action_does_not_move_the_signal_but_that_of_a_sentence_does(kind, numbers):
    analyzer = contract.built(kind, **numbers)
    mask, part = torch.ones(4, 8, dtype=torch.bool), torch.tensor([[1, 2, 0, 0, 0, 0, 0, 0]] * 4)
    context = fabricated_context(4, 8, contract.WIDTH)._replace(mask=mask, part=part)
    before = analyzer(context)
    for place, moves in ((0, False), (1, False), (2, True), (7, True)):
        trajectory = context.trajectory.clone()
        trajectory[:, place] += 3.0
        after = analyzer(context._replace(trajectory=trajectory))
        moved = max((after[task] - before[task]).abs().max().item() for task in before)
        assert (moved > 1e-4) == moves, place
