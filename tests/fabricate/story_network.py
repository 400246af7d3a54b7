"""Small seeded inputs for the network of stories, and the sizes of its smallest configuration."""

from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from projects.redheart.models.context import Context
from projects.redheart.tasks import EMOTION, TASKS

CONF = Path(__file__).resolve().parents[2] / "conf" / "model"
LENGTHS = (8, 5, 3, 6)
TITLE, ACTION = 1, 2


def sizes(name: str) -> dict[str, Any]:
    """The `sizes` of conf/model/redheart_<name>.yaml."""
    return dict(yaml.safe_load((CONF / f"redheart_{name}.yaml").read_text())["sizes"])


def tiny_sizes() -> dict[str, Any]:
    """Sizes of the network that trains on a CPU."""
    return sizes("tiny")


def parts_of(batch: int, parts: int) -> tuple[Tensor, Tensor]:
    """Mask (B, S) and part codes (B, S): a title, an action, sentences; rows of different lengths, the first is full.

    Every fourth row from the third on has no title and no action.
    """
    lengths = torch.tensor([max(1, LENGTHS[row % len(LENGTHS)] * parts // 8) for row in range(batch)])
    mask = torch.arange(parts) < lengths[:, None]
    part = torch.zeros(batch, parts, dtype=torch.int64)
    part[:, 0] = TITLE
    part[:, 1:2] = ACTION
    part[2::4] = 0
    return mask, torch.where(mask, part, 0)


def fabricated_context(batch: int = 4, parts: int = 8, width: int = 64, seed: int = 0) -> Context:
    """A context with states of unit variance; all states that require a gradient do not."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    mask, part = parts_of(batch, parts)
    there = mask[..., None]
    sequence, trajectory = draw(batch, parts, width) * there, draw(batch, parts, TASKS[EMOTION]) * there
    preliminary = {task: draw(batch, size) for task, size in TASKS.items()}
    return Context(sequence, mask, part, draw(batch, width), trajectory, preliminary)


def padded(context: Context, more: int, junk: float = 7.0) -> Context:
    """The same context with so many padded positions more at the end, filled with junk."""
    batch = len(context.mask)

    def longer(tensor: Tensor) -> Tensor:
        return torch.cat([tensor, torch.full((batch, more, tensor.shape[2]), junk)], dim=1)

    mask = torch.cat([context.mask, torch.zeros(batch, more, dtype=torch.bool)], dim=1)
    part = torch.cat([context.part, torch.zeros(batch, more, dtype=torch.int64)], dim=1)
    return context._replace(
        sequence=longer(context.sequence), trajectory=longer(context.trajectory), mask=mask, part=part
    )


def rows(context: Context, chosen: list[int]) -> Context:
    """Some rows of a context."""
    tensors = (context.sequence, context.mask, context.part, context.pooled, context.trajectory)
    return Context(*(tensor[chosen] for tensor in tensors), {k: v[chosen] for k, v in context.preliminary.items()})


def fabricated_batch(batch: int = 4, parts: int = 8, embedding_dim: int = 384, seed: int = 0) -> dict[str, Any]:
    """A StoryBatch: embeddings of unit length, one target in five missing."""
    generator = torch.Generator().manual_seed(seed)
    mask, part = parts_of(batch, parts)
    embedding = torch.randn(batch, parts, embedding_dim, generator=generator)
    embedding = embedding / embedding.norm(dim=-1, keepdim=True) * mask[..., None]
    target: dict[str, Tensor] = {EMOTION: torch.randint(TASKS[EMOTION], (batch,), generator=generator)}
    target_mask: dict[str, Tensor] = {EMOTION: torch.rand(batch, generator=generator) > 0.2}
    for task in (name for name in TASKS if name != EMOTION):
        target[task] = torch.rand(batch, TASKS[task], generator=generator)
        target_mask[task] = torch.rand(batch, TASKS[task], generator=generator) > 0.2
    target = {task: torch.where(target_mask[task], value, torch.zeros_like(value)) for task, value in target.items()}
    index = torch.arange(batch)
    return {
        "embedding": embedding, "embedding_mask": mask, "part": part, "target": target, "target_mask": target_mask,
        "sample_index": index, "group_index": index, "domain": torch.zeros(batch, dtype=torch.int64),
    }  # fmt: skip
