"""`class_mapping.json`: which drug has which class index; made from the list of the drugs.

The index follows the sorted K-codes, not the order of the list, so that a list written in another order gives the same
mapping.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from projects.pillsnap.chain.files import MAPPING, is_kcode, json_bytes, parse_json, read_bytes, read_step, sha256_bytes
from shared.atomic import write_bytes
from shared.errors import DataError

VERSION = 1
MAX_CLASSES = 32_767
"""Labels are int16."""

_TEXTS = ("kcode", "name", "manufacturer", "form")
_KCODE_RULE = "letters, digits, '.', '_' and '-', at most 64, beginning with a letter or digit"


@dataclass(frozen=True)
class ClassMapping:
    """The classes in the order of their index.

    Attributes:
        classes: K-codes, sorted; the position is the class index.
        metadata: K-code -> what the list of drugs says of it: name, manufacturer, form, weight (the training weight,
            above 0), and any further key as it stood there.
        sha256: Of `class_mapping.json`, hexadecimal.
        changes: What differs from the mapping that stood there before, one sentence each; empty where nothing does.
    """

    classes: tuple[str, ...]
    metadata: Mapping[str, Mapping[str, Any]]
    sha256: str
    changes: tuple[str, ...] = ()

    @property
    def class_to_idx(self) -> dict[str, int]:
        """K-code -> class index."""
        return {kcode: index for index, kcode in enumerate(self.classes)}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the drugs in the order of the classes."""
        return tuple(str(self.metadata[kcode]["name"]) for kcode in self.classes)


def map_classes(drugs: Path, dataset: Path) -> ClassMapping:
    """Write `class_mapping.json` into `dataset` from the list of drugs; an equal one is left as it is.

    Args:
        drugs: JSON list of objects with `kcode`, `name`, `manufacturer`, `form` and `weight`.
        dataset: Folder of the data set; made where missing.

    Raises:
        DataError: The list is missing, unreadable, shorter than two, or an entry is wrong: which, and what is allowed.
    """
    if not drugs.is_file():
        raise DataError(f"the list of drugs {drugs} does not exist.")
    entries = _checked_list(drugs, parse_json(drugs, read_bytes(drugs)))
    classes = tuple(sorted(entries))
    content = json_bytes(
        {
            "version": VERSION,
            "class_to_idx": {kcode: index for index, kcode in enumerate(classes)},
            "idx_to_class": {str(index): kcode for index, kcode in enumerate(classes)},
            "metadata": {kcode: dict(sorted(entries[kcode].items())) for kcode in classes},
        }
    )
    path = dataset / MAPPING
    before = path.read_bytes() if path.is_file() else None
    if before == content:
        return read_mapping(dataset)
    changes = _changes(_parsed_or_none(path, before), classes) if before is not None else ("made",)
    write_bytes(path, content)
    mapping = read_mapping(dataset)
    return ClassMapping(mapping.classes, mapping.metadata, mapping.sha256, changes)


def read_mapping(dataset: Path) -> ClassMapping:
    """Read and check `class_mapping.json`.

    Raises:
        DataError: It is missing, damaged, of another version, or its two tables contradict each other.
    """
    content = read_step(dataset, MAPPING)
    path = dataset / MAPPING
    return ClassMapping(*_parsed(path, parse_json(path, content)), sha256=sha256_bytes(content))


def _parsed(path: Path, found: Any) -> tuple[tuple[str, ...], dict[str, dict[str, Any]]]:
    """Return the classes in order and the metadata."""
    remedy = "make it again with `python -m projects.pillsnap.map_classes`"
    if not isinstance(found, dict) or found.get("version") != VERSION:
        version = found.get("version") if isinstance(found, dict) else None
        raise DataError(f"{path} has version {version!r}, this code reads {VERSION}; {remedy}.")
    tables: list[Any] = [found.get(key) for key in ("class_to_idx", "idx_to_class", "metadata")]
    if not all(isinstance(table, dict) for table in tables):
        raise DataError(f"{path} lacks class_to_idx, idx_to_class or metadata; {remedy}.")
    index_of, class_of, metadata = tables
    classes = tuple(sorted(index_of, key=lambda kcode: (str(index_of[kcode]).zfill(9), kcode)))
    wanted = {kcode: index for index, kcode in enumerate(classes)}
    if index_of != wanted or class_of != {str(index): kcode for kcode, index in wanted.items()}:
        raise DataError(
            f"{path}: class_to_idx and idx_to_class must number the same classes from 0 on, and do not; {remedy}."
        )
    strange = [kcode for kcode in classes if not is_kcode(kcode) or not isinstance(metadata.get(kcode), dict)]
    strange += [kcode for kcode in classes if kcode not in strange and not isinstance(metadata[kcode].get("name"), str)]
    if strange or metadata.keys() != index_of.keys():
        first = (strange or sorted(metadata.keys() ^ index_of.keys()))[0]
        raise DataError(f"{path}: class {first!r} has no sound K-code, metadata or name; {remedy}.")
    return classes, metadata


def _parsed_or_none(path: Path, content: bytes) -> tuple[str, ...] | None:
    try:
        return _parsed(path, parse_json(path, content))[0]
    except DataError:
        return None


def _checked_list(drugs: Path, found: Any) -> dict[str, dict[str, Any]]:
    """Return K-code -> entry without its K-code."""
    if not isinstance(found, list) or not 2 <= len(found) <= MAX_CLASSES:
        what = f"a list of {len(found)}" if isinstance(found, list) else f"a JSON {type(found).__name__}"
        raise DataError(f"{drugs} holds {what}; it must be a list of 2 to {MAX_CLASSES:,} drugs.")
    entries: dict[str, dict[str, Any]] = {}
    folded: dict[str, str] = {}
    for number, entry in enumerate(found):
        _check_entry(drugs, number, entry)
        kcode = entry["kcode"]
        # Folders of two codes that differ in case alone are one folder on some file systems.
        twin = folded.setdefault(kcode.casefold(), kcode)
        if kcode in entries or twin != kcode:
            raise DataError(f"{drugs} entry {number}: the kcode {kcode!r} stands there already as {twin!r}.")
        entries[kcode] = {key: value for key, value in entry.items() if key != "kcode"}
    return entries


def _check_entry(drugs: Path, number: int, entry: Any) -> None:
    where = f"{drugs} entry {number}"
    if not isinstance(entry, dict):
        raise DataError(f"{where} is {entry!r}; it must be an object with {', '.join(_TEXTS)} and weight.")
    for key in _TEXTS:
        value = entry.get(key)
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"{where}: {key} is {value!r}; it must be a text that is not empty.")
    if not is_kcode(entry["kcode"]):
        raise DataError(f"{where}: kcode is {entry['kcode']!r}; allowed are {_KCODE_RULE}.")
    weight = entry.get("weight")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise DataError(f"{where}: weight is {weight!r}; it must be a number above 0.")


def _changes(before: tuple[str, ...] | None, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Say what differs between two mappings."""
    if before is None:
        return ("the mapping that stood there could not be read and was replaced",)
    added, removed = sorted(set(classes) - set(before)), sorted(set(before) - set(classes))
    old = {kcode: index for index, kcode in enumerate(before)}
    moved = [kcode for index, kcode in enumerate(classes) if old.get(kcode, index) != index]
    found = [f"{len(added)} class(es) added, first {added[0]}"] if added else []
    found += [f"{len(removed)} class(es) removed, first {removed[0]}"] if removed else []
    found += [f"{len(moved)} class(es) have another index: networks trained before name other drugs"] if moved else []
    return tuple(found or ["metadata of drugs changed"])
