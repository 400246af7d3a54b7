"""The finished data set as arrays, for training and evaluation; read only after its manifest vouches for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projects.pillsnap.chain.captures import OTHER, PhotoRow, read_captures
from projects.pillsnap.chain.class_mapping import read_mapping
from projects.pillsnap.chain.files import CAPTURES, MANIFEST, command, sha256_files
from projects.pillsnap.chain.manifest_file import read_manifest
from projects.pillsnap.chain.splits_file import OTHER_PARTS, read_splits
from shared.errors import DataError
from shared.folds import FOLDS


@dataclass(frozen=True, eq=False)
class PillDataset:
    """All photos of a data set, one row each, sorted by path.

    Attributes:
        root: Folder of the data set.
        classes: K-codes in the order of the class index, C of them.
        names: Names of the drugs, in the same order.
        metadata: K-code -> name, manufacturer, form, weight and what else the list of drugs says.
        paths: N paths below `root`, '/' separated.
        label: (N,) int16 class index.
        kcode: N K-codes.
        group: N names of what a split keeps together: one pill and sitting.
        domain: N times "studio" or "real".
        fold: (N,) int8 position in `shared.folds.FOLDS`.
        sha256: N sha256 of the files' bytes, hexadecimal.
        size: (N,) int64 bytes of the files.
        others: "tune" and "test" -> (path, kcode) of photos of drugs that are none of the classes; no drug is in both.
        manifest: What `manifest.json` holds; `preprocessing` and `preprocessing_digest` among it.
    """

    root: Path
    classes: tuple[str, ...]
    names: tuple[str, ...]
    metadata: Mapping[str, Mapping[str, Any]]
    paths: list[str]
    label: NDArray[np.int16]
    kcode: list[str]
    group: list[str]
    domain: list[str]
    fold: NDArray[np.int8]
    sha256: list[str]
    size: NDArray[np.int64]
    others: dict[str, list[tuple[str, str]]]
    manifest: dict[str, Any]

    def __len__(self) -> int:
        return len(self.paths)


def read_dataset(dataset: Path, *, check_bytes: bool = False) -> PillDataset:
    """Read a data set that `map_classes`, `integrate`, `split` and `manifest` made.

    Mapping, captures, statistics and splits must be the files that the manifest hashed, and each photo must be there
    with the size it had (one `stat` each, 10,000 in about 0.1 s).

    Args:
        dataset: Folder of the data set.
        check_bytes: Also hash each photo and compare.

    Raises:
        DataError: A file is missing, damaged or not the one that was hashed: which, what was found and expected, and
            which command to run.
    """
    manifest = read_manifest(dataset)
    mapping = read_mapping(dataset)
    rows = read_captures(dataset)
    splits = read_splits(dataset, rows, mapping, manifest["hashes"][CAPTURES])
    check_files(dataset, rows, check_bytes=check_bytes)
    known = [row for row in rows if row.domain != OTHER]
    index = mapping.class_to_idx
    others: dict[str, list[tuple[str, str]]] = {name: [] for name in OTHER_PARTS}
    for row in rows:
        if row.domain == OTHER:
            others[splits.part[row.path]].append((row.path, row.kcode))
    return PillDataset(
        root=dataset,
        classes=mapping.classes,
        names=mapping.names,
        metadata=mapping.metadata,
        paths=[row.path for row in known],
        label=np.array([index[row.kcode] for row in known], dtype=np.int16),
        kcode=[row.kcode for row in known],
        group=[row.group for row in known],
        domain=[row.domain for row in known],
        fold=np.array([FOLDS.index(splits.fold[row.path]) for row in known], dtype=np.int8),
        sha256=[row.sha256 for row in known],
        size=np.array([row.size for row in known], dtype=np.int64),
        others=others,
        manifest=manifest,
    )


def check_files(dataset: Path, rows: list[PhotoRow], *, check_bytes: bool, on_progress: Any = None) -> None:
    """Refuse photos that are missing or are not those that were integrated.

    Args:
        dataset: Folder of the data set.
        rows: The photos.
        check_bytes: Hash each photo; otherwise only its size is compared.
        on_progress: Called with (photos hashed, photos in all).

    Raises:
        DataError: Names the first such photo and the command to run.
    """
    remedy = f"run `{command(CAPTURES)}` again, then split and {command(MANIFEST).rpartition('.')[2]}"
    for row in rows:
        path = dataset / row.path
        try:
            size = path.stat().st_size
        except OSError as error:
            if path.is_symlink():
                raise DataError(
                    f"{path} links to {path.readlink()}, which is not there: studio photos are linked, not copied; "
                    f"keep the studio root where it stood beside the data set, or {remedy}."
                ) from error
            raise DataError(f"the photo {path} is missing ({error.strerror}); {remedy}.") from error
        if size != row.size:
            raise DataError(f"the photo {path} has {size} bytes, {row.size} were integrated; {remedy}.")
    if not check_bytes:
        return
    for row, (sha256, _) in zip(rows, sha256_files([dataset / row.path for row in rows], on_progress), strict=True):
        if sha256 != row.sha256:
            raise DataError(
                f"the photo {dataset / row.path} has sha256 {sha256[:12]}, {row.sha256[:12]} was integrated: "
                f"its bytes changed since; {remedy}."
            )
