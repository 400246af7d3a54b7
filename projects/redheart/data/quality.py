"""The quality step: near-duplicates leave, and what was found is written down."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from projects.redheart.data.near_duplicates import THRESHOLD, find_near_duplicates
from projects.redheart.data.stories import Reading, Stories
from projects.redheart.tasks import EMOTIONS

UNLABELLED = "no label"


@dataclass(frozen=True)
class Quality:
    """What the quality step did.

    Attributes:
        num_read: Stories before it.
        num_kept: Stories after it.
        threshold: Ratio in percent from which a story was a copy.
        removed: For each story that left `{"id", "like", "ratio"}`, in file order.
        truncated: Stories cut at `max_chars` while reading.
        missing: Field -> kept stories without it.
        shares: Class -> share of the kept stories; the last entry is those without label, where there are any.
        warnings: Sentences for the user, those of the reading first.
    """

    num_read: int
    num_kept: int
    threshold: float
    removed: list[dict[str, Any]]
    truncated: int
    missing: dict[str, int]
    shares: dict[str, float]
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return the entries of quality.json that do not depend on where the file lies."""
        return {
            "n_read": self.num_read,
            "n_kept": self.num_kept,
            "threshold": self.threshold,
            "removed": self.removed,
            "truncated": self.truncated,
            "missing": self.missing,
            "shares": self.shares,
            "warnings": self.warnings,
        }


def keep_good_stories(
    stories: Stories,
    reading: Reading,
    threshold: float = THRESHOLD,
    *,
    emotions: tuple[str, ...] = EMOTIONS,
    workers: int = 2,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Stories, Quality]:
    """Remove near-duplicate texts greedily in file order.

    Args:
        stories: As read.
        reading: What was found while reading.
        threshold: `fuzz.ratio` in percent, above 50 to 100.
        emotions: Names of the labels.
        workers: Threads; the result does not depend on it.
        on_progress: Called with (stories done, stories in all).

    Returns:
        The stories that stay, in file order, and what was done.
    """
    found = find_near_duplicates(stories.text, threshold, workers=workers, on_progress=on_progress)
    kept = stories.take(found.kept)
    removed = [
        {"id": stories.ids[row], "like": stories.ids[like], "ratio": round(ratio, 2)}
        for row, like, ratio in zip(found.removed.tolist(), found.like.tolist(), found.ratio.tolist(), strict=True)
    ]
    warnings = list(reading.warnings)
    if removed:
        warnings.append(
            f"{len(removed)} of {len(stories)} stories are like an earlier one (ratio of {threshold:g} % or more) and "
            f"were left out, the first {removed[0]['id']!r} like {removed[0]['like']!r}."
        )
    quality = Quality(
        num_read=len(stories),
        num_kept=len(kept),
        threshold=threshold,
        removed=removed,
        truncated=reading.truncated,
        missing=kept.missing(),
        shares=label_shares(kept, emotions),
        warnings=warnings,
    )
    return kept, quality


def label_shares(stories: Stories, emotions: tuple[str, ...] = EMOTIONS) -> dict[str, float]:
    """Return class -> share of the stories, and those without label as one more entry where there are any."""
    counts = np.bincount(stories.label + 1, minlength=len(emotions) + 1)
    shares = {name: round(int(count) / len(stories), 4) for name, count in zip(emotions, counts[1:], strict=True)}
    return shares | ({UNLABELLED: round(int(counts[0]) / len(stories), 4)} if counts[0] else {})
