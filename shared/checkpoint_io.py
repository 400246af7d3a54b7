"""Checkpoints that appear whole or not at all, are checked before they are trusted, and load without running code."""

import pickle
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch.plugins.io import TorchCheckpointIO

from shared.atomic import replacing
from shared.errors import CheckpointError

_TORCH_WRITER = ("PytorchStreamWriter", "inline_container")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint writer, made to write to a temporary name, fsync and rename."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        """Write a checkpoint atomically.

        Raises:
            CheckpointError: If the file cannot be written (full disk, permissions); the former file is untouched.
        """
        with as_checkpoint_error(path), replacing(Path(path)) as temporary:
            torch.save(checkpoint, temporary)

    def remove_checkpoint(self, path: _PATH) -> None:
        """Remove a checkpoint that rotation no longer needs."""
        Path(path).unlink(missing_ok=True)


@contextmanager
def as_checkpoint_error(path: _PATH) -> Iterator[None]:
    """Turn a failed write in the block into one sentence.

    Raises:
        CheckpointError: In place of what torch and the file system say.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch reports a short write as RuntimeError; any other one is not about the file.
        if isinstance(error, RuntimeError) and not any(name in str(error) for name in _TORCH_WRITER):
            raise
        raise CheckpointError(
            f"checkpoint {path} cannot be written ({error}); the one before it is untouched: "
            "free disk space, then go on with resume=auto"
        ) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint to the CPU after checking every byte, without running code from it.

    Raises:
        CheckpointError: If the file is missing, truncated, damaged or holds anything but plain data and tensors.
    """
    fault = find_fault(path)
    if fault is not None:
        raise CheckpointError(f"checkpoint {path} cannot be used: {fault}")
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError, ValueError, TypeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"checkpoint {path} holds something other than tensors and plain data: {first}"
        ) from error


def find_fault(path: Path) -> str | None:
    """What is wrong with a checkpoint file, or None. Reads it whole: torch does not check the zip's checksums."""
    if not path.is_file():
        return "the file does not exist"
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        return f"it is truncated or not a checkpoint ({error}, {path.stat().st_size} bytes)"
    return None if broken is None else f"its part {broken} is damaged"


def newest_intact(candidates: Sequence[Path]) -> tuple[Path, list[str]]:
    """The first usable checkpoint of a list ordered by preference.

    Returns:
        Its path, and one sentence for each better candidate that had to be passed over.

    Raises:
        CheckpointError: If none is usable, with the reason for each.
    """
    passed_over: list[str] = []
    for path in candidates:
        fault = find_fault(path)
        if fault is None:
            return path, passed_over
        passed_over.append(f"checkpoint {path.name} was passed over: {fault}")
    raise CheckpointError(f"no usable checkpoint in {candidates[0].parent}: " + "; ".join(passed_over))
