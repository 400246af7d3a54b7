"""Photos of a test fold that were never taken, with logits to judge."""

import numpy as np

from projects.pillsnap.evaluation.accuracy import FoldPhotos


def fold_photos(classes: int = 8, groups_per_class: int = 6, per_group: int = 3) -> FoldPhotos:
    """Return photos whose groups are half studio, half real."""
    groups = classes * groups_per_class
    group = np.repeat(np.arange(groups), per_group)
    count = len(group)
    return FoldPhotos(
        rows=np.arange(count) + 100,
        ids=[f"photo_{row}" for row in range(count)],
        target=(group // groups_per_class).astype(np.int64),
        group=group.astype(np.int32),
        domain=(group % 2).astype(np.int64),
        domains=("studio", "real"),
        classes=tuple(f"K-{code}" for code in range(classes)),
        labels=tuple(f"Drug {code}" for code in range(classes)),
    )


def logits_for(photos: FoldPhotos, strength: float = 2.5, seed: int = 0) -> np.ndarray:
    """Return noise with the true class raised, so that some are right."""
    values = np.random.default_rng(seed).normal(size=(len(photos), len(photos.classes)))
    values[np.arange(len(photos)), photos.target] += strength
    return values
