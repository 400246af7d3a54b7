"""What every analyzer of redheart keeps, whatever it computes; its tests run these checks on each class."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from projects.redheart.models.context import Analyzer, Context, Contribution
from projects.redheart.tasks import TASKS
from tests.fabricate.story_network import fabricated_context, padded, rows

WIDTH = 32


def built(kind: type[Analyzer], **numbers: Any) -> Analyzer:
    """An analyzer in evaluation mode with seeded weights that all differ from 0."""
    torch.manual_seed(1)
    analyzer = kind(WIDTH, **numbers).eval()
    with torch.no_grad():
        for parameter in analyzer.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return analyzer


def cast(context: Context, dtype: torch.dtype) -> Context:
    """The same context in another floating dtype."""
    preliminary = {task: logits.to(dtype) for task, logits in context.preliminary.items()}
    sequence, pooled, trajectory = (t.to(dtype) for t in (context.sequence, context.pooled, context.trajectory))
    return context._replace(sequence=sequence, pooled=pooled, trajectory=trajectory, preliminary=preliminary)


def assert_same(found: Contribution, expected: Contribution, atol: float = 2e-5) -> None:
    """Compare two contributions."""
    assert found.keys() == expected.keys()
    for task, logits in expected.items():
        torch.testing.assert_close(found[task], logits, atol=atol, rtol=1e-4)


def check_shapes(kind: type[Analyzer], **numbers: Any) -> None:
    """One finite answer of the right size for each task, for stories of 1 to 64 parts."""
    analyzer = built(kind, **numbers)
    for parts in (1, 2, 8, 64):
        answer = analyzer(fabricated_context(3, parts, WIDTH))
        assert tuple(answer) == analyzer.tasks
        for task, logits in answer.items():
            assert logits.shape == (3, TASKS[task])
            assert logits.dtype == torch.float32
            assert logits.isfinite().all()


def check_padding(kind: type[Analyzer], **numbers: Any) -> None:
    """Neither more padding nor what stands in it, and no row beside another, changes an answer."""
    analyzer = built(kind, **numbers)
    context = fabricated_context(4, 8, WIDTH)
    expected = analyzer(context)
    assert_same(analyzer(padded(context, 5)), expected)
    assert_same(analyzer(padded(context, 5, junk=-3e3)), expected)
    for row in range(4):
        assert_same(analyzer(rows(context, [row])), {task: logits[[row]] for task, logits in expected.items()})


def check_gaps(kind: type[Analyzer], **numbers: Any) -> None:
    """A part that is masked between others is as though it had never been there."""
    analyzer = built(kind, **numbers)
    context = fabricated_context(4, 8, WIDTH)
    kept = [0, 1, 2, 4, 5, 7]
    mask = torch.zeros(4, 8, dtype=torch.bool)
    mask[:, kept] = True
    sequence, trajectory = torch.randn_like(context.sequence), torch.randn_like(context.trajectory)
    part = torch.where(torch.arange(8) < 2, context.part, 0)
    gappy = context._replace(sequence=sequence, trajectory=trajectory, mask=mask, part=part)
    dense = gappy._replace(
        sequence=sequence[:, kept], trajectory=trajectory[:, kept], mask=mask[:, kept], part=part[:, kept]
    )
    assert_same(analyzer(gappy), analyzer(dense))


def check_empty_row(kind: type[Analyzer], **numbers: Any) -> None:
    """A row without any part is finite, forwards and backwards, and the others do not notice it."""
    analyzer = built(kind, **numbers)
    context = fabricated_context(4, 8, WIDTH)
    expected = analyzer(context)
    mask = context.mask.clone()
    mask[1] = False
    answer = analyzer(context._replace(mask=mask))
    others = [0, 2, 3]
    assert_same(*({task: logits[others] for task, logits in each.items()} for each in (answer, expected)))
    assert all(logits.isfinite().all() for logits in answer.values())
    _weighted(answer).backward()
    assert all(parameter.grad.isfinite().all() for parameter in analyzer.parameters())
    # And it is the same however much padding the row has.
    assert_same(analyzer(padded(context._replace(mask=mask), 3)), answer)


def check_gradients(kind: type[Analyzer], **numbers: Any) -> None:
    """At initialisation, in training, each parameter gets a gradient from each full batch."""
    torch.manual_seed(0)
    analyzer = kind(WIDTH, **numbers)
    _weighted(analyzer(fabricated_context(8, 8, WIDTH))).backward()
    dead = [name for name, p in analyzer.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-7]
    assert not dead
    assert all(p.grad.isfinite().all() for p in analyzer.parameters())


def check_bfloat16(kind: type[Analyzer], **numbers: Any) -> None:
    """Weights and states in bfloat16, and float32 weights under autocast: the same answer to their precision."""
    analyzer = built(kind, **numbers)
    context = fabricated_context(4, 8, WIDTH)
    expected = analyzer(context)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(analyzer(context), expected, atol=0.15)
        # As behind a linear layer under autocast: states in half precision, norms in full.
        mixed = analyzer(cast(context, torch.bfloat16)._replace(pooled=context.pooled))
    assert_same({task: logits.float() for task, logits in mixed.items()}, expected, atol=0.15)
    answer = analyzer.to(torch.bfloat16)(cast(context, torch.bfloat16))
    assert all(logits.dtype == torch.bfloat16 for logits in answer.values())
    assert_same({task: logits.float() for task, logits in answer.items()}, expected, atol=0.15)


def check_learning(kind: type[Analyzer], **numbers: Any) -> None:
    """A few steps bring the answers for eight stories much nearer to targets drawn by lot."""
    torch.manual_seed(0)
    analyzer = kind(WIDTH, **numbers)
    context = fabricated_context(8, 8, WIDTH)
    target = {task: torch.randn(8, TASKS[task]) for task in analyzer.tasks}
    optimizer = torch.optim.Adam(analyzer.parameters(), lr=1e-2)
    losses = []
    for _ in range(80):
        answer = analyzer(context)
        loss = torch.stack([(answer[task] - target[task]).square().mean() for task in target]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0], f"{losses[0]:.3f} -> {losses[-1]:.3f}"


CONTRACT: tuple[Callable[..., None], ...] = (
    check_shapes, check_padding, check_gaps, check_empty_row, check_gradients, check_bfloat16, check_learning,
)  # fmt: skip


def changes(analyzer: Analyzer, **parts: Tensor) -> dict[str, float]:
    """Largest change of each answer when some fields of a context are replaced by others."""
    context = fabricated_context(4, 8, WIDTH)
    before, after = analyzer(context), analyzer(context._replace(**parts))
    return {task: float((after[task] - logits).abs().max().detach()) for task, logits in before.items()}


def parameters(kind: type[Analyzer], width: int, **numbers: Any) -> int:
    """Number of parameters, without memory for them."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in kind(width, **numbers).parameters())


def _weighted(answer: Contribution) -> Tensor:
    """A scalar in which no two answers cancel out."""
    generator = torch.Generator().manual_seed(5)
    return sum(
        ((logits * torch.randn(logits.shape, generator=generator)).sum() for logits in answer.values()),
        start=torch.zeros(()),
    )
