"""Small sample indices from plain lists."""

import hashlib
from collections.abc import Sequence

import numpy as np

from shared.sample_index import PackedStrings, SampleIndex


def content(text: str) -> np.ndarray:
    """Return the digest (16,) uint8 of a file with this text."""
    return np.frombuffer(hashlib.blake2b(text.encode(), digest_size=16).digest(), dtype=np.uint8)


def make_index(
    group: Sequence[int],
    label: Sequence[int] | None = None,
    *,
    ids: Sequence[str] | None = None,
    files: Sequence[str | None] | None = None,
    group_names: Sequence[str] | None = None,
    classes: tuple[str, ...] | None = None,
    source: str = "stand-in",
) -> SampleIndex:
    """Build an index; `files` are the contents of the files, None where the digest was not computed.

    Without `files`, each sample has a content of its own that follows from its id.
    """
    num = len(group)
    label = [0] * num if label is None else label
    ids = [f"g{group[row]}/s{row}.png" for row in range(num)] if ids is None else ids
    files = ids if files is None else files
    names = [f"g{code}" for code in range(max(group, default=-1) + 1)] if group_names is None else group_names
    digest = np.zeros((num, 16), dtype=np.uint8)
    for row, text in enumerate(files):
        if text is not None:
            digest[row] = content(text)
    return SampleIndex(
        ids=PackedStrings.pack(ids),
        group=np.array(group, dtype=np.int32),
        group_names=PackedStrings.pack(names),
        label=np.array(label, dtype=np.int16),
        classes=tuple(f"c{code}" for code in range(max(label, default=0) + 1)) if classes is None else classes,
        digest=digest,
        meta={"axis": np.array([row % 3 - 1 for row in range(num)], dtype=np.int16)},
        meta_names={"axis": ("x", "y")},
        numbers={"width_px": np.arange(num, dtype=np.float32)},
        source=source,
    )


def large_index(num: int = 200_000, per_group: int = 600) -> SampleIndex:
    """Build an index of the size of the largest data set, without a Python object per sample."""
    rng = np.random.default_rng(0)
    num_groups = -(-num // per_group)
    return SampleIndex(
        ids=PackedStrings.pack(f"module/CT_module_pouch_{row // per_group:04d}_x_{row:06d}.png" for row in range(num)),
        group=(np.arange(num) // per_group).astype(np.int32),
        group_names=PackedStrings.pack(f"module_{code:04d}" for code in range(num_groups)),
        label=rng.integers(0, 5, num).astype(np.int16),
        classes=("a", "b", "c", "d", "e"),
        digest=rng.integers(0, 256, (num, 16), dtype=np.uint8),
        meta={key: rng.integers(-1, 3, num).astype(np.int16) for key in ("kind", "form", "axis")},
        meta_names={key: ("1", "2", "3") for key in ("kind", "form", "axis")},
        numbers={key: rng.random(num).astype(np.float32) for key in ("width_px", "height_px", "file_bytes")},
        source="stand-in",
    )
