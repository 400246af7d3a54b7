"""Write `manifest.json`: what the data set holds, how its pixels are prepared, and the hash of every file."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from projects.pillsnap.chain.captures import DOMAINS, OTHER, PhotoRow
from projects.pillsnap.chain.class_mapping import ClassMapping
from projects.pillsnap.chain.dataset import check_files
from projects.pillsnap.chain.files import (
    CAPTURES,
    MANIFEST,
    STATS,
    Progress,
    json_bytes,
    parse_json,
    read_bytes,
    read_step,
    sha256_bytes,
)
from projects.pillsnap.chain.integrated import read_integrated
from projects.pillsnap.chain.manifest_file import FORMAT, HASHED
from projects.pillsnap.chain.splits_file import OTHER_PARTS, Splits, read_splits
from shared.atomic import write_bytes
from shared.errors import ConfigError, DataError
from shared.folds import FOLDS

DEFAULT_AUGMENTATION: Mapping[str, Any] = MappingProxyType(
    {
        "rotation_degrees": 30.0,
        "flip_probability": 0.0,
        "crop_scale": [0.8, 1.0],
        "crop_ratio": [0.9, 1.1],
        "brightness": 0.2,
        "contrast": 0.2,
        "saturation": 0.2,
        "hue": 0.1,
        "blur_kernel_px": 5,
        "blur_sigma": [0.1, 2.0],
        "blur_probability": 0.5,
        "erasing_probability": 0.2,
    }
)
"""What the manifest states where nothing else is given: the augmentation of conf/data/pillsnap_folder.yaml."""


@dataclass(frozen=True)
class ManifestOutcome:
    """What writing the manifest came to.

    Attributes:
        manifest: What `manifest.json` holds.
        changed: Keys that differ from the manifest that stood there before; empty where it stays to the byte.
    """

    manifest: Mapping[str, Any]
    changed: tuple[str, ...]


def write_manifest(
    dataset: Path,
    *,
    preprocessing: Mapping[str, Any] | None = None,
    size_px: int | None = None,
    augmentation: Mapping[str, Any] = DEFAULT_AUGMENTATION,
    name: str = "pillsnap",
    version: str = "1.0.0",
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    on_progress: Progress | None = None,
) -> ManifestOutcome:
    """Hash every photo, check the whole chain, and write `manifest.json`.

    The date is the only thing that two runs on equal data could differ in, so a manifest that is equal in all else is
    left as it is, date included.

    Args:
        dataset: Folder of the data set, after `split`.
        preprocessing: `UnifiedPreprocessor.get_config()`; None for its defaults.
        size_px: Side of the square that networks read, where it is not that of `preprocessing`.
        augmentation: What training does to the pixels before the preprocessor.
        name: Of the data set.
        version: Of the data set, for people.
        now: Clock of the date.
        on_progress: Called with (photos hashed, photos in all).

    Raises:
        ConfigError: The preprocessing is none that `UnifiedPreprocessor` takes, or name or version is empty.
        DataError: A step is missing or its inputs changed since, or a photo is not the one that was integrated.
    """
    _check_words(name=name, version=version)
    config, digest = _preprocessing(preprocessing, size_px)
    mapping, rows, captures_sha256 = read_integrated(dataset)
    splits = read_splits(dataset, rows, mapping, captures_sha256)
    check_files(dataset, rows, check_bytes=True, on_progress=on_progress)
    hashes = {step: sha256_bytes(read_step(dataset, step)) for step in HASHED}
    # Captures and splits were read before the photos were hashed, which takes a while.
    if hashes[CAPTURES] != captures_sha256:
        raise DataError(f"{dataset / CAPTURES} changed while {MANIFEST} was made; run the same command again.")
    content = {
        "format": FORMAT,
        "name": name,
        "version": version,
        "created_date": now().isoformat(timespec="seconds"),
        "source": parse_json(dataset / STATS, read_step(dataset, STATS))["source"],
        "num_classes": len(mapping.classes),
        "total_images": sum(row.domain != OTHER for row in rows),
        "splits": _splits(rows, mapping, splits),
        "others": _others(rows, splits),
        "preprocessing": config,
        "preprocessing_digest": digest,
        "augmentation": dict(augmentation),
        "hashes": hashes,
        "files": {row.path: row.sha256 for row in rows},
    }
    changed = _changed(dataset / MANIFEST, content)
    if changed:
        write_bytes(dataset / MANIFEST, json_bytes(content))
    return ManifestOutcome(content, changed)


def read_settings(path: Path) -> dict[str, Any]:
    """Read a JSON object, of preprocessing or augmentation.

    Raises:
        DataError: The file is missing or holds no JSON object.
    """
    found = parse_json(path, read_bytes(path))
    if not isinstance(found, dict):
        raise DataError(f"{path} holds a JSON {type(found).__name__}; it must be an object.")
    return found


def _check_words(**words: str) -> None:
    """Refuse a name or version that says nothing."""
    for what, text in words.items():
        if not text.strip():
            raise ConfigError(f"the {what} of the data set is {text!r}; it must not be empty.")


def _preprocessing(config: Mapping[str, Any] | None, size_px: int | None) -> tuple[dict[str, Any], str]:
    """Return the whole configuration and its digest."""
    # Imported here: it needs OpenCV, and the other steps of the chain do not.
    from projects.pillsnap.preprocess import PreprocessError, UnifiedPreprocessor

    try:
        asked = UnifiedPreprocessor().get_config() if config is None else dict(config)
        preprocessor = UnifiedPreprocessor.from_config(asked if size_px is None else asked | {"size_px": size_px})
    except PreprocessError as error:
        raise ConfigError(f"the preprocessing cannot be used: {error}") from error
    return preprocessor.get_config(), preprocessor.digest()


def _splits(rows: list[PhotoRow], mapping: ClassMapping, splits: Splits) -> dict[str, Any]:
    """Return the counts of each fold."""
    found: dict[str, Any] = {}
    for name in FOLDS:
        inside = [row for row in rows if splits.fold.get(row.path) == name]
        domains, classes = Counter(row.domain for row in inside), Counter(row.kcode for row in inside)
        found[name] = {
            "images": len(inside),
            "groups": len({row.group for row in inside}),
            **{domain: domains[domain] for domain in DOMAINS},
            "classes": {kcode: classes[kcode] for kcode in mapping.classes},
        }
    return found


def _others(rows: list[PhotoRow], splits: Splits) -> dict[str, Any]:
    """Return the counts of the drugs that are none of the classes."""
    found: dict[str, Any] = {}
    for part in OTHER_PARTS:
        classes = Counter(row.kcode for row in rows if splits.part.get(row.path) == part)
        found[part] = {"images": sum(classes.values()), "classes": dict(sorted(classes.items()))}
    return found


def _changed(path: Path, content: dict[str, Any]) -> tuple[str, ...]:
    """Return the keys that differ from the manifest on disk, its date left aside; put its date in if none does."""
    if not path.is_file():
        return ("made",)
    try:
        before = parse_json(path, read_bytes(path))
    except DataError:
        return ("replaced one that could not be read",)
    if not isinstance(before, dict) or not isinstance(before.get("created_date"), str):
        return ("replaced one of another form",)
    kept = content | {"created_date": before["created_date"]}
    keys = [key for key in (*content, *(before.keys() - content.keys())) if kept.get(key) != before.get(key)]
    if not keys and path.read_bytes() == json_bytes(kept):
        content["created_date"] = before["created_date"]
    return tuple(keys) if keys or path.read_bytes() == json_bytes(kept) else ("layout",)
