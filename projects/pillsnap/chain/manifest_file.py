"""`manifest.json`: read, and each file of the chain compared with the hash that it gives."""

import re
from pathlib import Path
from typing import Any

from projects.pillsnap.chain.files import (
    CAPTURES,
    MANIFEST,
    MAPPING,
    SPLITS,
    STATS,
    command,
    parse_json,
    read_step,
    sha256_bytes,
)
from shared.errors import DataError

FORMAT = "pillsnap-manifest-1"
HASHED = (MAPPING, CAPTURES, STATS, SPLITS)
"""Files of the chain whose sha256 the manifest holds under `hashes`."""

_KEYS = {"name", "source", "version", "created_date", "num_classes", "total_images", "splits", "preprocessing"} | {
    *("preprocessing_digest", "augmentation", "hashes", "files")
}


def read_manifest(dataset: Path) -> dict[str, Any]:
    """Read `manifest.json` and check that the other files of the chain are those that it hashed.

    Raises:
        DataError: It is missing, damaged or of another format, or a file is not the one that it hashed: which, what was
            found and expected, and which command to run.
    """
    path = dataset / MANIFEST
    found = parse_json(path, read_step(dataset, MANIFEST))
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        format_name = found.get("format") if isinstance(found, dict) else None
        raise DataError(f"{path} has format {format_name!r}, not {FORMAT!r}; run `{command(MANIFEST)}` again.")
    missing = sorted(_KEYS - found.keys())
    hashes: Any = found.get("hashes")
    sound = isinstance(hashes, dict) and set(hashes) == set(HASHED)
    if missing or not sound or not all(re.fullmatch("[0-9a-f]{64}", str(value)) for value in hashes.values()):
        what = f"lacks {', '.join(missing)}" if missing else f"must hash {', '.join(HASHED)}"
        raise DataError(f"{path} {what}; run `{command(MANIFEST)}` again.")
    for name in HASHED:
        sha256 = sha256_bytes(read_step(dataset, name))
        if sha256 != hashes[name]:
            raise DataError(
                f"{dataset / name} has sha256 {sha256[:12]}, but {MANIFEST} expects {hashes[name][:12]}: it changed "
                f"since; if that is meant, run `{command(MANIFEST)}` again (it says if an earlier step must run first)."
            )
    return found
