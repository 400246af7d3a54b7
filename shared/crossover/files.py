"""Weights of a crossed or averaged network on disk, with the epoch that each parameter comes from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from shared.atomic import replacing
from shared.errors import CheckpointError

FINAL = "crossover_final.safetensors"
CANDIDATES = "candidates"
REPORT = "crossover.json"

_METADATA = "crossover"


def save_state(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a full state dict atomically; tied tensors are written under each of their names.

    Args:
        path: File, `.safetensors`.
        state: On any device.
        metadata: Plain data, kept as JSON in the file.

    Raises:
        CheckpointError: If the file cannot be written; a former one is untouched.
    """
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
    try:
        with replacing(path) as temporary:
            save_file(tensors, temporary, {_METADATA: json.dumps(metadata, sort_keys=True)})
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"weights {path} cannot be written ({error}); free disk space, then go on with resume=auto"
        ) from error


def load_state(path: Path, expected: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Read a state dict to the CPU.

    Args:
        path: File written by `save_state`.
        expected: State dict of the network that takes it; None: names and shapes are not checked.

    Raises:
        CheckpointError: If the file is missing, truncated or damaged, or does not fit the network.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as stream:
            state = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"weights {path} cannot be used: {_fault(path, error)}") from error
    if expected is not None:
        wrong = [name for name in expected if name not in state or state[name].shape != expected[name].shape]
        wrong += [name for name in state if name not in expected]
        if wrong:
            raise CheckpointError(
                f"weights {path} do not fit this network: {len(wrong)} tensors differ, for example {wrong[0]}"
            )
    return state


def load_metadata(path: Path) -> dict[str, Any]:
    """Read what `save_state` was told beside the tensors.

    Raises:
        CheckpointError: If the file is missing, damaged or was not written by `save_state`.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as stream:
            metadata = stream.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"weights {path} cannot be used: {_fault(path, error)}") from error
    if _METADATA not in metadata:
        raise CheckpointError(f"weights {path} have no entry {_METADATA!r} in their metadata; another tool wrote them")
    return dict(json.loads(metadata[_METADATA]))


def _fault(path: Path, error: Exception) -> str:
    if not path.is_file():
        return "the file does not exist"
    return f"it is truncated or no safetensors file ({error}, {path.stat().st_size} bytes)"
