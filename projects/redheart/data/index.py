"""The sample index of stories: ids, groups, labels and the digest of the normalised text."""

import hashlib
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from projects.redheart.data.stories import Stories
from projects.redheart.tasks import EMOTIONS
from shared.errors import DataError
from shared.sample_index import DIGEST_BYTES, PackedStrings, SampleIndex

NUMBER_COLUMNS: tuple[str, ...] = ("intensity", "num_chars")


def story_index(
    stories: Stories,
    source: str,
    folder: str,
    *,
    emotions: tuple[str, ...] = EMOTIONS,
    group: Sequence[str] | None = None,
) -> SampleIndex:
    """Index stories; the group is the story, and stories with the same normalised text are one group.

    Near-duplicates are compared with case and white space, so that "NO!" and "no !" both stay: without joining them,
    one content could stand in two folds.

    Args:
        stories: N stories.
        source: "stand-in" or "real".
        folder: Name of the data set's folder; an id is `<folder>/<story id>`, so that two data sets never share one.
        emotions: Names of the labels.
        group: (N,) names of the groups, for example subjects; None: by text, named after its first story.

    Returns:
        Index with label 0 where a story has none; `stories.label < 0` tells these.

    Raises:
        DataError: `folder` is empty or `group` has another length.
    """
    if not folder or "/" in folder:
        raise DataError(f"the folder of a story index is {folder!r}; it must be the name of one folder.")
    digests = [text_digest(text) for text in stories.text]
    if group is None:
        first: dict[bytes, str] = {}
        group = [first.setdefault(digest, name) for digest, name in zip(digests, stories.ids, strict=True)]
    elif len(group) != len(stories):
        raise DataError(f"{len(group)} groups are given for {len(stories)} stories; one each is needed.")
    names = list(dict.fromkeys(group))
    code_of = {name: code for code, name in enumerate(names)}
    return SampleIndex(
        ids=PackedStrings.pack(f"{folder}/{name}" for name in stories.ids),
        group=np.array([code_of[name] for name in group], dtype=np.int32),
        group_names=PackedStrings.pack(names),
        label=np.maximum(stories.label, 0).astype(np.int16),
        classes=tuple(emotions),
        digest=np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, DIGEST_BYTES).copy(),
        meta={},
        meta_names={},
        numbers={"intensity": stories.intensity, "num_chars": _lengths(stories)},
        source=source,
    )


def normalised(text: str) -> str:
    r"""Return a text without differences that no reader sees: Unicode form NFKC, case, runs of white space.

    Example:
        >>> normalised("  Hello\n WORLD ")
        'hello world'
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_digest(text: str) -> bytes:
    """Return blake2b-128 of the normalised text."""
    return hashlib.blake2b(normalised(text).encode("utf-8"), digest_size=DIGEST_BYTES).digest()


def _lengths(stories: Stories) -> NDArray[np.float32]:
    return np.array([len(text) for text in stories.text], dtype=np.float32)
