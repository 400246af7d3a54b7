"""All samples of a data set as arrays: ids, groups, labels, content digests, metadata; no Python object per image."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.atomic import replacing
from shared.errors import DataError
from shared.packed_strings import PackedStrings, checked_rows

__all__ = ["DIGEST_BYTES", "SOURCES", "PackedStrings", "SampleIndex"]

DIGEST_BYTES = 16
"""Length of a content digest: blake2b-128 of the file's bytes; all zero means that it was not computed."""

SOURCES: tuple[str, ...] = ("stand-in", "real")

_FORMAT = "sample-index-1"


@dataclass(frozen=True, eq=False)
class SampleIndex:
    """The table of all samples; every other table refers to its rows.

    Attributes:
        ids: N unique sample ids: path below the data root, '/' separated.
        group: (N,) int32 code into `group_names`; samples of a group never part (one battery, one pill, one story).
        group_names: Unique names of the groups; groups without a sample are allowed, since `take` keeps the table.
        label: (N,) int16 code into `classes`.
        classes: Unique class names.
        digest: (N, 16) uint8, blake2b-128 of the file's bytes, zeros where it was not computed.
        meta: Categorical metadata, key -> (N,) int16 code into `meta_names[key]`, -1 where missing.
        meta_names: Key -> value names.
        numbers: Numeric columns, key -> (N,) float32, NaN where missing, e.g. width_px, file_bytes.
        source: "stand-in" for generated data, "real" otherwise.

    Raises:
        DataError: A length, dtype or code is wrong, or an id, group or class name occurs twice.
    """

    ids: PackedStrings
    group: NDArray[np.int32]
    group_names: PackedStrings
    label: NDArray[np.int16]
    classes: tuple[str, ...]
    digest: NDArray[np.uint8]
    meta: dict[str, NDArray[np.int16]]
    meta_names: dict[str, tuple[str, ...]]
    numbers: dict[str, NDArray[np.float32]]
    source: str

    def __post_init__(self) -> None:
        rows = len(self.ids)
        if self.source not in SOURCES:
            raise DataError(f"the source of a sample index is {self.source!r}; allowed are {', '.join(SOURCES)}.")
        _check_column("group", self.group, np.int32, (rows,))
        _check_column("label", self.label, np.int16, (rows,))
        _check_column("digest", self.digest, np.uint8, (rows, DIGEST_BYTES))
        _check_codes("group", self.group, 0, len(self.group_names))
        _check_codes("label", self.label, 0, len(self.classes))
        if self.meta.keys() != self.meta_names.keys():
            raise DataError(
                f"metadata has columns {sorted(self.meta)} but names for {sorted(self.meta_names)}; they must agree."
            )
        for key, codes in self.meta.items():
            _check_column(f"meta[{key!r}]", codes, np.int16, (rows,))
            _check_codes(f"meta[{key!r}]", codes, -1, len(self.meta_names[key]))
        for key, values in self.numbers.items():
            _check_column(f"numbers[{key!r}]", values, np.float32, (rows,))
        self._check_names()

    def _check_names(self) -> None:
        """Refuse empty or repeated ids, group names and class names."""
        for what, names in (("sample id", self.ids), ("group name", self.group_names)):
            empty = np.flatnonzero(np.diff(names.offsets) == 0)
            if len(empty):
                raise DataError(f"{what} {empty[0]} of the sample index is empty.")
            duplicate = names.first_duplicate()
            if duplicate is not None:
                raise DataError(f"{what} {duplicate!r} stands twice in the sample index; each must be unique.")
        if len(set(self.classes)) != len(self.classes):
            raise DataError(f"the classes {self.classes} of the sample index are not unique.")

    def __len__(self) -> int:
        return len(self.ids)

    def group_name(self, row: int) -> str:
        """Return the name of the group that sample `row` belongs to."""
        return self.group_names[int(self.group[row])]

    def has_digest(self) -> NDArray[np.bool_]:
        """Return (N,) bool: whether the content digest was computed, that is, is not all zero."""
        return np.asarray(self.digest.any(axis=1), dtype=np.bool_)

    def take(self, rows: NDArray[np.int64]) -> "SampleIndex":
        """Return the samples at `rows`, (M,) distinct, in that order; group codes and names are kept.

        Raises:
            IndexError: A row does not exist, or `rows` are not integers.
            DataError: A row is asked for twice, since ids are unique.
        """
        rows = checked_rows(rows, len(self))
        return SampleIndex(
            ids=self.ids.take(rows),
            group=self.group[rows],
            group_names=self.group_names,
            label=self.label[rows],
            classes=self.classes,
            digest=self.digest[rows],
            meta={key: codes[rows] for key, codes in self.meta.items()},
            meta_names=dict(self.meta_names),
            numbers={key: values[rows] for key, values in self.numbers.items()},
            source=self.source,
        )

    def data_hash(self) -> str:
        """Return the sha256 (hex) over ids, labels with class names, groups with their names, and digests, in order."""
        parts = (
            self.ids.buffer,
            self.ids.offsets.astype("<i8", copy=False),
            self.label.astype("<i2", copy=False),
            self.group.astype("<i4", copy=False),
            self.group_names.buffer,
            self.group_names.offsets.astype("<i8", copy=False),
            self.digest,
            np.frombuffer(json.dumps(self.classes).encode(), dtype=np.uint8),
        )
        sha = hashlib.sha256()
        for part in parts:
            # The length goes in first: otherwise bytes could move from one part to the next unseen.
            sha.update(part.nbytes.to_bytes(8, "little"))
            sha.update(np.ascontiguousarray(part).data if part.nbytes else b"")
        return sha.hexdigest()

    def save(self, path: Path) -> None:
        """Write the index to `path` (.npz) atomically; nothing in it is pickled."""
        header = {
            "format": _FORMAT,
            "source": self.source,
            "classes": self.classes,
            "meta": list(self.meta),
            "meta_names": [self.meta_names[key] for key in self.meta],
            "numbers": list(self.numbers),
        }
        arrays: dict[str, NDArray[Any]] = {
            "header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8),
            "ids_buffer": self.ids.buffer,
            "ids_offsets": self.ids.offsets,
            "group": self.group,
            "group_buffer": self.group_names.buffer,
            "group_offsets": self.group_names.offsets,
            "label": self.label,
            "digest": self.digest,
        }
        # Columns are numbered, their names stand in the header: a column may be called anything.
        arrays |= {f"meta_{i}": codes for i, codes in enumerate(self.meta.values())}
        arrays |= {f"numbers_{i}": values for i, values in enumerate(self.numbers.values())}
        with replacing(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> "SampleIndex":
        """Read an index that `save` wrote.

        Raises:
            DataError: The file is missing, truncated, of another kind, or its content is not a valid index.
        """
        if not path.is_file():
            raise DataError(f"sample index {path} does not exist; scan the data set again to build it.")
        try:
            with np.load(path, allow_pickle=False) as stored:
                return _from_arrays(stored)
        # One flipped byte can surface as nearly any exception of zipfile, zlib, struct, ast, numpy or json.
        except Exception as error:
            raise DataError(
                f"{path} is damaged or no sample index ({type(error).__name__}: {error}); "
                "delete it and scan the data set again."
            ) from error


def _from_arrays(stored: Any) -> SampleIndex:
    """Build the index from what `np.load` returned; any exception means a foreign or damaged file."""
    if not isinstance(stored, Mapping):
        raise ValueError("it holds a single array")
    header = json.loads(stored["header"].tobytes())
    if header["format"] != _FORMAT:
        raise ValueError(f"its format is {header['format']!r}, not {_FORMAT!r}")
    meta_keys: list[str] = header["meta"]
    return SampleIndex(
        ids=PackedStrings(stored["ids_buffer"], stored["ids_offsets"]),
        group=stored["group"],
        group_names=PackedStrings(stored["group_buffer"], stored["group_offsets"]),
        label=stored["label"],
        classes=tuple(header["classes"]),
        digest=stored["digest"],
        meta={key: stored[f"meta_{i}"] for i, key in enumerate(meta_keys)},
        meta_names={key: tuple(names) for key, names in zip(meta_keys, header["meta_names"], strict=True)},
        numbers={key: stored[f"numbers_{i}"] for i, key in enumerate(header["numbers"])},
        source=header["source"],
    )


def _check_column(name: str, column: NDArray[Any], dtype: type, shape: tuple[int, ...]) -> None:
    """Refuse a column of another dtype or shape."""
    if not isinstance(column, np.ndarray) or column.dtype != dtype or column.shape != shape:
        found = f"{column.dtype} of shape {column.shape}" if isinstance(column, np.ndarray) else type(column).__name__
        raise DataError(f"column {name} of the sample index must be {np.dtype(dtype)} of shape {shape}, found {found}.")


def _check_codes(name: str, codes: NDArray[Any], lowest: int, stop: int) -> None:
    """Refuse codes outside lowest .. stop - 1."""
    if len(codes) and (codes.min() < lowest or codes.max() >= stop):
        raise DataError(
            f"column {name} of the sample index holds codes from {codes.min()} to {codes.max()}; "
            f"allowed are {lowest} to {stop - 1}."
        )
