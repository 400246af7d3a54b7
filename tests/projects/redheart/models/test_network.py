"""The whole network: every part counts and is trained, nothing depends on padding or neighbours."""

import pytest
import torch
from torch import Tensor

from projects.redheart.models.analyzers import ANALYZERS
from projects.redheart.models.network import NetworkOutputs, StoryNetwork
from projects.redheart.tasks import TASKS
from shared.module_groups import ModuleGroups
from tests.fabricate.story_network import fabricated_batch, tiny_sizes

Story = tuple[Tensor, Tensor, Tensor]


@pytest.fixture(scope="module")
def network() -> StoryNetwork:
    """The tiny network, in eval."""
    torch.manual_seed(0)
    return StoryNetwork(384, tiny_sizes()).eval()


@pytest.fixture(scope="module")
def story() -> Story:
    """Embedding, mask and part of eight stories."""
    batch = fabricated_batch(8)
    return batch["embedding"], batch["embedding_mask"], batch["part"]


@pytest.fixture(scope="module")
def whole(network: StoryNetwork, story: Story) -> NetworkOutputs:
    """What the network says with nothing switched off."""
    with torch.no_grad():
        return network(*story)


def test_answers_have_the_sizes_of_the_tasks(whole: NetworkOutputs) -> None:
    assert {task: tuple(answer.shape) for task, answer in whole.outputs.items()} == {
        task: (8, size) for task, size in TASKS.items()
    }
    assert set(whole.parts) == {"heads", *ANALYZERS}


@pytest.mark.parametrize("name", ["backbone", "heads", *ANALYZERS])
def test_every_part_changes_the_answers_it_contributes_to(
    network: StoryNetwork, story: Story, whole: NetworkOutputs, name: str
) -> None:
    with torch.no_grad():
        without = network(*story, off=[name])

    tasks = ANALYZERS[name].tasks if name in ANALYZERS else TASKS
    for task in TASKS:
        moved = (without.outputs[task] - whole.outputs[task]).abs().amax()
        assert moved > 1e-3 if task in tasks else moved == 0
    assert set(whole.parts) - set(without.parts) == {name} - {"backbone"}


def test_gradients_reach_every_parameter(story: Story) -> None:
    torch.manual_seed(1)
    network = StoryNetwork(384, tiny_sizes())
    outputs = network(*story).outputs

    sum((answer * torch.randn_like(answer)).sum() for answer in outputs.values()).backward()

    dead = [
        name for name, weight in network.named_parameters() if weight.grad is None or weight.grad.abs().max() < 1e-7
    ]
    assert dead == []


def test_padding_changes_nothing(network: StoryNetwork, story: Story, whole: NetworkOutputs) -> None:
    embedding, mask, part = story
    junk = torch.full((8, 6, 384), 5.0)

    longer = network(
        torch.cat([embedding, junk], dim=1),
        torch.cat([mask, mask.new_zeros(8, 6)], dim=1),
        torch.cat([part, part.new_ones(8, 6)], dim=1),
    )

    for task, answer in whole.outputs.items():
        torch.testing.assert_close(longer.outputs[task], answer, atol=1e-5, rtol=0)


def test_a_row_alone_is_the_row_in_a_batch(network: StoryNetwork, story: Story, whole: NetworkOutputs) -> None:
    for row in range(8):
        alone = network(*(tensor[row : row + 1] for tensor in story))
        for task, answer in whole.outputs.items():
            torch.testing.assert_close(alone.outputs[task][0], answer[row], atol=1e-5, rtol=0)


def test_a_story_without_parts_is_answered(network: StoryNetwork, story: Story) -> None:
    embedding, mask, part = story
    mask = mask.clone()
    mask[3] = False

    outputs = network(embedding, mask, part).outputs

    assert all(answer.isfinite().all() for answer in outputs.values())


def test_eval_leaves_nothing_to_chance(network: StoryNetwork, story: Story, whole: NetworkOutputs) -> None:
    with torch.no_grad():
        again = network(*story)

    assert all(torch.equal(again.outputs[task], answer) for task, answer in whole.outputs.items())


def test_recomputation_gives_the_same_gradients_under_dropout(story: Story) -> None:
    torch.manual_seed(2)
    network = StoryNetwork(384, tiny_sizes()).train()
    gradients = []
    for enabled in (False, True):
        network.activation_checkpointing = enabled
        torch.manual_seed(3)
        network.zero_grad()
        sum(answer.square().sum() for answer in network(*story).outputs.values()).backward()
        gradients.append({name: weight.grad.clone() for name, weight in network.named_parameters()})

    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_recomputation_is_switched_on_everywhere(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two layers of the backbone, reading and sharing of the trunk's layer, and every analyzer."""
    from projects.redheart.models import layers

    seen = []
    plain = layers.checkpoint
    monkeypatch.setattr(
        layers, "checkpoint", lambda function, *rest, **how: seen.append(1) or plain(function, *rest, **how)
    )
    network = StoryNetwork(384, tiny_sizes())
    network(*story)
    assert seen == []
    network.activation_checkpointing = True
    network(*story)

    assert len(seen) == 2 + 2 + len(ANALYZERS)


def test_runs_under_half_precision_autocast(network: StoryNetwork, story: Story, whole: NetworkOutputs) -> None:
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = network(*story).outputs

    for task, answer in whole.outputs.items():
        torch.testing.assert_close(outputs[task].float(), answer, atol=0.2, rtol=0.2)


def test_runs_with_half_precision_weights(story: Story) -> None:
    torch.manual_seed(0)
    network = StoryNetwork(384, tiny_sizes()).bfloat16()
    embedding, mask, part = story

    outputs = network(embedding.bfloat16(), mask, part).outputs
    sum(answer.float().sum() for answer in outputs.values()).backward()

    assert all(answer.dtype == torch.bfloat16 and answer.isfinite().all() for answer in outputs.values())


def test_groups_own_every_tensor_once(network: StoryNetwork) -> None:
    groups = ModuleGroups.of(network)

    assert groups.names == ("A", "B", "C", "advanced_emotion", "advanced_regret", "advanced_bentham", "advanced_surd")


def test_a_group_whose_analyzers_are_left_out_is_gone(story: Story) -> None:
    network = StoryNetwork(384, tiny_sizes(), without=["dsp", "kalman", "advanced_surd"])

    assert set(network.module_groups()) == {"A", "B", "advanced_emotion", "advanced_regret", "advanced_bentham"}
    assert network.absent_groups() == ("C", "advanced_surd")
    assert network(*story).outputs["surd"].isfinite().all()


def test_keys_are_stable(network: StoryNetwork) -> None:
    keys = network.state_dict().keys()

    assert list(keys) == list(StoryNetwork(384, tiny_sizes()).state_dict())
    assert {key.split(".")[0] for key in keys} == {"backbone", "heads", "analyzers", "fusion"}
    assert {key.split(".")[1] for key in keys if key.startswith("analyzers.")} == set(ANALYZERS)


def test_an_unknown_switch_is_refused(network: StoryNetwork, story: Story) -> None:
    with pytest.raises(ValueError, match=r"^off names 'emotion'; allowed: backbone, heads, neural_emotion, "):
        network(*story, off=["emotion"])


def test_a_task_must_keep_a_contribution(network: StoryNetwork, story: Story) -> None:
    off = ["heads", *(name for name, analyzer in ANALYZERS.items() if "surd" in analyzer.tasks)]
    with pytest.raises(ValueError, match=r"^nothing contributes to surd: off must leave one of heads, neural_surd, "):
        network(*story, off=off)
