"""What all projects use. Importing it fixes the environment that native libraries read when they load."""

import os
from typing import Any

# torch's OpenMP spins at barriers: one busy neighbour on two cores made a 30 ms forward pass take 900 ms (2026-11-20).
# Setting it after `import torch` has no effect, so it stands in the first lines of the first package imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import opens a URL otherwise

__all__ = ["load_run"]


def __getattr__(name: str) -> Any:
    """Load `load_run` on first use, so that `--help` does not import torch."""
    if name == "load_run":
        from shared.loading import load_run

        return load_run
    raise AttributeError(f"module 'shared' has no attribute {name!r}")
