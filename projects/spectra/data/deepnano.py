"""DeepNanoDesign: simulated transmission of plasmonic structures in two polarisations, as images with curves."""

import zlib
from pathlib import Path
from typing import Any, ClassVar
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from projects.spectra.data.datamodule import CurveDataModule
from projects.spectra.data.pairs_store import file_stamp
from projects.spectra.data.store import CurveStore, digests, load_or_build
from shared.digests import equal_runs
from shared.errors import ConfigError, DataError
from shared.sample_index import PackedStrings, SampleIndex

TABLE, IMAGES = "geometry_spectra.csv.gz", "structures.npz"

WAVELENGTHS_NM: tuple[int, ...] = tuple(range(600, 1651, 25))
"""Wavelengths of the columns Tx_600 ... Ty_1650."""

CHANNELS: tuple[str, ...] = ("x polarisation", "y polarisation")

_COLUMNS = [f"T{polarisation}_{nm}" for polarisation in "xy" for nm in WAVELENGTHS_NM]
_NEEDED = ["row", "geom_id", "mat_id", "eps_host", *_COLUMNS]


class DeepNanoDataModule(CurveDataModule):
    """One material in one host: 64 x 64 image -> transmission (2, 43).

    Groups are geometries, joined where two geometries have the same image: the images leave some of the numbers out.

    Args:
        root: Folder with geometry_spectra.csv.gz and structures.npz.
        mat_id: Metal: 0 aluminium, 1 gold, 2 silver, 3 palladium.
        eps_host: Permittivity around it, as in the table.
        common: See `CurveDataModule`; `symmetry` must be "none": the curves belong to fixed axes.
    """

    network_keys: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *, root: str, mat_id: int, eps_host: float, **common: Any) -> None:
        super().__init__(**common)
        if self.symmetry != "none":
            raise ConfigError(f"data.symmetry is {self.symmetry!r}; for this set, whose curves are no cells, only none")
        self.root = Path(root)
        self.mat_id = mat_id
        self.eps_host = eps_host

    def build_store(self) -> tuple[CurveStore, SampleIndex, list[str]]:
        """Read table and images, or take the store of an earlier run."""
        stamps = [file_stamp(self.root / name) for name in (TABLE, IMAGES)]
        key = {"format": "deepnano-1", "files": stamps, "mat_id": self.mat_id, "eps_host": self.eps_host}

        def fill(folder: Path) -> tuple[SampleIndex, list[str]]:
            table, images = read_deepnano(self.root)
            rows = np.flatnonzero((table["mat_id"] == self.mat_id) & np.isclose(table["eps_host"], self.eps_host))
            if not len(rows):
                raise DataError(_no_rows(table, self.mat_id, self.eps_host))
            return _write(folder, table.iloc[rows], images[rows])

        return load_or_build(self.cache_folder / "spectra" / "indices", key, fill)

    def channels_and_axis(self) -> tuple[list[str], dict[str, Any]]:
        """Two polarisations over the wavelength."""
        return list(CHANNELS), {"name": "wavelength", "unit": "nm", "values": [float(nm) for nm in WAVELENGTHS_NM]}


def read_deepnano(root: Path) -> tuple[pd.DataFrame, NDArray[np.uint8]]:
    """Read and check the whole set.

    Returns:
        The table, and the images (N, 64, 64) uint8 of 0 and 1 in its order.

    Raises:
        DataError: A file is missing or damaged, a column is missing, a value is not finite, or table and images do not
            belong together.
    """
    table_path, images_path = root / TABLE, root / IMAGES
    for path in (table_path, images_path):
        if not path.is_file():
            raise DataError(f"{path} does not exist; data.root must hold {TABLE} and {IMAGES}.")
    try:
        table = pd.read_csv(table_path)
        # A plain array in place of an archive is no context manager: a TypeError.
        with np.load(images_path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ("images", "geom_id", "row")}
    except KeyError as error:
        raise DataError(f"{images_path} lacks an array: {error.args[0]}; images, geom_id, row are needed.") from error
    except (OSError, EOFError, TypeError, ValueError, BadZipFile, zlib.error) as error:
        raise DataError(f"{table_path} or {images_path} cannot be read ({type(error).__name__}: {error}).") from error
    missing = [column for column in _NEEDED if column not in table]
    if missing:
        raise DataError(f"{table_path} lacks {len(missing)} column(s), first {missing[0]!r}.")
    for column in _NEEDED:
        values = pd.to_numeric(table[column], errors="coerce")
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise DataError(f"{table_path}, line {row + 2}: {column} is {table[column][row]}, not a finite number.")
    images = arrays["images"]
    if images.ndim != 3 or images.shape[1] != images.shape[2] or images.shape[1] % 16 or images.dtype != np.uint8:
        raise DataError(f"images in {images_path} are {images.dtype} {images.shape}; allowed: uint8 (N, S, S), 16 | S.")
    if images.size and images.max() > 1:
        raise DataError(f"images in {images_path} hold {images.max()}; allowed are 0 and 1.")
    if len(images) != len(table):
        raise DataError(
            f"{images_path} has {len(images):,} images, {table_path} {len(table):,} rows; allowed: as many."
        )
    for name in ("geom_id", "row"):
        if not np.array_equal(arrays[name], table[name].to_numpy()):
            raise DataError(f"{name} in {images_path} is not that of {table_path}; the two must be in the same order.")
    return table, images


