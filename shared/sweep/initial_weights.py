"""Whether the points of a sweep begin alike: the hash of the weights before the first step.

What the first point of a generation has found stands in the sweep's folder, created once; every later one is compared.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from shared.errors import TrainingError
from shared.sweep import exclusive_files
from shared.weights import weights_sha256

SCHEMA = 1
NOT_IN_WEIGHTS = ("optimizer", "scheduler", "trainer", "callbacks", "runtime", "logger")
"""Roots of the configuration that the initial weights do not depend on; with these alone swept, all must be equal."""


class InitialWeights(Callback):
    """Hashes the module before a checkpoint is restored into it, so that a resumed point has the same hash.

    Args:
        tell: Called with the sha256 (64 hex digits), or None where the weights are not made yet (sharded modules).
    """

    def __init__(self, tell: Callable[[str | None], None]) -> None:
        self.tell = tell

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lightning restores a checkpoint behind this hook."""
        if stage == "fit" and trainer.is_global_zero:
            state = pl_module.state_dict()
            made = bool(state) and not any(tensor.is_meta for tensor in state.values())
            self.tell(weights_sha256(state) if made else None)


def begin_alike(values: Iterable[str]) -> bool:
    """Whether points that differ in these keys must begin with equal weights.

    Example:
        >>> begin_alike(["optimizer.lr"]), begin_alike(["optimizer.lr", "model"])
        (True, False)
    """
    return all(_root(key) in NOT_IN_WEIGHTS for key in values)


def check_weights(folder: Path, generation: int, values: Mapping[str, Any], sha256: str) -> None:
    """Compare a point's initial weights with those of the first point.

    Args:
        folder: Of the sweep.
        generation: Of the sweep.
        values: Swept keys and the point's values.
        sha256: Of the point's initial weights.

    Raises:
        TrainingError: They differ although no swept key can change them.
    """
    if not begin_alike(values):
        return
    found = _first(folder / f"weights.{generation}.json", {"initial_weights": sha256})
    if found["initial_weights"] != sha256:
        raise TrainingError(
            f"the initial weights of this point ({sha256[:12]}) are not those of the sweep's first point "
            f"({found['initial_weights'][:12]}), so their scores cannot be compared: look for a random number that the "
            "seed does not fix, or for another version of a library on this machine"
        )


def _first(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """What the first point left; this one's where it is the first, or where the file is damaged."""
    if exclusive_files.create(path, {"schema": SCHEMA, **content}):
        return content
    found = exclusive_files.read(path)
    if found is None:
        exclusive_files.set_aside(path)
        return _first(path, content)
    return found


def _root(key: str) -> str:
    return key.lstrip("+~").split(".")[0].split("/")[0].split("@")[0]
