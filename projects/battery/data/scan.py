"""A folder of CT slices and JSON labels becomes a `SampleIndex`; every file is checked on the way, once."""

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from projects.battery.data.labels import (
    CLASSES,
    Label,
    LabelError,
    check_label,
    class_code,
    largest_defect,
    parse_label,
)
from projects.battery.data.listing import DEFAULT_PATTERN, Listing, compile_pattern, label_candidates, list_folder
from projects.battery.data.png import PngHeader, read_png_header
from shared.errors import ConfigError, DataError
from shared.sample_index import DIGEST_BYTES, PackedStrings, SampleIndex

BAD_FILE_CHOICES: tuple[str, ...] = ("raise", "skip")
META_COLUMNS: tuple[str, ...] = ("kind", "form", "axis")
BOX_COLUMNS: tuple[str, ...] = ("box_x_px", "box_y_px", "box_width_px", "box_height_px")
NUMBER_COLUMNS: tuple[str, ...] = ("width_px", "height_px", "file_bytes", "slice", "num_defects", *BOX_COLUMNS)

_BATCH = 1024  # images in flight: `map` over all of them at once would hold a future object for each

Progress = Callable[[int, int], None]
"""Called with (files done, files in all)."""


class SkippedFile(NamedTuple):
    """An image left out, with the sentence that says why and the sort of reason, a key of `BAD_FILE_KINDS`."""

    path: str
    reason: str
    kind: str


@dataclass(frozen=True)
class ScanResult:
    """The index, the files left out, and what the data's owner should know though nothing had to stop for it."""

    index: SampleIndex
    skipped: list[SkippedFile]
    findings: list[str]


class _Slice(NamedTuple):
    """One good image, on its way into the columns."""

    digest: bytes
    label: int
    group: str
    number: str  # the battery id as the file name has it
    meta: tuple[str | None, ...]
    numbers: tuple[float, ...]
    bit_depth: int


def scan_ct(
    root: Path,
    *,
    pattern: str = DEFAULT_PATTERN,
    on_bad_file: str = "raise",
    workers: int = 2,
    source: str = "real",
    on_progress: Progress | None = None,
    listing: Listing | None = None,
) -> ScanResult:
    """Scan all CT slices below `root`; each image's bytes are read once, for digest and PNG checks.

    The group of a slice is "<kind>_<battery>", e.g. "cell_0109": file names carry both, and nothing says that cells
    and modules are numbered jointly. If they are, the kind adds nothing; if they are not, it keeps apart two objects
    that share a number. The form is left out, so that a battery under two forms cannot land on both sides of a split.

    Args:
        root: Data root; images at any depth, labels beside them or in a parallel `labels` folder.
        pattern: Regular expression for the file name with the named groups kind, form, battery, axis, slice.
        on_bad_file: "raise" stops at the first bad file, "skip" leaves it out and lists it.
        workers: Threads that read; hashing releases the interpreter lock.
        source: "stand-in" or "real".
        on_progress: Called after each batch of files.
        listing: The folder's listing where the caller has it already.

    Returns:
        Index with meta columns kind, form, axis and number columns `NUMBER_COLUMNS`; the box is that of the largest
        defect that gives the slice its class, NaN without one.

    Raises:
        ConfigError: The pattern, `on_bad_file` or `workers` cannot be used.
        DataError: The folder is missing, empty or matches nothing; a file is bad; no good file is left.
    """
    if on_bad_file not in BAD_FILE_CHOICES:
        raise ConfigError(f"data.on_bad_file is {on_bad_file!r}; allowed are {', '.join(BAD_FILE_CHOICES)}.")
    if workers < 1:
        raise ConfigError(f"data.scan_workers is {workers}; it must be at least 1.")
    listing = listing or list_folder(root, pattern)
    columns = _Columns(len(listing.images))
    skipped: list[SkippedFile] = []
    read = _Reader(root, compile_pattern(pattern), listing.label_folders)
    for row, outcome in enumerate(_map_batches(read, listing.images, workers, on_progress)):
        if isinstance(outcome, _Slice):
            columns.add(row, outcome)
        elif on_bad_file == "raise":
            raise DataError(f"{outcome.reason.removesuffix('.')}, or leave such files out with data.on_bad_file=skip.")
        else:
            skipped.append(outcome)
    if columns.filled == 0:
        raise DataError(f"all {len(skipped)} images below {root} are bad; the first: {skipped[0].reason}")
    return ScanResult(columns.index(listing.images, source), skipped, _findings(listing, columns, skipped))


