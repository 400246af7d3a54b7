"""Builds the store of paired files: structures are read once, checked, packed, and never needed again."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from projects.spectra.data.npy_file import NpyFile
from projects.spectra.data.npy_pairs import Pair, Pairs, chunks, open_pairs, structure_bits
from projects.spectra.data.store import CurveStore, digests, load_or_build
from projects.spectra.spectrum import cells_from_rgb
from projects.spectra.symmetry import pattern_groups
from shared.errors import DataError
from shared.sample_index import PackedStrings, SampleIndex

_FORMAT = "spectra-pairs-1"

OnProgress = Callable[[int, int], None]
"""Called with (rows read, rows in all)."""


def pairs_store(
    struct_files: Sequence[str | Path],
    spectra_files: Sequence[str | Path],
    root: Path,
    *,
    sign: str,
    allow_asymmetric: bool,
    num_wavelengths: int,
    source: str,
    on_progress: OnProgress | None = None,
) -> tuple[CurveStore, SampleIndex, list[str]]:
    """Return the store of paired files, from `root` where these files were read before.

    "These" is judged by path, size and modification time. Groups are patterns with all their variants.

    Args:
        struct_files: As in `open_pairs`, likewise `spectra_files`, `sign` and `allow_asymmetric`.
        spectra_files: See there.
        root: Folder of all stores.
        sign: See there.
        allow_asymmetric: See there.
        num_wavelengths: Wavelengths of a cell.
        source: "stand-in" or "real".
        on_progress: Called after each chunk, not at all when the cache serves.

    Returns:
        Store, index in the order of its rows, and findings, one sentence each.

    Raises:
        ConfigError: As `open_pairs`.
        DataError: As `open_pairs`; or a structure has other values than two levels, or is not symmetric.
    """
    key = {
        "format": _FORMAT,
        "structures": [file_stamp(Path(file)) for file in struct_files],
        "spectra": [file_stamp(Path(file)) for file in spectra_files],
        "sign": sign,
        "allow_asymmetric": allow_asymmetric,
        "num_wavelengths": num_wavelengths,
        "source": source,
    }

    def fill(folder: Path) -> tuple[SampleIndex, list[str]]:
        pairs = open_pairs(struct_files, spectra_files, sign=sign, allow_asymmetric=allow_asymmetric)
        findings = [*pairs.findings, *_write(folder, pairs, num_wavelengths, on_progress)]
        bits = np.load(folder / "bits.npy", mmap_mode="r")
        return _index(pairs, bits, source), findings

    return load_or_build(root, key, fill)


def file_stamp(path: Path) -> list[str | int]:
    """Return what tells a file from a changed one: where it is, bytes, time of the last change in ns.

    A missing one has -1 for both numbers: whoever reads the file then says so.
    """
    try:
        status = path.stat()
    except OSError:
        return [str(path), -1, -1]
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def _write(folder: Path, pairs: Pairs, num_wavelengths: int, on_progress: OnProgress | None) -> list[str]:
    """Write bits.npy and target.npy chunk by chunk; return findings."""
    bits = open_memmap(folder / "bits.npy", "w+", np.uint8, (pairs.num_kept, pairs.side_px**2 // 8))
    target = open_memmap(folder / "target.npy", "w+", np.float32, (pairs.num_kept, 2, 2, num_wavelengths))
    total, read, place = sum(len(pair.kept) for pair in pairs.pairs), 0, 0
    asymmetric: list[tuple[Pair, int]] = []
    for pair in pairs.pairs:
        high = _high_level(pair)
        for start, stop in chunks(len(pair.kept)):
            keep = np.flatnonzero(pair.kept[start:stop])
            values = pair.structures.rows(start, stop)[keep]
            _check_levels(pair.structures, values, high, start + keep)
            odd = np.flatnonzero((values != values.swapaxes(2, 3)).any(axis=(1, 2, 3)))
            asymmetric += [(pair, row) for row in (start + keep[odd]).tolist()]
            bits[place : place + len(keep)] = structure_bits(values, high)
            curves = pairs.factor * pair.spectra.rows(start, stop)[keep].astype(np.float64)
            target[place : place + len(keep)] = cells_from_rgb(curves, num_wavelengths)
            place, read = place + len(keep), read + stop - start
            if on_progress is not None:
                on_progress(read, total)
    bits.flush()
    target.flush()
    return _asymmetry_findings(pairs, asymmetric)


def _high_level(pair: Pair) -> int:
    """Return the upper one of the two levels, 1 or 255, from the first row that is not empty."""
    for start, stop in chunks(len(pair.kept)):
        largest = int(pair.structures.rows(start, stop)[pair.kept[start:stop]].max(initial=0))
        if largest > 0:
            return 1 if largest == 1 else 255
    return 255


def _check_levels(file: NpyFile, values: NDArray[Any], high: int, rows: NDArray[np.int64]) -> None:
    wrong = ((values != 0) & (values != high)).any(axis=(1, 2, 3))
    if not wrong.any():
        return
    first = int(np.flatnonzero(wrong)[0])
    found = np.unique(values[first])
    shown = ", ".join(str(value) for value in found[:5].tolist()) + (", ..." if len(found) > 5 else "")
    raise DataError(
        f"{file.path} has other values than two levels, first in row {rows[first]}: {shown}; "
        "a structure must hold 0 and 255, or 0 and 1, the same two in the whole file."
    )


def _asymmetry_findings(pairs: Pairs, asymmetric: list[tuple[Pair, int]]) -> list[str]:
    if not asymmetric:
        return []
    pair, row = asymmetric[0]
    what = (
        f"{len(asymmetric):,} of {pairs.num_kept:,} patterns are not symmetric about the main diagonal, "
        f"first row {row} of {pair.structures.path}"
    )
    if not pairs.allow_asymmetric:
        raise DataError(f"{what}; set data.allow_asymmetric=true if that is meant.")
    return [
        f"{what}: the files have one G, the mean of both, so the two G quadrants of the cell get the same target, "
        "which they do not have in truth"
    ]


def _index(pairs: Pairs, bits: NDArray[np.uint8], source: str) -> SampleIndex:
    group = pattern_groups(bits, pairs.side_px)
    num_groups = int(group.max()) + 1
    ids = (f"{pair.name}#{row}" for pair in pairs.pairs for row in np.flatnonzero(pair.kept).tolist())
    return SampleIndex(
        ids=PackedStrings.pack(ids),
        group=group,
        group_names=PackedStrings.pack(f"pattern {number}" for number in range(num_groups)),
        label=np.zeros(len(bits), dtype=np.int16),
        classes=("structure",),
        digest=digests(bits),
        meta={},
        meta_names={},
        numbers={},
        source=source,
    )
