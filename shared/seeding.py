"""Random numbers from (seed, where we are), so that a resumed run draws what the uninterrupted one would have drawn."""

import random

import numpy as np
import torch


def derive_seed(seed: int, *position: int) -> int:
    """A 32-bit seed from a base seed and a position such as (epoch, batch).

    Neighbouring positions give unrelated seeds (NumPy's SeedSequence mixes them), which adding would not.

    Args:
        seed: Base seed of the run, >= 0.
        position: Non-negative integers that say where in the run this is.

    Returns:
        An integer in [0, 2**32).

    Example:
        >>> derive_seed(0, 1, 2) == derive_seed(0, 1, 2), derive_seed(0, 1, 2) == derive_seed(0, 2, 1)
        (True, False)
    """
    return int(np.random.SeedSequence((seed, *position)).generate_state(1)[0])


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and torch (CPU and every GPU)."""
    random.seed(seed)
    np.random.seed(seed)  # third-party transforms still draw from the global state
    torch.manual_seed(seed)