def _map_batches(
    read: Callable[[str], "_Slice | SkippedFile"], ids: PackedStrings, workers: int, on_progress: Progress | None
) -> Iterator["_Slice | SkippedFile"]:
    """Apply `read` to all ids in order, a bounded number in flight."""
    with ThreadPoolExecutor(workers) as pool:
        for first in range(0, len(ids), _BATCH):
            last = min(first + _BATCH, len(ids))
            yield from pool.map(read, (ids[row] for row in range(first, last)))
            if on_progress is not None:
                on_progress(last, len(ids))


class _Reader:
    """Reads and checks one image with its label."""

    def __init__(self, root: Path, pattern: re.Pattern[str], label_folders: frozenset[str]) -> None:
        self.root = root
        self.pattern = pattern
        self.label_folders = label_folders

    def __call__(self, image_id: str) -> _Slice | SkippedFile:
        try:
            return self._read(image_id)
        except LabelError as error:
            return SkippedFile(image_id, str(error), error.kind)
        except DataError as error:
            return SkippedFile(image_id, str(error), "bad image")

    def _read(self, image_id: str) -> _Slice:
        path = self.root / image_id
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"image {path} cannot be read ({error.strerror}); allow reading it.") from error
        header = read_png_header(content, str(path))
        label_path = self._label_path(image_id)
        label = parse_label(_read_label(label_path), str(label_path))
        check_label(label, path.name, header.width_px, header.height_px, str(label_path))
        return self._slice(path, content, header, label)

    def _slice(self, path: Path, content: bytes, header: PngHeader, label: Label) -> _Slice:
        match = self.pattern.fullmatch(path.name)
        assert match is not None  # the listing holds matching names only
        name = match.groupdict()
        try:
            slice_number = float(int(name["slice"]))
        except (TypeError, ValueError) as error:
            raise LabelError(
                "bad name", f"image {path} has slice {name['slice']!r} by data.file_pattern; it must be a whole number."
            ) from error
        if not name["battery"] or not name["axis"]:
            raise LabelError("bad name", f"image {path} has no battery or no axis by data.file_pattern; rename it.")
        largest = largest_defect(label.defects)
        box = largest.box if largest else (np.nan,) * 4
        return _Slice(
            digest=hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest(),
            label=class_code(name["kind"], label.defects, str(path)),
            group=f"{name['kind']}_{name['battery']}",
            number=name["battery"],
            meta=tuple(name[column] for column in META_COLUMNS),
            numbers=(header.width_px, header.height_px, len(content), slice_number, len(label.defects), *box),
            bit_depth=header.bit_depth,
        )

    def _label_path(self, image_id: str) -> Path:
        candidates = [self.root / place for place in label_candidates(image_id, self.label_folders)]
        if len(candidates) > 1:
            candidates = [place for place in candidates if place.is_file()]
        if len(candidates) > 1:
            raise LabelError(
                "two labels",
                f"image {self.root / image_id} has two labels, {candidates[0]} and {candidates[1]}; remove one.",
            )
        if not candidates or not candidates[0].is_file():
            raise LabelError(
                "no label",
                f"image {self.root / image_id} has no label: put its JSON beside it or into a folder 'labels'.",
            )
        return candidates[0]


