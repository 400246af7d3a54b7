"""The NIH reference photographs of pills: their table and their bytes."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from shared.errors import DataError
from shared.readers import FolderReader, ImageReader, ZipReader

ZIP_NAME, LABELS_NAME = "nih_pills.zip", "labels.csv"
PUBLISHED = ("train", "val", "test")
SURFACES = ("front", "back")
_COLUMNS = ("file", "pill_id", "labeler", "surface", "shape", "color", "n_colors", "shape_color", "split")


@dataclass(frozen=True)
class NihPhoto:
    """One line of labels.csv."""

    file: str
    pill_id: str
    labeler: str
    surface: str
    shape: str
    color: str
    shape_color: str
    split: str


def load_nih(folder: Path) -> tuple[list[NihPhoto], ImageReader]:
    """Read the table of the photographs in `folder`: `nih_pills.zip`, or unpacked images, with `labels.csv`.

    Returns:
        The photographs in the order of the table, and what gives their bytes by `file`.

    Raises:
        DataError: A file is missing or broken, or a line of labels.csv is wrong.
    """
    if not folder.is_dir():
        raise DataError(f"NIH folder {folder} does not exist; set data.root to the folder with {ZIP_NAME}.")
    archive = folder / ZIP_NAME
    reader: ImageReader = ZipReader(archive) if archive.is_file() else FolderReader(folder)
    table = folder / LABELS_NAME
    if not table.is_file():
        raise DataError(f"NIH folder {folder} holds no {LABELS_NAME}; copy it beside {ZIP_NAME}.")
    photos = _read_table(table)
    if isinstance(reader, ZipReader):
        present = set(reader.names())
        gone = [photo.file for photo in photos if photo.file not in present]
        reader.close()
    else:
        gone = [photo.file for photo in photos if not (folder / photo.file).is_file()]
    if gone:
        raise DataError(f"{table} names {len(gone)} photographs that are not there, the first {gone[0]!r}; copy them.")
    return photos, reader


def _read_table(path: Path) -> list[NihPhoto]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text ({error}); copy it again.") from error
    table = csv.DictReader(io.StringIO(text, newline=""))
    missing = [column for column in _COLUMNS if column not in (table.fieldnames or ())]
    if missing:
        raise DataError(f"{path} lacks the columns {', '.join(missing)}; copy it again.")
    photos = [_photo(fields, f"{path} line {table.line_num}") for fields in table]
    if not photos:
        raise DataError(f"{path} has no line below its header; copy it again.")
    files = {photo.file for photo in photos}
    if len(files) != len(photos):
        raise DataError(f"{path} names {len(photos) - len(files)} files twice; each must stand once.")
    return photos


def _photo(fields: dict[str, str], where: str) -> NihPhoto:
    values = {name: fields[name] or "" for name in _COLUMNS if name != "n_colors"}
    empty = [name for name, value in values.items() if not value]
    if empty:
        raise DataError(f"{where} has no {empty[0]}; copy the table again.")
    if values["split"] not in PUBLISHED:
        raise DataError(f"{where} has split {values['split']!r}; allowed are {', '.join(PUBLISHED)}.")
    if values["surface"] not in SURFACES:
        raise DataError(f"{where} has surface {values['surface']!r}; allowed are {', '.join(SURFACES)}.")
    return NihPhoto(**values)
