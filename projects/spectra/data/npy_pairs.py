"""Paired structure and spectra files: headers, pairing, sign and padding, all before a structure is read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projects.spectra.data.npy_file import NpyFile, open_npy
from projects.spectra.spectrum import FILE_BANDS, FILE_CHANNELS
from shared.errors import ConfigError, DataError

SIGNS = ("auto", "negative", "positive")

CHUNK = 1024
"""Rows read at once: 16 MB of structures."""

ROUNDING = 1e-3
"""A value of the other sign, up to this share of the largest, is the rounding of a solver and not another sign."""


@dataclass(frozen=True)
class Pair:
    """One structure file with its spectra file.

    Attributes:
        name: What sample ids begin with: folder and name of the structure file, or its path where two have the same.
        structures: (N, 1, S, S) bool or integer.
        spectra: (N, 3, 301) floating point.
        kept: (N,) bool, false for padding rows, whose spectra are all zero.
    """

    name: str
    structures: NpyFile
    spectra: NpyFile
    kept: NDArray[np.bool_]


@dataclass(frozen=True)
class Pairs:
    """All pairs of a data set, checked as far as the spectra tell.

    Attributes:
        pairs: In the order given.
        side_px: Side of the structures, a multiple of 16.
        factor: -1.0 where the stored power is negative, otherwise 1.0.
        allow_asymmetric: Whether a pattern may be without the symmetry about its main diagonal.
        findings: One sentence each.
    """

    pairs: tuple[Pair, ...]
    side_px: int
    factor: float
    allow_asymmetric: bool
    findings: tuple[str, ...]

    @property
    def num_kept(self) -> int:
        """Samples that are no padding."""
        return sum(int(pair.kept.sum()) for pair in self.pairs)


def open_pairs(
    struct_files: Sequence[str | Path], spectra_files: Sequence[str | Path], *, sign: str, allow_asymmetric: bool
) -> Pairs:
    """Check paired files; reads the headers of all and the values of the spectra, chunk by chunk.

    Args:
        struct_files: Files of (N, 1, S, S) patterns of two levels, {0, 1} or {0, 255}; S a multiple of 16.
        spectra_files: As many files of (N, 3, 301) R, G, B power; a row of zeros is padding.
        sign: Sign of the stored power: "negative", "positive", or "auto" to read it off the values.
        allow_asymmetric: See `Pairs`.

    Raises:
        ConfigError: The sign is unknown, the lists differ in length or are empty, or a file stands there twice.
        DataError: A file is missing, damaged or of another shape or dtype; a pair differs in N; a value is not finite;
            signs are mixed or contradict `sign`; or all rows are padding.
    """
    if sign not in SIGNS:
        raise ConfigError(f"data.sign is {sign!r}; allowed are {', '.join(SIGNS)}")
    struct_paths, spectra_paths = _checked_lists(struct_files, spectra_files)
    # With the folder: files of two sets often have the same names, and a later run may build on this one.
    names = [f"{path.absolute().parent.name}/{path.name}" for path in struct_paths]
    if len(set(names)) < len(names):
        names = [path.as_posix() for path in struct_paths]
    opened = []
    for struct_path, spectra_path in zip(struct_paths, spectra_paths, strict=True):
        structures, spectra = _checked_structures(open_npy(struct_path)), _checked_spectra(open_npy(spectra_path))
        if len(structures) != len(spectra):
            raise DataError(
                f"{struct_path} has {len(structures):,} samples but its partner {spectra_path} {len(spectra):,}; "
                "a pair must have the same number."
            )
        opened.append((structures, spectra))
    sides = {structures.shape[-1]: structures.path for structures, _ in opened}
    if len(sides) > 1:
        (one, one_path), (other, other_path) = list(sides.items())[:2]
        raise DataError(f"{one_path} has structures of side {one}, {other_path} of side {other}; all must be equal.")
    scans = [_scan(spectra) for _, spectra in opened]
    pairs = tuple(
        Pair(name, structures, spectra, scan.kept)
        for name, (structures, spectra), scan in zip(names, opened, scans, strict=True)
    )
    findings = _padding_findings(pairs)
    factor, sign_findings = _decide_sign(pairs, scans, sign)
    return Pairs(pairs, next(iter(sides)), factor, allow_asymmetric, (*findings, *sign_findings))


def chunks(num_rows: int, size: int = CHUNK) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of consecutive stretches of at most `size` rows."""
    for start in range(0, num_rows, size):
        yield start, min(start + size, num_rows)


@dataclass(frozen=True)
class _Scan:
    kept: NDArray[np.bool_]
    lowest: float
    highest: float


def _checked_lists(
    struct_files: Sequence[str | Path], spectra_files: Sequence[str | Path]
) -> tuple[list[Path], list[Path]]:
    """Refuse lists that cannot be paired; turn them into paths."""
    for key, files in (("struct_files", struct_files), ("spectra_files", spectra_files)):
        if isinstance(files, str | Path):
            raise ConfigError(f"data.{key} is {str(files)!r}; it must be a list, as in data.{key}=[a.npy,b.npy]")
        paths = [Path(file).resolve() for file in files]
        twice = sorted({path.as_posix() for path in paths if paths.count(path) > 1})
        if twice:
            raise ConfigError(f"data.{key} names {twice[0]} twice; each file may stand there once")
    if len(struct_files) != len(spectra_files) or not struct_files:
        raise ConfigError(
            f"data.struct_files names {len(struct_files)} file(s) and data.spectra_files {len(spectra_files)}; "
            "they must be paired one to one, at least one pair"
        )
    return [Path(file) for file in struct_files], [Path(file) for file in spectra_files]


