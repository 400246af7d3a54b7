"""The final network of a run: which weights, which calibrator, and the hash that names exactly this pair."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from shared.checkpoint_io import load_checkpoint
from shared.crossover.files import FINAL, load_state
from shared.errors import CheckpointError
from shared.run_dir import RunDirectory
from shared.weights import weights_sha256

if TYPE_CHECKING:
    from shared.calibrators import Calibrator

CALIBRATOR_FILE = "calibrator.safetensors"


def checkpoint_content(run: RunDirectory, file: str) -> dict[str, Any]:
    """Content of `checkpoints/<file>`, with the network's weights under `state_dict`.

    Raises:
        CheckpointError: If the file cannot be used.
    """
    path = run.checkpoints / file
    content = load_checkpoint(path)
    if "state_dict" not in content:
        raise CheckpointError(f"checkpoint {path} has no state_dict")
    return content


def checkpoint_state(run: RunDirectory, file: str) -> dict[str, Tensor]:
    """The network's weights in `checkpoints/<file>`.

    Raises:
        CheckpointError: If the file cannot be used.
    """
    return dict(checkpoint_content(run, file)["state_dict"])


def final_state(run: RunDirectory) -> dict[str, Tensor]:
    """Weights that the run stands for: what the crossover decided on, otherwise the best single checkpoint.

    Raises:
        CheckpointError: If the file cannot be used.
    """
    if run.done("crossover") is None:
        return checkpoint_state(run, "best.ckpt")
    return load_state(run.path / FINAL)


@dataclass(frozen=True)
class FinalCalibrator:
    """The calibrator behind the final weights.

    Attributes:
        module: From logits to calibrated logits.
        domain_names: What the domain codes mean that it was fitted on.
    """

    module: "Calibrator"
    domain_names: tuple[str, ...]

    def probabilities(self, logits: Tensor, domain: Tensor, names: Sequence[str]) -> Tensor:
        """Calibrated probabilities (N, C).

        Args:
            logits: (N, C).
            domain: (N,) codes into `names`, -1 where unknown, as is a name that the calibrator lacks.
            names: What the codes mean in the data at hand.
        """
        known = [self.domain_names.index(name) if name in self.domain_names else -1 for name in names]
        table = torch.tensor([*known, -1])  # the last entry is what code -1 finds
        calibrated: Tensor = self.module(logits, table[domain] if names else None)
        return calibrated.softmax(dim=1)


def final_calibrator(run: RunDirectory) -> FinalCalibrator | None:
    """The calibrator behind those weights, None where the run fitted none.

    Raises:
        CheckpointError: If the file cannot be used.
    """
    from shared.calibrators import Calibrator, load_calibrator, read_metadata

    if run.done("calibrate") is None:
        return None
    path = run.path / CALIBRATOR_FILE
    module = load_calibrator(path)
    if not isinstance(module, Calibrator):
        raise CheckpointError(f"calibrator {path} is for the variance of a regression, not for logits")
    return FinalCalibrator(module, tuple(read_metadata(path)["domain_names"]))


def final_sha256(state: Mapping[str, Tensor], calibrator: FinalCalibrator | None) -> str:
    """Hash of weights and calibrator together: test opens for this pair and no other."""
    extra = {} if calibrator is None else calibrator.module.state_dict()
    return weights_sha256({**state} | {f"calibrator.{name}": tensor for name, tensor in extra.items()})
