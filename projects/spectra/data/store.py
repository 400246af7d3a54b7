"""Patterns as bits and their curves, mapped from two files: 200,000 samples are 506 MB of maps, not of memory."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.atomic import write_json
from shared.errors import DataError
from shared.sample_index import DIGEST_BYTES, SampleIndex

_STALE_S = 86_400
_UNUSABLE = (DataError, OSError, EOFError, ValueError, KeyError, TypeError, TokenError)  # what reading rubbish raises


@dataclass
class CurveStore:
    """Packed patterns with their curves, (N, H * W / 8) uint8 and (N, *output_shape) float32, read where they are.

    A copy in a loader worker opens the files again: what is pickled is the folder's name.

    Attributes:
        folder: Holds bits.npy and target.npy.
        side_px: H = W.
        output_shape: Shape of one sample's curves, wavelengths last.
    """

    folder: Path
    side_px: int
    output_shape: tuple[int, ...]
    _maps: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    _on_device: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    @property
    def bits(self) -> NDArray[np.uint8]:
        """Patterns, (N, H * W / 8) uint8, packed along x in the order of `np.packbits`."""
        return self._map("bits.npy")

    @property
    def target(self) -> NDArray[np.float32]:
        """Curves, (N, *output_shape) float32."""
        return self._map("target.npy")

    def __len__(self) -> int:
        return len(self.bits)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the maps and the tensors out."""
        return {**self.__dict__, "_maps": {}, "_on_device": {}}

    def pictures(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return patterns as pixels, (K, H, W) uint8 of 0 and 1."""
        return unpack_bits(self.bits[rows], self.side_px)

    def on_device(self, device: str) -> tuple[Tensor, Tensor]:
        """Return all bits and targets as tensors on a device; copied there once, shared by all folds."""
        if device not in self._on_device:
            # In one piece: 506 MB for 200,000 samples, in memory twice only while the copy runs.
            parts = (torch.from_numpy(np.array(part)).to(device) for part in (self.bits, self.target))
            bits, target = parts
            self._on_device[device] = (bits, target)
        return self._on_device[device]

    def _map(self, name: str) -> NDArray[Any]:
        if name not in self._maps:
            # The base class: a memmap's own indexing costs more than the gather of a small batch.
            self._maps[name] = np.asarray(np.load(self.folder / name, mmap_mode="r", allow_pickle=False))
        return self._maps[name]


def unpack_bits(bits: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Turn packed patterns, (K, side * side / 8), into pixels, (K, side, side) uint8 of 0 and 1.

    Example:
        >>> unpack_bits(np.array([[128, 0, 0, 0, 0, 0, 0, 1]], np.uint8), 8)[0, ::7, ::7].tolist()
        [[1, 0], [0, 1]]
    """
    return np.unpackbits(np.ascontiguousarray(bits), axis=1).reshape(len(bits), side, side)


def digests(bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return blake2b-128 of each packed pattern, (N, 16) uint8."""
    found = np.empty((len(bits), DIGEST_BYTES), dtype=np.uint8)
    for row, packed in enumerate(bits):
        found[row] = np.frombuffer(blake2b(packed.tobytes(), digest_size=DIGEST_BYTES).digest(), dtype=np.uint8)
    return found


Fill = Callable[[Path], tuple[SampleIndex, list[str]]]
"""Writes bits.npy and target.npy into a folder; returns the index of their rows and the findings."""


def load_or_build(root: Path, key: Mapping[str, Any], fill: Fill) -> tuple[CurveStore, SampleIndex, list[str]]:
    """Return the store of a key, from `root` where it was built before.

    It is built in a folder of its own and renamed when complete: a store that is there is whole, whatever was killed,
    and two processes that build the same one do not disturb each other. The cache may be deleted at any time.

    Args:
        root: Folder of all stores.
        key: All that the store depends on, JSON values; it is kept in facts.json for a human reader.
        fill: Called when nothing usable is there.

    Raises:
        DataError: As `fill`.
    """
    folder = root / blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=8).hexdigest()
    # A damaged or half-deleted cache is no reason to stop: it is built again.
    with suppress(*_UNUSABLE):
        return _load(folder, key)
    root.mkdir(parents=True, exist_ok=True)
    _remove_stale(root)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=root))
    try:
        index, findings = fill(building)
        index.save(building / "index.npz")
        write_json(building / "facts.json", {"key": dict(key), "findings": findings})
        building.chmod(0o755)
        _put_in_place(building, folder, key)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return _load(folder, key)


def _put_in_place(building: Path, folder: Path, key: Mapping[str, Any]) -> None:
    """Rename, unless another process was faster; what is there but unusable goes."""
    with suppress(*_UNUSABLE):
        _load(folder, key)
        return
    if folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
    building.replace(folder)


def _load(folder: Path, key: Mapping[str, Any]) -> tuple[CurveStore, SampleIndex, list[str]]:
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    if facts["key"] != json.loads(json.dumps(key)):
        raise ValueError("the folder's hash collides with another store")
    bits = np.load(folder / "bits.npy", mmap_mode="r", allow_pickle=False)  # refuses a file that is cut off
    target = np.load(folder / "target.npy", mmap_mode="r", allow_pickle=False)
    index = SampleIndex.load(folder / "index.npz")
    side = round((bits.shape[1] * 8) ** 0.5)
    if not len(bits) == len(target) == len(index) or side * side != bits.shape[1] * 8:
        raise ValueError("the parts of the store do not belong together")
    return CurveStore(folder, side, tuple(target.shape[1:])), index, list(facts["findings"])


def _remove_stale(root: Path) -> None:
    """Remove what killed processes left a day or longer ago."""
    for leftover in root.glob(".*-*"):
        with suppress(OSError):
            if time.time() - leftover.stat().st_mtime > _STALE_S:
                shutil.rmtree(leftover, ignore_errors=True)
