"""Electroluminescence images of real solar cells (ELPV), read from the zip file or an unpacked folder.

Source: Buerhop-Lutz et al. 2018, Deitsch et al. 2019 and 2021; the images are CC BY-NC-SA 4.0 (not for commercial use).
"""

import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from projects.battery.data.png import read_png_header
from shared.errors import DataError
from shared.readers import FolderReader, ImageReader, ZipReader
from shared.sample_index import DIGEST_BYTES, PackedStrings, SampleIndex

CLASSES: tuple[str, ...] = ("functional", "defective")
MODULE_TYPES: tuple[str, ...] = ("mono", "poly")
PUBLISHED: tuple[str, ...] = ("train", "val", "test")
DEFECTIVE_FROM = 0.5
"""Defect probability, as the experts' labels give it, from which a cell counts as defective."""

LABELS_NAME, ZIP_NAME = "labels.csv", "elpv_subset.zip"
_COLUMNS: tuple[str, ...] = ("file", "defect_probability", "module_type", "split")
NUMBER_COLUMNS: tuple[str, ...] = ("width_px", "height_px", "file_bytes", "defect_probability")


@dataclass(frozen=True)
class ElpvData:
    """The index, the split that came with the files, and how to read an image.

    Attributes:
        index: Classes `CLASSES`; meta column kind (mono, poly); numbers `NUMBER_COLUMNS`.
        published: (N,) strings, train, val or test.
        reader: Reads an image by its sample id.
    """

    index: SampleIndex
    published: NDArray[np.str_]
    reader: ImageReader


class _Row:
    """One checked line of labels.csv."""

    def __init__(self, fields: dict[str, str | None], where: str) -> None:
        self.file = (fields["file"] or "").strip()
        self.kind = (fields["module_type"] or "").strip()
        self.split = (fields["split"] or "").strip()
        if not self.file:
            raise DataError(f"{where} names no file; complete or remove the line.")
        # Members are read, never written, but in the folder form a path could lead outside.
        path = PurePosixPath(self.file)
        if path.is_absolute() or ".." in path.parts:
            raise DataError(f"{where} has file {self.file!r}; it must be a path below the data folder.")
        if self.kind not in MODULE_TYPES:
            raise DataError(f"{where} has module_type {self.kind!r}; allowed are {', '.join(MODULE_TYPES)}.")
        if self.split not in PUBLISHED:
            raise DataError(f"{where} has split {self.split!r}; allowed are {', '.join(PUBLISHED)}.")
        self.probability = _probability(fields["defect_probability"], where)


def load_elpv(folder: Path) -> ElpvData:
    """Index the ELPV images in `folder`: `elpv_subset.zip` with `labels.csv`, or unpacked images with `labels.csv`.

    The group is the image itself: the 44 modules that the cells were cut from are not published. Two cells of one
    module may therefore stand on both sides of a split, and an interval by group is an interval by image.

    Args:
        folder: Where the files lie.

    Raises:
        DataError: A file is missing or broken, a line of labels.csv is wrong, or images and lines do not match.
    """
    if not folder.is_dir():
        raise DataError(f"ELPV folder {folder} does not exist; set data.root to the folder with {ZIP_NAME}.")
    reader: ImageReader
    if (folder / ZIP_NAME).is_file():
        reader = archive = ZipReader(folder / ZIP_NAME)
        present = {name for name in archive.names() if name.lower().endswith(".png")}
    else:
        reader = FolderReader(folder)
        present = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    if not present:
        raise DataError(
            f"ELPV folder {folder} holds neither {ZIP_NAME} nor PNG images; set data.root to where they lie."
        )
    labels_path = folder / LABELS_NAME
    inside = isinstance(reader, ZipReader) and not labels_path.is_file()
    if not inside and not labels_path.is_file():
        raise DataError(f"ELPV folder {folder} holds no {LABELS_NAME}; copy it beside the images.")
    content = reader.read(LABELS_NAME) if inside else labels_path.read_bytes()
    rows = list(_rows(content, str(labels_path)))
    _check_files([row.file for row in rows], present, labels_path)
    return ElpvData(_index(rows, reader), np.array([row.split for row in rows], dtype=np.str_), reader)


def _rows(content: bytes, where: str) -> Iterator[_Row]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 text ({error}); save it as UTF-8.") from error
    table = csv.DictReader(io.StringIO(text, newline=""))
    missing = [column for column in _COLUMNS if column not in (table.fieldnames or ())]
    if missing:
        raise DataError(
            f"{where} lacks the columns {', '.join(missing)}; it has {', '.join(table.fieldnames or ()) or 'none'}."
        )
    for fields in table:
        yield _Row(fields, f"{where} line {table.line_num}")


def _probability(text: str | None, where: str) -> float:
    try:
        probability = float(text or "")
    except ValueError:
        probability = np.nan
    if not 0 <= probability <= 1:
        raise DataError(f"{where} has defect_probability {text!r}; it must be a number from 0 to 1.")
    return probability


def _check_files(files: list[str], present: set[str], labels_path: Path) -> None:
    """Refuse a table that does not name each image exactly once."""
    named = set(files)
    if not files:
        raise DataError(f"{labels_path} has no line below its header; copy it again.")
    if len(named) < len(files):
        twice = next(file for place, file in enumerate(files) if file in files[:place])
        raise DataError(f"{labels_path} names {twice!r} twice; remove one of the lines.")
    gone = sorted(named - present)
    if gone:
        raise DataError(f"{labels_path} names {len(gone)} images that are not there, the first {gone[0]!r}; copy them.")
    unnamed = sorted(present - named)
    if unnamed:
        raise DataError(f"{len(unnamed)} images have no line in {labels_path}, the first {unnamed[0]!r}; add them.")


def _index(rows: list[_Row], reader: ImageReader) -> SampleIndex:
    digest = np.empty((len(rows), DIGEST_BYTES), np.uint8)
    numbers = np.empty((len(NUMBER_COLUMNS), len(rows)), np.float32)
    for place, row in enumerate(rows):
        content = reader.read(row.file)
        header = read_png_header(content, row.file)
        digest[place] = np.frombuffer(hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest(), np.uint8)
        numbers[:, place] = (header.width_px, header.height_px, len(content), row.probability)
    return SampleIndex(
        ids=PackedStrings.pack(row.file for row in rows),
        group=np.arange(len(rows), dtype=np.int32),
        group_names=PackedStrings.pack(row.file for row in rows),
        label=np.array([row.probability >= DEFECTIVE_FROM for row in rows], dtype=np.int16),
        classes=CLASSES,
        digest=digest,
        meta={"kind": np.array([MODULE_TYPES.index(row.kind) for row in rows], dtype=np.int16)},
        meta_names={"kind": MODULE_TYPES},
        numbers={key: numbers[place].copy() for place, key in enumerate(NUMBER_COLUMNS)},
        source="real",
    )
