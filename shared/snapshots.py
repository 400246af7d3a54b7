"""Snapshots of a network during a fit: one folder an epoch, one file a module group, complete or not there."""

import json
import math
import os
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from shared.atomic import replacing, write_json
from shared.errors import CheckpointError
from shared.module_groups import ModuleGroups
from shared.weights import weights_sha256

SCHEMA = 1
METRICS = "metrics.json"

_FOLDER = re.compile(r"e(\d{4,})")


class SnapshotStore:
    """The folder `snapshots/e0012/{<group>.safetensors, metrics.json}`; a snapshot exists once its metrics.json does.

    Args:
        folder: The folder `snapshots`; made when the first snapshot is written.
        groups: Groups of the network that the snapshots must fit; None: files are read as they are.
    """

    def __init__(self, folder: Path, groups: ModuleGroups | None = None) -> None:
        self.folder = Path(folder)
        self.groups = groups
        self._checked: set[tuple[str, int, int]] = set()

    def path(self, epoch: int) -> Path:
        """Folder of an epoch, whether there or not."""
        return self.folder / f"e{epoch:04d}"

    def write(
        self, epoch: int, step: int, parts: Mapping[str, Mapping[str, Tensor]], metrics: Mapping[str, float]
    ) -> None:
        """Write one snapshot; what lay under that epoch is replaced.

        A group with the same bytes as in the snapshot before is a hard link to that file (a copy where the file system
        has no links), and its entry in metrics.json says so.

        Args:
            epoch: Number of the epoch, from 0.
            step: Optimiser steps so far.
            parts: Group -> its tensors, on the CPU.
            metrics: Values of that epoch; NaN and infinity become null.

        Raises:
            CheckpointError: If it cannot be written (full disk, permissions); then it does not exist at all, and the
                snapshots before it are untouched.
        """
        folder = self.path(epoch)
        try:
            self.remove(epoch)
            folder.mkdir(parents=True)
            before = max((known for known in self.epochs() if known < epoch), default=None)
            entries = {group: self._write_group(epoch, step, group, part, before) for group, part in parts.items()}
            values = {key: value if math.isfinite(value) else None for key, value in metrics.items()}
            write_json(
                folder / METRICS,
                {"schema": SCHEMA, "epoch": epoch, "step": step, "metrics": values, "groups": entries},
            )
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if not isinstance(error, OSError | SafetensorError):
                raise
            raise CheckpointError(
                f"snapshot {folder} cannot be written ({error}); the snapshots before it are untouched; free disk "
                "space, then go on with resume=auto"
            ) from error

    def _write_group(
        self, epoch: int, step: int, group: str, part: Mapping[str, Tensor], before: int | None
    ) -> dict[str, Any]:
        """Write or link one group's file.

        Returns:
            Its entry in metrics.json.
        """
        path = self.path(epoch) / f"{group}.safetensors"
        entry: dict[str, Any] = {"sha256": weights_sha256(part), "same_as": None, "linked": False}
        earlier = None if before is None else self._same(before, group, entry["sha256"])
        if earlier is not None:
            entry["same_as"] = before
            entry["linked"] = _link_or_copy(earlier, path)
        else:
            metadata = {"epoch": str(epoch), "step": str(step), "group": group}
            with replacing(path) as temporary:
                save_file({name: tensor.contiguous() for name, tensor in part.items()}, temporary, metadata)
        return {**entry, "bytes": path.stat().st_size}

    def _same(self, epoch: int, group: str, sha256: str) -> Path | None:
        """The file of an earlier snapshot with these tensors, unless something has shortened or removed it."""
        entry = self.record(epoch)["groups"].get(group)
        path = self.path(epoch) / f"{group}.safetensors"
        if entry is None or entry["sha256"] != sha256 or entry.get("thinned"):
            return None
        return path if path.is_file() and path.stat().st_size == entry["bytes"] else None

    def epochs(self) -> list[int]:
        """Epochs of the complete snapshots, ascending."""
        return sorted(epoch for epoch in self._all_folders() if (self.path(epoch) / METRICS).is_file())

    def record(self, epoch: int) -> dict[str, Any]:
        """The whole metrics.json of a snapshot: schema, epoch, step, metrics, and per group sha256, bytes, same_as.

        A group whose file was thinned out has "thinned": true as well.

        Raises:
            CheckpointError: If there is no such snapshot, or the file is not its record.
        """
        path = self.path(epoch) / METRICS
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            known = ", ".join(map(str, self.epochs())) or "none"
            raise CheckpointError(f"there is no snapshot {path.parent}; epochs with one: {known}") from None
        except (OSError, ValueError) as error:
            raise CheckpointError(f"snapshot record {path} cannot be read: {error}") from error
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise CheckpointError(f"snapshot record {path} is not one of schema {SCHEMA}; other schemas cannot be read")
        return content

    def metrics(self, epoch: int) -> dict[str, float]:
        """Values of a snapshot's epoch, NaN where they were not finite.

        Raises:
            CheckpointError: As `record`.
        """
        values = self.record(epoch)["metrics"]
        return {key: math.nan if value is None else float(value) for key, value in values.items()}

    def load(self, epoch: int, group: str, expected: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, Tensor]:
        """Tensors of one group, on the CPU; the first reading compares their sha256 with the record.

        Args:
            epoch: Number of the epoch.
            group: Name of the group.
            expected: Names and shapes that the file must hold; None: those of `groups`, where given.

        Raises:
            CheckpointError: If the file is missing, truncated, damaged, or of another architecture.
        """
        path, entry = self._entry(epoch, group, self.record(epoch)["groups"])
        part = self._read(path, entry)
        if expected is None and self.groups is not None and group in self.groups.members:
            expected = self.groups.expected(group)
        if expected is not None:
            _check_form(path, part, expected)
        return part

    def _entry(self, epoch: int, group: str, entries: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
        """File of a group and its entry in metrics.json, after a look at the file's size."""
        path = self.path(epoch) / f"{group}.safetensors"
        if group not in entries:
            raise CheckpointError(f"snapshot {path.parent} has no module group {group}; it has {', '.join(entries)}")
        if entries[group].get("thinned"):
            raise CheckpointError(f"snapshot {path.parent} no longer has the module group {group}: it was thinned out")
        size = path.stat().st_size if path.is_file() else None
        if size != entries[group]["bytes"]:
            found = "it is missing" if size is None else f"it has {size} bytes, {entries[group]['bytes']} were written"
            raise CheckpointError(f"snapshot file {path} cannot be used: {found}")
        return path, dict(entries[group])

    def _read(self, path: Path, entry: Mapping[str, Any]) -> dict[str, Tensor]:
        """Read a file and compare its tensors with its entry in metrics.json."""
        try:
            found = path.stat()
            with safe_open(path, framework="pt", device="cpu") as stream:
                part = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a dict
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"snapshot file {path} cannot be used: {error}") from error
        identity = (entry["sha256"], found.st_ino, found.st_mtime_ns)
        if identity not in self._checked and weights_sha256(part) != entry["sha256"]:
            raise CheckpointError(f"snapshot file {path} cannot be used: its tensors are not those that were written")
        self._checked.add(identity)
        return part

    def fault(self, epoch: int) -> str | None:
        """What is wrong with a snapshot, as a sentence, or None; looks at names and sizes of its files only.

        A group that was thinned out is no fault.
        """
        try:
            entries = self.record(epoch)["groups"]
            for group in entries if self.groups is None else self.groups.names:
                if not entries.get(group, {}).get("thinned"):
                    self._entry(epoch, group, entries)
        except CheckpointError as error:
            return str(error)
        return None

    def has(self, epoch: int, group: str) -> bool:
        """Whether a snapshot still has a group's file; False also for a group that its record does not know.

        Raises:
            CheckpointError: As `record`.
        """
        entry = self.record(epoch)["groups"].get(group)
        return entry is not None and not entry.get("thinned")

    def is_whole(self, epoch: int) -> bool:
        """Whether none of a snapshot's groups was thinned out, so that it is a network by itself.

        Raises:
            CheckpointError: As `record`.
        """
        return not any(entry.get("thinned") for entry in self.record(epoch)["groups"].values())

    def thin_group(self, group: str, keep: Collection[int]) -> list[int]:
        """Remove one group's file from all complete snapshots but some; their values and other groups stay.

        Returns:
            The epochs whose snapshot has lost it, by this call or one before.
        """
        found = []
        for epoch in self.epochs():
            record = self.record(epoch)
            entry = record["groups"].get(group)
            if entry is None or (epoch in keep and not entry.get("thinned")):
                continue
            if not entry.get("thinned"):
                entry["thinned"] = True
                write_json(self.path(epoch) / METRICS, record)  # first: a file too many is no fault, a missing one is
            (self.path(epoch) / f"{group}.safetensors").unlink(missing_ok=True)
            found.append(epoch)
        return found

    def remove(self, epoch: int) -> None:
        """Remove a snapshot, or what is left of one; links of later snapshots to its files stay whole."""
        folder = self.path(epoch)
        (folder / METRICS).unlink(missing_ok=True)  # first, so that a kill leaves no snapshot without its files
        if folder.is_dir():
            shutil.rmtree(folder)

    def remove_all_but(self, keep: Collection[int]) -> list[int]:
        """Remove all other epochs' folders, incomplete ones too.

        Returns:
            The epochs removed.
        """
        strays = sorted(set(self._all_folders()) - set(keep))
        for epoch in strays:
            self.remove(epoch)
        return strays

    def size_bytes(self) -> int:
        """Disk taken by all files, one with several links counted once."""
        sizes = {}
        for epoch in self._all_folders():
            for path in self.path(epoch).iterdir():
                found = path.stat()
                sizes[found.st_ino] = found.st_size
        return sum(sizes.values())

    def thin(self, max_bytes: int, keep: Collection[int], loss: Mapping[int, float]) -> list[int]:
        """Remove the snapshots with the worst loss until the rest fits; equal calls remove equal snapshots.

        Args:
            max_bytes: Disk that the snapshots may take.
            keep: Epochs that stay, even where all of them together do not fit.
            loss: Epoch -> loss, lower is better; absent or NaN is worse than any number; of equals the earlier goes.

        Returns:
            The epochs removed, in that order.
        """
        removed = []
        candidates = sorted(set(self.epochs()) - set(keep), key=lambda epoch: (-_badness(loss.get(epoch)), epoch))
        while candidates and self.size_bytes() > max_bytes:
            removed.append(candidates.pop(0))
            self.remove(removed[-1])
        return removed

    def _all_folders(self) -> list[int]:
        """Epochs that have a folder, complete or not."""
        if not self.folder.is_dir():
            return []
        matches = [_FOLDER.fullmatch(path.name) for path in self.folder.iterdir() if path.is_dir()]
        return sorted(int(match.group(1)) for match in matches if match)


def _link_or_copy(earlier: Path, path: Path) -> bool:
    """Give a file a second name; a copy where the file system knows no links.

    Returns:
        Whether it is a link.
    """
    try:
        os.link(earlier, path)
    except OSError:
        with replacing(path) as temporary:
            shutil.copyfile(earlier, temporary)
        return False
    return True


def _check_form(path: Path, part: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise CheckpointError unless names and shapes are the expected ones."""
    missing = [name for name in expected if name not in part]
    if missing:
        raise CheckpointError(f"snapshot file {path} does not fit this network: {missing[0]} is missing from it")
    for name, tensor in part.items():
        if name not in expected:
            raise CheckpointError(f"snapshot file {path} does not fit this network, which has no tensor {name}")
        if tensor.shape != torch.Size(expected[name]):
            raise CheckpointError(
                f"snapshot file {path} does not fit this network: {name} has shape {tuple(tensor.shape)}, "
                f"{tuple(expected[name])} is needed"
            )


def _badness(loss: float | None) -> float:
    return math.inf if loss is None or math.isnan(loss) else loss
