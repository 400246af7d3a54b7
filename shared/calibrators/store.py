"""Calibrators as safetensors files: tensors and plain text, no code; equal calibrators give equal bytes."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from shared.atomic import write_bytes
from shared.calibrators.base import Calibrator, IdentityCalibrator
from shared.calibrators.domain_temperature import DomainTemperatureCalibrator
from shared.calibrators.isotonic import IsotonicCalibrator
from shared.calibrators.platt import PlattCalibrator
from shared.calibrators.temperature import TemperatureCalibrator
from shared.calibrators.variance import VarianceCalibrator
from shared.errors import CheckpointError

_FORMAT = "calibrator-1"
_BUILDERS: dict[str, Callable[[dict[str, Tensor]], Calibrator | VarianceCalibrator]] = {
    "identity": lambda t: IdentityCalibrator(),
    "temperature": lambda t: TemperatureCalibrator(float(t["temperature"])),
    "domain_temperature": lambda t: DomainTemperatureCalibrator(
        float(t["temperature"]), t["domain_temperature"].tolist()
    ),
    "platt": lambda t: PlattCalibrator(t["slope"], t["offset"]),
    "isotonic": lambda t: IsotonicCalibrator(t["knots"], t["values"], float(t["floor"])),
    "variance": lambda t: VarianceCalibrator(float(t["scale"])),
}
"""Method -> calibrator from the tensors of its file."""


def save_calibrator(
    path: Path, calibrator: Calibrator | VarianceCalibrator, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write a calibrator atomically.

    Args:
        path: File, for example `run/calibrator.safetensors`.
        calibrator: What to write.
        metadata: Plain JSON values kept in the file's header, for example {"domain_names": ["cell", "module"]}.

    Raises:
        CheckpointError: If the file cannot be written; the former file is untouched.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in calibrator.state_dict().items()}
    # One key: the library writes several in an order that changes between processes.
    header = {"method": calibrator.method, "format": _FORMAT, "metadata": dict(metadata or {})}
    content = save(tensors, {"calibrator": json.dumps(header, sort_keys=True)})
    try:
        write_bytes(path, content)
    except OSError as error:
        raise CheckpointError(f"calibrator {path} cannot be written ({error}): free disk space") from error


def load_calibrator(path: Path) -> Calibrator | VarianceCalibrator:
    """Read a calibrator, in evaluation mode, on the CPU.

    Raises:
        CheckpointError: If the file is missing, truncated, or no calibrator.
    """
    header, tensors = _read(path)
    method = header.get("method")
    if method not in _BUILDERS:
        raise CheckpointError(f"calibrator {path} has method {method!r}; allowed are {', '.join(_BUILDERS)}")
    try:
        return _BUILDERS[method](tensors).eval()
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"calibrator {path} does not fit its method {method!r}: {error}") from error


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata that a calibrator was saved with.

    Raises:
        CheckpointError: As in `load_calibrator`.
    """
    return dict(_read(path)[0]["metadata"])


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise CheckpointError(f"calibrator {path} does not exist")
    try:
        with safe_open(path, framework="pt") as stream:
            stated = (stream.metadata() or {}).get("calibrator")
            tensors = {name: stream.get_tensor(name).clone() for name in stream.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"calibrator {path} is truncated or no safetensors file ({error}, {path.stat().st_size} bytes)"
        ) from error
    try:
        header = json.loads(stated or "null")
    except json.JSONDecodeError:
        header = None
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise CheckpointError(f"calibrator {path} is a safetensors file but no calibrator (format {_FORMAT} is needed)")
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"calibrator {path} holds values that are not finite in {name!r}")
    return header, tensors
