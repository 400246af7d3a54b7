"""Training steps of the redheart network under a memory cap: peak, time, parts a second, use of the arithmetic units.

On a GPU the process is capped at 8 GB and the peak is what torch allocated. On a CPU the growth of the resident memory
is compared with the estimate. `--model base --device cpu`; `--model full --device cpu --steps 1 --micro-batch 1`.
"""

import argparse
import threading
import time
import warnings
from typing import Any

import psutil
import torch
from lightning import Callback, LightningModule, Trainer
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from bench.gpu_curve_training import peak_tflops
from projects.redheart.describe import EMBEDDING_DIM, read_sizes
from projects.redheart.memory_estimate import GB, blank_batch, breakdown, estimate
from projects.redheart.module import RedHeartModule
from projects.redheart.tasks import EMOTIONS

CAP_GB = 8.0
PARTS = 16


class Same(Dataset[dict[str, Any]]):
    """One batch again and again."""

    def __init__(self, rows: int, steps: int) -> None:
        self.batch, self.steps = blank_batch(rows, PARTS, EMBEDDING_DIM), steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self.batch


class Clock(Callback):
    """Seconds of each step, the device waited for."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *arguments: Any) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self._began)


class PeakMemory:
    """Highest resident memory of this process while it is open, looked at a hundred times a second."""

    def __init__(self) -> None:
        self._process, self._done = psutil.Process(), threading.Event()
        self.first = self.peak = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self.peak = max(self.peak, self._process.memory_info().rss)


def flops_of_a_row(module: RedHeartModule) -> int:
    """Arithmetic of forward and backward for one row, activations computed once even where a step computes them again.

    What activation checkpointing adds is no work that the model needs: it lowers the utilisation.
    """
    batch = blank_batch(1, PARTS, EMBEDDING_DIM)
    embedding = batch["embedding"].to(next(module.network.parameters()))
    mask, part = batch["embedding_mask"].to(embedding.device), batch["part"].to(embedding.device)
    again, module.network.activation_checkpointing = module.network.activation_checkpointing, False
    # The fused kernels of attention are not all known to the counter; the plain one is made of matrix products.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        outputs = module.network(embedding, mask, part).outputs
        torch.stack([values.float().sum() for values in outputs.values()]).sum().backward()
    module.network.activation_checkpointing = again
    module.zero_grad(set_to_none=True)
    return int(counter.get_total_flops())


def utilisation(tflops: float, name: str, weights: str, given: float | None) -> str:
    """Share of what the device can do at best; nothing where that is not known.

    Args:
        tflops: Done a second, / 10^12.
        name: Of the device.
        weights: Precision; the table of devices holds for "bfloat16" alone.
        given: What the device can do, if it was said.
    """
    peak = peak_tflops(name, given) if weights == "bfloat16" else given
    return "" if peak is None else f", {100 * tflops / peak:.2f} % of {peak:g} TFLOP/s ({name}, dense {weights})"


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="full")
    parser.add_argument("--device", default="gpu", choices=("gpu", "cpu"))
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--micro-batch", type=int, default=4)
    parser.add_argument("--accumulate", type=int, default=16, help="pieces of a step")
    parser.add_argument("--weights", default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument("--optimizer", default="adamw_factored")
    parser.add_argument("--no-checkpointing", action="store_true")
    parser.add_argument("--peak-tflops", type=float, default=None, help="of a device that is not in the table")
    given = parser.parse_args()
    sizes, checkpointing = read_sizes(given.model), not given.no_checkpointing
    if given.device == "gpu":
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, CAP_GB * GB / whole))
    with PeakMemory() as memory:
        module = RedHeartModule(
            sizes=sizes, classes=EMOTIONS, embedding_dim=EMBEDDING_DIM, encoder="none", task_weighting="uncertainty",
            task_weights=None, label_smoothing=0.1, rdrop_alpha=0.0, auxiliary_weight=0.1, layer_decay=0.95,
            analyzer_lr_scale=1.5, micro_batch=given.micro_batch, weights=given.weights,
            activation_checkpointing=checkpointing, optimizer={"name": given.optimizer, "lr": 1e-4},
            scheduler={"name": "constant"},
        )  # fmt: skip
        rows, clock = given.micro_batch * given.accumulate, Clock()
        warnings.filterwarnings("ignore", ".*LeafSpec|.*many workers|.*logging interval|.*val_dataloader|.*validation")
        Trainer(
            accelerator=given.device, devices=1, max_epochs=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, gradient_clip_val=1.0, callbacks=[clock],
        ).fit(module, DataLoader(Same(rows, given.steps), batch_size=None))  # fmt: skip
    steady = sorted(clock.seconds[1:] or clock.seconds)
    seconds = steady[len(steady) // 2]
    _print_speed(given, module, rows, seconds)
    if module.oom_events:
        print(f"memory ended {module.oom_events} times: {'; '.join(module.micro_batches.sentences)}")
    _compare(given, sizes, memory, module.micro_batches.size, module.network.activation_checkpointing)


def _print_speed(given: argparse.Namespace, module: RedHeartModule, rows: int, seconds: float) -> None:
    """What a step of so many rows took, and what was reckoned in it."""
    work = flops_of_a_row(module) * rows
    print(f"{sum(p.numel() for p in module.parameters()):,} parameters, {given.optimizer}, {given.weights} weights")
    speed = rows * PARTS / seconds
    print(f"step of {given.micro_batch} x {given.accumulate}: {seconds:.3f} s, {speed:,.0f} parts/s")
    print("a part (title, action or a sentence, embedded beforehand) is the network's token: parts/s are its tokens/s")
    name = torch.cuda.get_device_name() if given.device == "gpu" else "CPU"
    print(f"arithmetic: {work / 1e12:.2f} TFLOP a step, {work / seconds / 1e12:.3f} TFLOP/s", end="")
    print(utilisation(work / seconds / 1e12, name, given.weights, given.peak_tflops))


def _compare(given: argparse.Namespace, sizes: dict[str, Any], memory: PeakMemory, rows: int, again: bool) -> None:
    """Estimate beside what was measured."""
    found = estimate(
        sizes, embedding_dim=EMBEDDING_DIM, weights=given.weights, optimizer=given.optimizer, micro_batch=rows,
        parts=PARTS, checkpointing=again,
    )  # fmt: skip
    print(breakdown(found))
    gpu = given.device == "gpu"
    measured = torch.cuda.max_memory_allocated() if gpu else memory.peak - memory.first
    print(f"measured     {measured / GB:7.3f} GB ({'allocated' if gpu else 'growth of the resident memory'})")
    print(f"measured / estimated {measured / found['peak']:.3f}")


if __name__ == "__main__":
    main()
