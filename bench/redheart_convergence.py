"""Whether optimisers that need little memory learn like AdamW in float32: same data, same steps, several seeds.

Stories are drawn from a linear teacher with noise, so that there is something to learn and something that cannot be
learned. Printed is the loss on other stories of the same teacher, its mean over seeds and their spread.
`python -m bench.redheart_convergence --model base --steps 40 --seeds 2`
"""

import argparse
import statistics
import time
from typing import Any

import torch
from torch import Tensor

from projects.redheart.describe import read_sizes
from projects.redheart.losses import MultiTaskLoss, valid_targets
from projects.redheart.models.network import StoryNetwork
from projects.redheart.tasks import EMOTION, TASKS
from shared.errors import ConfigError
from shared.optim import build_optimizer

EMBEDDING_DIM, PARTS, BATCH = 32, 6, 64
NUM_VAL = 512
# name -> optimizer.name, weights
CHOICES = {
    "adamw, float32": ("adamw", torch.float32),
    "adamw, bfloat16": ("adamw", torch.bfloat16),
    "adamw_factored, bfloat16": ("adamw_factored", torch.bfloat16),
    "adamw_8bit, bfloat16": ("adamw_8bit", torch.bfloat16),
}


def stories(rows: int, seed: int) -> dict[str, Any]:
    """Embeddings and targets of the teacher, which is the same for every seed."""
    teacher = torch.Generator().manual_seed(1234)
    directions = {task: torch.randn(EMBEDDING_DIM, size, generator=teacher) for task, size in TASKS.items()}
    draw = torch.Generator().manual_seed(seed)
    embedding = torch.randn(rows, PARTS, EMBEDDING_DIM, generator=draw) / EMBEDDING_DIM**0.5
    meaning = embedding.sum(dim=1) / PARTS**0.5
    target = {}
    for task, direction in directions.items():
        answer = 2 * meaning @ direction + 0.3 * torch.randn(rows, TASKS[task], generator=draw)
        target[task] = answer.argmax(dim=1) if task == EMOTION else answer.sigmoid()
    mask = {task: torch.ones(value.shape, dtype=torch.bool) for task, value in target.items()}
    return {"embedding": embedding, "target": target, "mask": mask}


def losses(network: StoryNetwork, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Training objective and plain sum of the tasks."""
    loss = MultiTaskLoss()
    embedding = batch["embedding"].to(next(network.parameters()).dtype)
    there = torch.ones(embedding.shape[:2], dtype=torch.bool)
    outputs = network(embedding, there, torch.zeros(embedding.shape[:2], dtype=torch.int64)).outputs
    totals = valid_targets(batch["mask"])
    found = loss(outputs, {}, batch["target"], batch["mask"], totals=totals, share=1.0)
    return found.objective, torch.stack(list(found.tasks.values())).sum()


def trained(choice: str, sizes: dict[str, Any], steps: int, seed: int, lr: float) -> float:
    """Loss on val after so many steps."""
    name, dtype = CHOICES[choice]
    torch.manual_seed(seed)
    network = StoryNetwork(EMBEDDING_DIM, sizes).to(dtype)
    config = {"name": name, "lr": lr, "weight_decay": 0.01, "betas": [0.9, 0.999]}
    optimizer = build_optimizer(network.named_parameters(), config)
    torch.manual_seed(seed)
    for step in range(steps):
        objective, _ = losses(network, stories(BATCH, 10_000 * (seed + 1) + step))
        optimizer.zero_grad()
        objective.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    network.eval()
    with torch.no_grad():
        return float(losses(network, stories(NUM_VAL, 7))[1])


def main() -> None:
    """Train with each choice and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--only", nargs="+", choices=list(CHOICES), default=list(CHOICES))
    given = parser.parse_args()
    # What torchao compiles for each shape takes longer on a CPU than the steps.
    torch.compiler.set_stance("force_eager")
    sizes = read_sizes(given.model)
    for choice in given.only:
        began = time.perf_counter()
        try:
            found = [trained(choice, sizes, given.steps, seed, given.lr) for seed in range(given.seeds)]
        except ConfigError as error:
            print(f"{choice:26} left out: {error}", flush=True)
            continue
        spread = statistics.stdev(found) if len(found) > 1 else float("nan")
        seconds = (time.perf_counter() - began) / (given.seeds * given.steps)
        print(f"{choice:26} val loss {statistics.mean(found):.4f} +- {spread:.4f} {seconds:.3f} s a step", flush=True)


if __name__ == "__main__":
    main()
