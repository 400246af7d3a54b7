"""Small seeded stories in the JSON format of redheart, with fields missing at known rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from projects.redheart.data.stories import Stories, stories_of
from projects.redheart.tasks import EMOTIONS, SURD_METRICS

LACKING: dict[str, int] = {"label": 17, "regret_factor": 7, "bentham_scores": 11, "surd_metrics": 13, "title": 5}
"""Field -> n: the rows n - 1, 2n - 1, ... lack it (a row without label has no emotions either)."""

_SYLLABLES = ("ka", "lo", "mi", "ren", "tu", "sha", "dor", "pel", "vi", "ost", "gra", "ne", "bul", "fi", "zan", "we")


def story_objects(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return n distinct stories; label i % 7, and words that lean towards the label, so that a model can learn it.

    Args:
        n: How many.
        seed: Of words and numbers.

    Returns:
        Objects as they stand in the file; fields are missing as `LACKING` says.
    """
    generator = np.random.default_rng([0x57081E5, seed])
    return [_story(row, generator) for row in range(n)]


def _story(row: int, generator: np.random.Generator) -> dict[str, Any]:
    label = row % len(EMOTIONS)
    numbers = generator.random(16).round(4)
    sentences = [_sentence(generator) for _ in range(int(generator.integers(2, 6)))]
    sentences[-1] += f" It ended in {EMOTIONS[label]}."
    story = {
        "id": f"s{row:05d}",
        "text": " ".join(sentences),
        "title": _sentence(generator, 3),
        "action": _sentence(generator, 5),
        "label": label,
        "emotions": {
            "primary": EMOTIONS[label],
            "secondary": EMOTIONS[(label + 1) % len(EMOTIONS)],
            "intensity": float(numbers[0]),
        },
        "regret_factor": float(numbers[1]),
        "bentham_scores": [float(number) for number in numbers[2:12]],
        "surd_metrics": dict(zip(SURD_METRICS, map(float, numbers[12:]), strict=True)),
        "timestamp": f"2026-01-{1 + row % 28:02d}T10:00:00",
    }
    for field, period in LACKING.items():
        if row % period == period - 1:
            del story[field]
            if field == "label":
                del story["emotions"]
    return story


def _sentence(generator: np.random.Generator, num_words: int = 9) -> str:
    words = ["".join(generator.choice(_SYLLABLES, size=int(generator.integers(1, 4)))) for _ in range(num_words)]
    return " ".join(words).capitalize() + "."


def write_stories(path: Path, objects: list[dict[str, Any]]) -> Path:
    """Write objects as the JSON list that a user has, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(objects, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


def fabricated_stories(n: int, seed: int = 0) -> Stories:
    """Return `story_objects` as read."""
    return stories_of(story_objects(n, seed), "fabricated")[0]