def _checked_structures(file: NpyFile) -> NpyFile:
    if len(file.shape) != 4 or file.shape[1] != 1 or file.shape[2] != file.shape[3] or file.shape[2] % 16:
        raise DataError(f"{file.path} has shape {file.shape}; structures must be (N, 1, S, S) with S a multiple of 16.")
    if file.shape[2] == 0 or len(file) == 0:
        raise DataError(f"{file.path} has shape {file.shape}: no sample at all.")
    if file.dtype.kind not in "bui":
        raise DataError(f"{file.path} holds {file.dtype}; structures must be uint8 (bool and other integers will do).")
    return file


def _checked_spectra(file: NpyFile) -> NpyFile:
    wanted = (len(FILE_CHANNELS), FILE_BANDS)
    if len(file.shape) != 3 or file.shape[1:] != wanted:
        raise DataError(f"{file.path} has shape {file.shape}; spectra must be (N, {wanted[0]}, {wanted[1]}).")
    if file.dtype.kind != "f":
        raise DataError(f"{file.path} holds {file.dtype}; spectra must be float32 (float16 and float64 will do).")
    return file


def _scan(file: NpyFile) -> _Scan:
    """Find padding rows and the range of the values; refuse what is not finite."""
    kept = np.ones(len(file), dtype=np.bool_)
    lowest, highest = 0.0, 0.0
    for start, stop in chunks(len(file)):
        values = file.rows(start, stop)
        low, high = float(values.min()), float(values.max())
        if not np.isfinite([low, high]).all():
            row, where, number = _first_bad(file, start)
            raise DataError(
                f"{file.path} has values that are not finite in {number} row(s), first in row {row} ({where}); "
                "remove these samples or set their rows to zero, which marks padding."
            )
        kept[start:stop] = values.any(axis=(1, 2))
        lowest, highest = min(lowest, low), max(highest, high)
    return _Scan(kept, lowest, highest)


def _first_bad(file: NpyFile, first_chunk: int) -> tuple[int, str, int]:
    """Return the first row that is not finite, what is there, and how many rows are like it."""
    rows: list[int] = []
    example = ""
    for start, stop in chunks(len(file)):
        if start < first_chunk:
            continue
        values = file.rows(start, stop)
        bad = np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))
        if len(bad) and not rows:
            channel, band = np.argwhere(~np.isfinite(values[bad[0]]))[0]
            example = f"{values[bad[0], channel, band]} in {FILE_CHANNELS[channel]}, band {band}"
        rows += (bad + start).tolist()
    return rows[0], example, len(rows)


def _padding_findings(pairs: tuple[Pair, ...]) -> list[str]:
    total = sum(len(pair.kept) for pair in pairs)
    dropped = total - sum(int(pair.kept.sum()) for pair in pairs)
    if dropped == total:
        raise DataError(
            f"all {total:,} rows of {', '.join(str(pair.spectra.path) for pair in pairs)} are zero, that is, padding: "
            "there is no sample to learn from."
        )
    return [f"{dropped:,} of {total:,} rows are padding (all zero) and are left out"] if dropped else []


def _decide_sign(pairs: tuple[Pair, ...], scans: Sequence[_Scan], sign: str) -> tuple[float, list[str]]:
    """Return the factor that makes the power positive, and what there is to say about it."""
    lowest, highest = min(scan.lowest for scan in scans), max(scan.highest for scan in scans)
    if min(-lowest, highest) > ROUNDING * max(-lowest, highest):
        low = pairs[int(np.argmin([scan.lowest for scan in scans]))].spectra.path
        high = pairs[int(np.argmax([scan.highest for scan in scans]))].spectra.path
        raise DataError(
            f"the spectra have both signs: down to {lowest:.4g} in {low}, up to {highest:.4g} in {high}; "
            "power must have one sign in all files."
        )
    found = "negative" if -lowest > highest else "positive"
    if sign not in ("auto", found):
        raise DataError(
            f"data.sign={sign} but the spectra are {found} ({lowest:.4g} to {highest:.4g}); "
            f"use data.sign={found} or data.sign=auto."
        )
    findings = []
    if found == "positive" and sign == "auto":
        findings.append("the spectra are already positive: their sign is left as it is (specified is negative)")
    small = min(-lowest, highest)
    if small > 0:
        findings.append(f"some values have the other sign, up to {small:.2g}: taken for rounding and kept")
    return (-1.0 if found == "negative" else 1.0), findings


def structure_bits(values: NDArray[Any], high: int) -> NDArray[np.uint8]:
    """Pack patterns, (M, 1, S, S) of 0 and `high`, into (M, S * S / 8) uint8 along x."""
    return np.packbits(values.reshape(len(values), values.shape[-1] ** 2) == high, axis=1)
