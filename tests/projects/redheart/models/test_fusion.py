"""The fusion weighs contributions, and shares out the weight of what is missing."""

import pytest
import torch

from projects.redheart.models.fusion import HEAD, HEAD_SHARE, Fusion
from projects.redheart.tasks import TASKS


def said(value: float) -> dict[str, torch.Tensor]:
    """A contribution of one row that says the same everywhere."""
    return {task: torch.full((1, size), value) for task, size in TASKS.items()}


@pytest.fixture
def fusion() -> Fusion:
    """Two analyzers for emotion, one of them also for regret; none for the other tasks."""
    return Fusion({"one": ("emotion",), "two": ("emotion", "regret")})


def test_the_head_has_half_at_first(fusion: Fusion) -> None:
    outputs = fusion({HEAD: said(4.0), "one": said(1.0), "two": said(3.0)})

    assert outputs["emotion"][0, 0].item() == pytest.approx(HEAD_SHARE * 4 + 0.25 * 1 + 0.25 * 3)
    assert outputs["regret"][0, 0].item() == pytest.approx(HEAD_SHARE * 4 + 0.5 * 3)
    assert outputs["surd"][0].tolist() == [4.0] * 4
    assert set(fusion.scores) == {"emotion", "regret"}


def test_what_is_missing_leaves_its_weight_to_the_others_in_proportion(fusion: Fusion) -> None:
    with torch.no_grad():
        fusion.scores["emotion"].copy_(torch.tensor([0.6, 0.3, 0.1]).log())

    outputs = fusion({HEAD: said(4.0), "two": said(11.0)})

    assert fusion.weights("emotion", [HEAD, "two"]).tolist() == pytest.approx([6 / 7, 1 / 7])
    assert outputs["emotion"][0, 0].item() == pytest.approx(5.0)


def test_the_order_in_which_contributions_come_does_not_matter(fusion: Fusion) -> None:
    with torch.no_grad():
        fusion.scores["emotion"].copy_(torch.tensor([0.0, 1.0, 2.0]))
    parts = {HEAD: said(4.0), "one": said(1.0), "two": said(3.0)}

    assert torch.equal(fusion(parts)["emotion"], fusion(dict(reversed(parts.items())))["emotion"])


def test_a_task_without_contribution_is_refused(fusion: Fusion) -> None:
    expected = r"^nothing contributes to bentham: off must leave one of heads$"
    with pytest.raises(ValueError, match=expected):
        fusion({"one": said(1.0), "two": said(3.0)})
