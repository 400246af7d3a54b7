"""The result of a scan kept beside the data's user, and used again while the folder is unchanged."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from projects.battery.data.listing import DEFAULT_PATTERN, Listing, list_folder
from projects.battery.data.scan import Progress, ScanResult, SkippedFile, scan_ct
from shared.atomic import write_json
from shared.errors import DataError
from shared.sample_index import SampleIndex

_FORMAT = "battery-scan-1"


def load_or_scan(
    root: Path,
    cache_dir: Path,
    *,
    pattern: str = DEFAULT_PATTERN,
    on_bad_file: str = "raise",
    workers: int = 2,
    source: str = "real",
    on_progress: Progress | None = None,
) -> ScanResult:
    """Return the scan of `root`, from `cache_dir` where the same folder was scanned in the same way before.

    "The same" is judged by the path, size and modification time of every image and label, the pattern and the other
    arguments; file contents are not read. The cache may be deleted at any time. Files are named after what they are
    for, so an index and its JSON always belong together.

    Args:
        root: Data root.
        cache_dir: Where scan-<key>.npz and scan-<key>.json are kept; made when missing.
        pattern: As in `scan_ct`, likewise the rest.
        on_bad_file: "raise" or "skip".
        workers: Threads that read.
        source: "stand-in" or "real".
        on_progress: Called after each batch of files, not at all when the cache serves.

    Raises:
        ConfigError: As `scan_ct`.
        DataError: As `scan_ct`.
    """
    listing = list_folder(root, pattern)
    key = _key(root, listing, pattern=pattern, on_bad_file=on_bad_file, source=source)
    name = hashlib.blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=8).hexdigest()
    index_path, facts_path = cache_dir / f"scan-{name}.npz", cache_dir / f"scan-{name}.json"
    # A damaged or half-deleted cache is no reason to stop: the scan below gives the same result and replaces it.
    with suppress(DataError, OSError, ValueError, KeyError, TypeError):
        return _load(index_path, facts_path, key)
    result = scan_ct(
        root,
        pattern=pattern,
        on_bad_file=on_bad_file,
        workers=workers,
        source=source,
        on_progress=on_progress,
        listing=listing,
    )
    result.index.save(index_path)
    facts = {"key": key, "skipped": [file._asdict() for file in result.skipped], "findings": result.findings}
    write_json(facts_path, facts)
    return result


def _key(root: Path, listing: Listing, **how: str) -> dict[str, Any]:
    """Return all that a scan depends on; count, size and time are there for a human reader of the file."""
    return {
        "format": _FORMAT,
        "root": str(root.resolve()),
        "files": listing.num_files,
        "bytes": listing.num_bytes,
        "newest_mtime_ns": listing.newest_mtime_ns,
        "listing": listing.digest,
        **how,
    }


def _load(index_path: Path, facts_path: Path, key: dict[str, Any]) -> ScanResult:
    facts = json.loads(facts_path.read_text(encoding="utf-8"))
    if facts["key"] != key:
        raise ValueError("the file name's hash collides with another scan")
    index = SampleIndex.load(index_path)
    return ScanResult(index, [SkippedFile(**file) for file in facts["skipped"]], list(facts["findings"]))
