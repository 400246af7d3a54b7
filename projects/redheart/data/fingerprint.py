"""What tells one state of the data from another: of the stories as they are used, and of a folder's files."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projects.redheart.data.stories import Stories
from shared.sample_index import SampleIndex

FILES: tuple[str, ...] = ("goemotions.tsv", "quality.json", "source.txt", "splits.csv", "stories.jsonl", "subjects.csv")
"""Files of a data folder that a result depends on; embeddings follow from them."""


def fingerprint(stories: Stories, index: SampleIndex, fold: NDArray[np.int8]) -> str:
    """Return the sha256 (hex) over all that a network is shown of the stories, and their folds.

    `SampleIndex.data_hash` leaves out titles, actions, targets and folds: with it alone, stories prepared with another
    Bentham range or another split would pass for the same.

    Args:
        stories: N stories.
        index: Their index.
        fold: (N,) fold codes.
    """
    sha = hashlib.sha256(index.data_hash().encode())
    sha.update(json.dumps([stories.text, stories.title, stories.action, sorted(stories.targets)]).encode())
    targets = [stories.targets[task] for task in sorted(stories.targets)]
    arrays: list[NDArray[Any]] = [fold, stories.label, stories.intensity, *targets]
    for values in arrays:
        sha.update(repr((values.shape, values.dtype.str)).encode())
        sha.update(np.ascontiguousarray(values).data)
    return sha.hexdigest()


def stamps(root: Path) -> dict[str, str]:
    """Return name -> sha256 (hex) of those of `FILES` that a folder has."""
    there = [root / name for name in FILES if (root / name).is_file()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in there}
