"""The files of a stand-in set of stories.

Below the root::

    stories.json            the JSON list, in the format of `projects.redheart.data.stories`
    near_duplicates.json    [{"id", "like"}]: which stories were planted as copies, and of which
    subjects.csv            simulated ratings, where subjects are asked for
    STANDIN.json            configuration and counts; written last, so that it says that the set is complete
"""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from projects.redheart.standin import templates
from projects.redheart.standin.config import (
    COPY_STREAM,
    FORMAT_VERSION,
    PLAN_STREAM,
    STORY_STREAM,
    SUBJECT_STREAM,
    StandinConfig,
)
from projects.redheart.standin.copies import changed_copy
from projects.redheart.standin.story import StoryDraft
from projects.redheart.tasks import EMOTIONS
from shared.atomic import write_json, write_text
from shared.errors import DataError

MARKER, STORIES, COPIES, SUBJECTS = "STANDIN.json", "stories.json", "near_duplicates.json", "subjects.csv"
TASK_FIELDS: tuple[str, ...] = ("regret_factor", "bentham_scores", "surd_metrics", "title", "action")
_TELL_EVERY = 500


def generate_standin(
    root: Path, config: StandinConfig, *, on_progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write the set below `root` and return `root`; a complete one of this configuration returns at once.

    Args:
        root: Folder to fill; made where missing.
        config: What to make.
        on_progress: Called with (stories done, stories in all).

    Raises:
        DataError: `root` holds something else, or a set made with another configuration.
    """
    if _is_complete(root, config):
        return root
    write_json(root / MARKER, _marker(config, complete=False))
    stories, copies = make_stories(config, on_progress)
    # One story a line: the file can be looked through, and is half as large as an indented one.
    lines = ",\n".join(json.dumps(story, ensure_ascii=False) for story in stories)
    write_text(root / STORIES, f"[\n{lines}\n]\n")
    write_json(root / COPIES, copies)
    if config.num_subjects:
        write_text(root / SUBJECTS, _ratings(stories, config))
    write_json(root / MARKER, _marker(config, complete=True))
    return root


def make_stories(
    config: StandinConfig, on_progress: Callable[[int, int], None] | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Make the stories as they stand in the file, and tell which are copies.

    Returns:
        `num_stories` objects, and for each planted near-duplicate `{"id", "like"}`: its own and the earlier story's id.
    """
    plan = np.random.default_rng([PLAN_STREAM, config.seed])
    total = config.num_stories
    # The first story has no earlier one; labels are balanced, so that a small set has each of them.
    is_copy = np.zeros(total, dtype=np.bool_)
    is_copy[1 + plan.permutation(total - 1)[: config.num_copies]] = True
    originals = np.flatnonzero(~is_copy)
    labels = np.zeros(total, dtype=np.int64)
    labels[originals] = plan.permutation(np.arange(len(originals)) % len(EMOTIONS))
    drafts: dict[int, StoryDraft] = {}
    stories: list[dict[str, Any]] = []
    copies: list[dict[str, str]] = []
    for row in range(total):
        generator = np.random.default_rng([STORY_STREAM, config.seed, row])
        name = f"story_{row:06d}"
        if is_copy[row]:
            like = int(originals[int(generator.integers(np.searchsorted(originals, row)))])
            copier = np.random.default_rng([COPY_STREAM, config.seed, row])
            stories.append(_object(name, drafts[like], changed_copy(drafts[like].text, copier), config, row))
            copies.append({"id": name, "like": f"story_{like:06d}"})
        else:
            drafts[row] = StoryDraft(config, int(labels[row]), generator)
            stories.append(_object(name, drafts[row], drafts[row].text, config, row))
        if on_progress is not None and (row % _TELL_EVERY == 0 or row == total - 1):
            on_progress(row + 1, total)
    return stories, copies


def _object(name: str, draft: StoryDraft, text: str, config: StandinConfig, row: int) -> dict[str, Any]:
    """Return a story as the file has it, some fields left out."""
    story = {"id": name, "text": text, "title": draft.title, "action": draft.action, **draft.annotation()}
    minute, day = row % 1440, 1 + row // 1440 % 28
    story["timestamp"] = f"2026-01-{day:02d}T{minute // 60:02d}:{minute % 60:02d}:00"
    for field in TASK_FIELDS:
        if draft.generator.random() < config.missing_share:
            del story[field]
    return story


def _ratings(stories: list[dict[str, Any]], config: StandinConfig) -> str:
    """Return subjects.csv: each story rated by one person, on a scale of his own, with an EEG that follows it."""
    generator = np.random.default_rng([SUBJECT_STREAM, config.seed])
    bias, stretch = generator.normal(0, 0.8, (config.num_subjects, 3)), generator.uniform(0.7, 1.2, config.num_subjects)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "subject", "valence", "arousal", "dominance", "frontal_alpha_asymmetry", "p300", "lpp"])
    for row, story in enumerate(stories):
        person = row % config.num_subjects
        feeling = EMOTIONS[story["label"]]
        felt = np.array([scale[feeling] for scale in (templates.VALENCE, templates.AROUSAL, templates.DOMINANCE)])
        rated = 5 + 8 * stretch[person] * (felt - 0.5) + bias[person] + generator.normal(0, 0.7, 3)
        waves = (felt[[0, 1, 1]] - 0.5) * (0.4, 6.0, 8.0) + generator.normal(0, (0.2, 2.0, 3.0)) + (0.0, 5.0, 6.0)
        scores = np.clip(np.round(rated), 1, 9).astype(int).tolist()
        writer.writerow([story["id"], f"p{person:03d}", *scores, *np.round(waves, 3).tolist()])
    return text.getvalue()


def _marker(config: StandinConfig, *, complete: bool) -> dict[str, Any]:
    counts = {"stories": config.num_stories, "near_duplicates": config.num_copies, "subjects": config.num_subjects}
    return {"format_version": FORMAT_VERSION, "complete": complete, "config": config.as_dict(), "counts": counts}


def _is_complete(root: Path, config: StandinConfig) -> bool:
    """Return whether `root` holds this set, complete.

    Raises:
        DataError: The folder is no stand-in set, or one of another configuration or format.
    """
    marker = root / MARKER
    if not marker.exists():
        if root.exists() and any(root.iterdir()):
            raise DataError(f"{root} is not empty and has no {MARKER}; give an empty or a new folder.")
        return False
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
        stored, version, complete = dict(found["config"]), found["format_version"], found["complete"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{marker} cannot be read ({error}); remove the folder to make it anew.") from error
    if version != FORMAT_VERSION:
        raise DataError(f"{marker}: format_version is {version}; this code writes {FORMAT_VERSION}.")
    wanted = config.as_dict()
    differing = [key for key in sorted({*wanted, *stored}) if wanted.get(key) != stored.get(key)]
    if differing:
        pairs = ", ".join(f"{key} is {stored.get(key)!r}, asked for {wanted.get(key)!r}" for key in differing)
        raise DataError(f"{marker}: made with another configuration ({pairs}); give another folder.")
    return bool(complete)