def joined_groups(geometry: NDArray[np.int64], image_code: NDArray[np.int64]) -> NDArray[np.int32]:
    """Number samples so that two share a number if a chain of equal geometries or equal images joins them.

    Args:
        geometry: (N,) codes.
        image_code: (N,) codes, equal for equal images.

    Returns:
        (N,) int32 from 0.

    Example:
        >>> joined_groups(np.array([1, 2, 2, 3]), np.array([7, 7, 8, 9])).tolist()
        [0, 0, 0, 1]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    left, right = (np.unique(codes, return_inverse=True)[1].reshape(-1) for codes in (geometry, image_code))
    num_left, size = int(left.max()) + 1, int(left.max()) + int(right.max()) + 2
    graph = coo_array((np.ones(len(left)), (left, num_left + right)), shape=(size, size))
    component = connected_components(graph, directed=False)[1][left]
    return np.unique(component, return_inverse=True)[1].reshape(-1).astype(np.int32)


def _write(folder: Path, table: pd.DataFrame, images: NDArray[np.uint8]) -> tuple[SampleIndex, list[str]]:
    bits = np.packbits(images.reshape(len(images), -1), axis=1)
    target = table[_COLUMNS].to_numpy(np.float32).reshape(len(table), len(CHANNELS), len(WAVELENGTHS_NM))
    np.save(folder / "bits.npy", bits)
    np.save(folder / "target.npy", target)
    digest, geometry = digests(bits), table["geom_id"].to_numpy(np.int64)
    order, start = equal_runs(digest)
    image_code = np.empty(len(bits), dtype=np.int64)
    image_code[order] = np.repeat(np.arange(len(start)), np.diff(np.append(start, len(bits))))
    group = joined_groups(geometry, image_code)
    num_geometries, num_groups = len(np.unique(geometry)), int(group.max()) + 1
    findings = []
    if num_groups < num_geometries:
        findings.append(
            f"{num_geometries:,} geometries have {len(start):,} distinct images; geometries with the same image "
            f"count as one group and stay in one fold: {num_groups:,} groups"
        )
    index = SampleIndex(
        ids=PackedStrings.pack(f"row {row}" for row in table["row"].tolist()),
        group=group,
        group_names=PackedStrings.pack(f"geometry {number}" for number in _first_geometry(group, geometry)),
        label=np.zeros(len(bits), dtype=np.int16),
        classes=("structure",),
        digest=digest,
        meta={},
        meta_names={},
        numbers={},
        source="real",
    )
    return index, findings


def _first_geometry(group: NDArray[np.int32], geometry: NDArray[np.int64]) -> list[int]:
    """Name each group after the geometry of its first sample."""
    return [int(number) for number in geometry[np.unique(group, return_index=True)[1]]]


def _no_rows(table: pd.DataFrame, mat_id: int, eps_host: float) -> str:
    there = sorted(
        {(int(mat), round(float(eps), 4)) for mat, eps in zip(table["mat_id"], table["eps_host"], strict=True)}
    )
    shown = ", ".join(f"({mat}, {eps:g})" for mat, eps in there[:8]) + (", ..." if len(there) > 8 else "")
    return f"no row has data.mat_id={mat_id} and data.eps_host={eps_host}; the pairs there are: {shown}."
