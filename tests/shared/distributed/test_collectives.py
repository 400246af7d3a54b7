"""What ranks tell each other, between two real processes over gloo; alone, everything stays as it is."""

import json
import multiprocessing

import torch
import torch.distributed as dist

from shared.distributed import collectives
from shared.distributed.sharding import clip_norm

RANKS = 2


def weights(rank):
    """A weight with a gradient everywhere, on rank 1 only, nowhere; a frozen one; one of another type."""
    found = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
    found += [torch.nn.Parameter(torch.zeros(2), requires_grad=False), torch.nn.Parameter(torch.zeros(3).double())]
    found[0].grad = torch.tensor([1.0, 10.0]) * (rank + 1)
    if rank == 1:
        found[1].grad = torch.tensor([5.0, 6.0])
    found[4].grad = torch.full((3,), 0.5 + rank, dtype=torch.float64)
    return found


def told_by(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS)
    collectives.BUCKET_BYTES = 8  # one weight a bucket
    own = weights(rank)
    collectives.sum_gradients(own)
    untouched = torch.tensor([1.0 + rank])
    found = {
        "ranks": [collectives.rank(), collectives.num_ranks()],
        "sum": collectives.sum_over_ranks(untouched).tolist(),
        "own": untouched.tolist(),
        "mean": collectives.mean_over_ranks(torch.tensor(3.0 * rank)).item(),
        "scalars": {k: v.item() for k, v in collectives.scalars_over_ranks(
            {"a": torch.tensor(1.0), "b": torch.tensor(float(rank))}).items()},
        "largest": collectives.largest_over_ranks([15 * rank, 1 - rank]),
        "gathered": collectives.gathered({"rank": rank}),
        "gradients": [None if weight.grad is None else weight.grad.tolist() for weight in own],
    }  # fmt: skip
    collectives.leave()
    found["alone again"] = collectives.num_ranks()
    (folder / f"{rank}.json").write_text(json.dumps(found))


def test_two_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=told_by, args=(rank, tmp_path)) for rank in range(RANKS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    for rank in range(RANKS):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == {
            "ranks": [rank, 2], "sum": [3.0], "own": [1.0 + rank], "mean": 1.5, "scalars": {"a": 2.0, "b": 1.0},
            "largest": [15, 1], "gathered": [{"rank": 0}, {"rank": 1}],
            "gradients": [[3.0, 30.0], [5.0, 6.0], None, None, [2.0, 2.0, 2.0]], "alone again": 1,
        }  # fmt: skip


def test_alone_everything_stays():
    own = weights(0)
    collectives.sum_gradients(own)
    assert own[0].grad.tolist() == [1.0, 10.0]
    assert own[1].grad is None
    assert collectives.largest_over_ranks([3, 0]) == [3, 0]
    assert collectives.gathered("word") == ["word"]
    assert collectives.mean_over_ranks(torch.tensor(2.0)).item() == 2.0


def test_clipping_is_that_of_torch():
    own, other = weights(1), weights(1)
    for weight in (own[4], other[4]):
        weight.grad = None
    torch.nn.utils.clip_grad_norm_(other, 3.0)
    norm = clip_norm(own, 3.0)
    assert norm.item() == torch.tensor([2.0, 20.0, 5.0, 6.0]).norm().item()
    assert torch.equal(own[0].grad, other[0].grad)
    assert torch.equal(own[1].grad, other[1].grad)