def _read_label(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LabelError(
            "broken label", f"label {path} cannot be read ({error.strerror}); allow reading it."
        ) from error


class _Columns:
    """The columns of the index, allocated once for all listed images and filled with the good ones."""

    def __init__(self, rows: int) -> None:
        self.filled = 0
        self.row: NDArray[np.int64] = np.empty(rows, np.int64)
        self.digest: NDArray[np.uint8] = np.empty((rows, DIGEST_BYTES), np.uint8)
        self.label: NDArray[np.int16] = np.empty(rows, np.int16)
        self.group: NDArray[np.int32] = np.empty(rows, np.int32)
        self.meta: NDArray[np.int16] = np.empty((len(META_COLUMNS), rows), np.int16)
        self.numbers: NDArray[np.float32] = np.empty((len(NUMBER_COLUMNS), rows), np.float32)
        self.group_codes: dict[str, int] = {}
        self.meta_codes: tuple[dict[str, int], ...] = tuple({} for _ in META_COLUMNS)
        self.group_forms: set[tuple[str, str | None]] = set()
        self.battery_kinds: set[tuple[str, str | None]] = set()
        self.bit_depths: Counter[int] = Counter()

    def add(self, row: int, entry: _Slice) -> None:
        """Put one good image, row `row` of the listing, behind the others."""
        place = self.filled
        self.row[place] = row
        self.digest[place] = np.frombuffer(entry.digest, np.uint8)
        self.label[place] = entry.label
        self.group[place] = self.group_codes.setdefault(entry.group, len(self.group_codes))
        for column, (codes, value) in enumerate(zip(self.meta_codes, entry.meta, strict=True)):
            self.meta[column, place] = -1 if value is None else codes.setdefault(value, len(codes))
        self.numbers[:, place] = entry.numbers
        self.group_forms.add((entry.group, entry.meta[META_COLUMNS.index("form")]))
        self.battery_kinds.add((entry.number, entry.meta[META_COLUMNS.index("kind")]))
        self.bit_depths[entry.bit_depth] += 1
        self.filled += 1

    def index(self, ids: PackedStrings, source: str) -> SampleIndex:
        """Build the index; codes follow the sorted names, so they do not depend on which file came first."""
        end = self.filled
        group_names, group_order = _sorted_codes(self.group_codes)
        meta: dict[str, NDArray[np.int16]] = {}
        meta_names: dict[str, tuple[str, ...]] = {}
        for column, key in enumerate(META_COLUMNS):
            meta_names[key], order = _sorted_codes(self.meta_codes[column])
            codes = self.meta[column, :end]
            # The entry behind the last catches -1, which stays -1.
            meta[key] = np.append(order, -1).astype(np.int16)[codes]
        return SampleIndex(
            ids=ids.take(self.row[:end]),
            group=group_order.astype(np.int32)[self.group[:end]],
            group_names=PackedStrings.pack(group_names),
            label=self.label[:end].copy(),
            classes=CLASSES,
            digest=self.digest[:end].copy(),
            meta=meta,
            meta_names=meta_names,
            numbers={key: self.numbers[column, :end].copy() for column, key in enumerate(NUMBER_COLUMNS)},
            source=source,
        )


def _sorted_codes(codes: dict[str, int]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the names sorted, and for each old code its new one."""
    names = tuple(sorted(codes))
    order = np.empty(len(names), np.int64)
    for new, name in enumerate(names):
        order[codes[name]] = new
    return names, order


def _findings(listing: Listing, columns: _Columns, skipped: list[SkippedFile]) -> list[str]:
    """Say in sentences what is odd about the data as a whole."""
    findings: list[str] = []
    if listing.num_unmatched:
        findings.append(
            f"{listing.num_unmatched} PNG images do not match data.file_pattern and were left out, for example "
            f"{listing.unmatched_example!r}."
        )
    unused = listing.num_labels - (len(listing.images) - sum(file.kind == "no label" for file in skipped))
    if unused > 0:
        findings.append(f"{unused} JSON labels have no image; the copy of the images may be incomplete.")
    if skipped:
        kinds = ", ".join(f"{kind}: {count}" for kind, count in Counter(file.kind for file in skipped).most_common())
        findings.append(f"{len(skipped)} of {len(listing.images)} images were skipped ({kinds}).")
    deep = sum(count for depth, count in columns.bit_depths.items() if depth > 8)
    if deep:
        findings.append(f"{deep} images have 16 bits a pixel; only the upper 8 are used, which can hide faint voids.")
    for (first, _), (second, _) in itertools.pairwise(sorted(columns.battery_kinds, key=str)):
        if first == second:
            findings.append(
                f"battery number {first} occurs as cell and as module, which are taken for two objects; "
                "if such cells were built into such modules, split by number with a split CSV."
            )
            break
    several = [group for group, count in Counter(group for group, _ in columns.group_forms).items() if count > 1]
    if several:
        findings.append(f"{len(several)} batteries appear under several forms, for example {min(several)}.")
    return findings
