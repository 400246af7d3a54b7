"""What holds for each analyzer of the table."""

import pytest
import torch

from projects.redheart.models.analyzers import ANALYZERS, GROUPS, build_analyzers
from projects.redheart.models.context import Context
from projects.redheart.tasks import TASKS
from tests.fabricate.story_network import fabricated_context, padded, rows, tiny_sizes


@pytest.fixture(scope="module")
def analyzers() -> torch.nn.ModuleDict:
    """All analyzers of the tiny network."""
    torch.manual_seed(0)
    return build_analyzers(64, tiny_sizes()["analyzers"]).eval()


@pytest.fixture
def context() -> Context:
    """Four stories of different lengths."""
    return fabricated_context()


def test_names_and_groups_agree() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(ANALYZERS)


def test_every_task_has_analyzers() -> None:
    assert {task for analyzer in ANALYZERS.values() for task in analyzer.tasks} == set(TASKS)


@pytest.mark.parametrize("name", ANALYZERS)
def test_shapes_are_those_of_its_tasks(analyzers: torch.nn.ModuleDict, context: Context, name: str) -> None:
    said = analyzers[name](context)

    assert {task: tuple(tensor.shape) for task, tensor in said.items()} == {
        task: (4, TASKS[task]) for task in ANALYZERS[name].tasks
    }


@pytest.mark.parametrize("name", ANALYZERS)
def test_padding_changes_nothing(analyzers: torch.nn.ModuleDict, context: Context, name: str) -> None:
    longer = analyzers[name](padded(context, 5))

    for task, said in analyzers[name](context).items():
        torch.testing.assert_close(longer[task], said, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ANALYZERS)
def test_a_row_alone_is_the_row_in_a_batch(analyzers: torch.nn.ModuleDict, context: Context, name: str) -> None:
    together = analyzers[name](context)

    for row in range(4):
        for task, said in analyzers[name](rows(context, [row])).items():
            torch.testing.assert_close(said, together[task][row : row + 1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ANALYZERS)
def test_a_story_without_parts_gives_finite_numbers_and_gradients(
    analyzers: torch.nn.ModuleDict, context: Context, name: str
) -> None:
    analyzers[name].zero_grad()

    said = analyzers[name](context._replace(mask=torch.zeros_like(context.mask)))
    sum(tensor.sum() for tensor in said.values()).backward()

    assert all(tensor.isfinite().all() for tensor in said.values())
    gradients = [parameter.grad for parameter in analyzers[name].parameters() if parameter.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_some_are_left_out() -> None:
    assert "kalman" not in build_analyzers(64, tiny_sizes()["analyzers"], ["kalman"])


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^without names 'calman'; allowed: neural_emotion, .*community_network$"):
        build_analyzers(64, tiny_sizes()["analyzers"], ["calman"])


def test_missing_sizes_are_refused() -> None:
    sizes = tiny_sizes()["analyzers"]
    del sizes["dsp"]
    with pytest.raises(ValueError, match=r"^sizes of analyzers are given for \[.*\]; needed: \[.*'dsp'.*\]$"):
        build_analyzers(64, sizes)
