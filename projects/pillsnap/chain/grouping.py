"""Which photos belong together: the capture that a name tells, and captures that hold the same bytes."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from projects.pillsnap.chain.captures import capture_of, join
from projects.pillsnap.chain.photo_tree import SourcePhoto
from shared.errors import DataError


def name_captures(
    photos: Iterable[SourcePhoto], pattern: re.Pattern[str], *, shared: bool
) -> tuple[dict[Path, str], int]:
    """Name the capture of each photo.

    Args:
        photos: Of all roots.
        pattern: Names the part of a file name that tells the capture.
        shared: Whether a capture of one name is one sitting in all classes of a domain.

    Returns:
        File -> `<domain>/<kcode>/<capture>`, or `<domain>/<capture>` where captures are shared; and how many files tell
        no capture. Each of those is a capture by itself, named after the file.
    """
    captures: dict[Path, str] = {}
    num_unmatched = 0
    for photo in photos:
        capture = capture_of(pattern, photo.name)
        num_unmatched += capture is None
        place = photo.domain if shared and capture is not None else f"{photo.domain}/{photo.kcode}"
        captures[photo.file] = f"{place}/{capture or photo.name}"
    return captures, num_unmatched


def join_captures(
    photos: Iterable[SourcePhoto], captures: Mapping[Path, str]
) -> tuple[dict[Path, str], dict[str, int]]:
    """Join captures that hold the same bytes.

    Returns:
        File -> name of its group, the first of the captures joined; and counts: `photos` that repeat another,
        `captures_joined` to another.

    Raises:
        DataError: The same bytes stand under two drugs.
    """
    first: dict[str, SourcePhoto] = {}
    repeats = 0
    pairs: list[tuple[str, str]] = []
    for photo in photos:
        twin = first.setdefault(photo.sha256, photo)
        if twin.kcode != photo.kcode:
            raise DataError(
                f"{twin.file} and {photo.file} hold the same bytes under two drugs, {twin.kcode} and {photo.kcode}; "
                "one of them is in the wrong folder."
            )
        repeats += twin is not photo
        pairs.append((captures[twin.file], captures[photo.file]))
    root = join(pairs)
    joined = sum(1 for capture, group in root.items() if capture != group)
    counts = {"photos": repeats, "captures_joined": joined}
    return {file: root[capture] for file, capture in captures.items()}, counts
