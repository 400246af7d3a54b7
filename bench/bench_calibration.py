"""What choosing a calibrator costs: all methods, five folds of groups, on 100,000 samples of 100 classes.

The logits are 1.7 times the calibrated ones, so every fit has something to find. `choice` is the whole of it, from the
logits to the calibrator fitted on all samples; `before and after` are the scores with their intervals by group.
"""

import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.record import Record, run_benchmark
from shared.calibrators import METHODS, choose_calibrator
from shared.calibrators.effect import measure_effect

NUM_SAMPLES, NUM_CLASSES, NUM_GROUPS = 100_000, 100, 500
DOMAINS = ("a", "b", "c")
ROUNDS = 5
GOAL_S = 5.0


def measure(record: Record) -> None:
    """The whole choice, the choice with each single method, and the scores around it."""
    logits, target, group = samples()
    domain = group % len(DOMAINS)

    def choose(methods: tuple[str, ...]) -> float:
        began = time.perf_counter()
        choice = choose_calibrator(logits, target, group, domain, DOMAINS, methods=methods)
        assert set(choice.cv) == {"identity", *methods}, choice.abstained
        return time.perf_counter() - began

    choose(METHODS)  # the first call pays for thread pools and pages
    whole = [choose(METHODS) for _ in range(ROUNDS)]
    record.add_samples(f"choice of {len(METHODS)} methods, goal {GOAL_S:.0f} s", whole, "s")
    for method in METHODS[1:]:
        record.add_samples(f"choice between identity and {method}", [choose((method,)) for _ in range(3)], "s")
    choice = choose_calibrator(logits, target, group, domain, DOMAINS)
    began = time.perf_counter()
    measure_effect(choice, logits, target, group)
    record.add("before and after with intervals", time.perf_counter() - began, "s")


def samples() -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """Logits (N, C) float32, targets (N,) and groups (N,)."""
    generator = torch.Generator().manual_seed(0)
    calibrated = 2.0 * torch.randn(NUM_SAMPLES, NUM_CLASSES, generator=generator)
    target = torch.multinomial(calibrated.softmax(dim=1), 1, generator=generator).squeeze(1)
    return 1.7 * calibrated, target, np.arange(NUM_SAMPLES) % NUM_GROUPS


if __name__ == "__main__":
    run_benchmark("bench_calibration", measure)
