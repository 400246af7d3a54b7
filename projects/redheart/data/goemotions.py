"""GoEmotions: Reddit comments with human labels, in the grouping of Ekman, as stories of which only text is known.

Rows with exactly one Ekman label are used. Its seven classes become ours by name: anger 0 -> 2, disgust 1 -> 4,
fear 2 -> 3, joy 3 -> 0, neutral 4 -> 6, sadness 5 -> 1, surprise 6 -> 5. The published test part stays whole, the
published dev part is cut by group 40/30/30 into val, accept and calibrate, and a comment of dev or train whose
normalised text stands in a part further back (test, then dev) is left out, so that no text stands in two folds. The
group is the normalised text.

Source: Demszky et al., "GoEmotions: A Dataset of Fine-Grained Emotions", ACL 2020; the grouping is its section 4.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from projects.redheart.data.index import normalised, story_index
from projects.redheart.data.stories import Stories, texts_only
from projects.redheart.tasks import EMOTIONS
from shared.errors import DataError
from shared.folds import FOLDS
from shared.sample_index import SampleIndex
from shared.splits import cut_published

TABLE = "goemotions.tsv"
EKMAN: tuple[str, ...] = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")
TO_OURS: tuple[int, ...] = tuple(EMOTIONS.index(name) for name in EKMAN)
"""Code of Ekman's grouping -> label of a story."""

PUBLISHED: tuple[str, ...] = ("train", "dev", "test")
_COLUMNS: tuple[str, ...] = ("split", "id", "labels", "ekman", "text")
_NUM_LABELS = 28


@dataclass(frozen=True, eq=False)
class GoEmotions:
    """The comments that are used, and what was left out.

    Attributes:
        stories: N comments: text and label; every other task is missing.
        index: Their index; the group is the normalised text.
        fold: (N,) int8 fold codes.
        facts: `rows` in the table by published part, `several_labels` left out by published part, `repeated_text` left
            out by published part, `used` by fold.
        warnings: One sentence for each kind of leaving out, for the report.
    """

    stories: Stories
    index: SampleIndex
    fold: NDArray[np.int8]
    facts: dict[str, dict[str, int]]
    warnings: list[str]


@dataclass(frozen=True)
class Comment:
    """One checked line: published part, id, codes of Ekman's grouping, text."""

    part: str
    id: str
    ekman: tuple[int, ...]
    text: str


def read_goemotions(folder: Path, seed: int = 0) -> GoEmotions:
    """Read the comments in `folder`, map their labels and cut the folds.

    Args:
        folder: Where `goemotions.tsv` lies.
        seed: Of the cut of the published dev part.

    Raises:
        DataError: The table is missing, a line is wrong (line number), an id stands twice, or a part is too small.
    """
    comments = read_comments(folder)
    facts = {"rows": _by_part(comments)}
    single = [comment for comment in comments if len(comment.ekman) == 1]
    facts["several_labels"] = _difference(facts["rows"], _by_part(single))
    used = _without_repeats(single)
    facts["repeated_text"] = _difference(_by_part(single), _by_part(used))
    label = np.array([TO_OURS[comment.ekman[0]] for comment in used], dtype=np.int16)
    stories = texts_only([comment.id for comment in used], [comment.text for comment in used], label)
    index = story_index(stories, "real", folder.absolute().name)
    fold = cut_published(np.array([comment.part for comment in used]), index.label, index.group, seed)
    facts["used"] = {name: int((fold == code).sum()) for code, name in enumerate(FOLDS)}
    return GoEmotions(stories, index, fold, facts, _warnings(facts))


def read_comments(folder: Path) -> list[Comment]:
    """Read and check every line of the table.

    Raises:
        DataError: The table is missing or no UTF-8, its columns are others, a line is wrong, or an id stands twice.
    """
    path = folder / TABLE
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; set data.root to the folder with {TABLE}.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}).") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: byte {error.start} ({error.reason}); copy it again.") from None
    # Not splitlines() and no csv reader: a comment may hold U+2028 or a lone quotation mark, and nothing is quoted.
    lines = text.removesuffix("\n").split("\n")
    header = tuple(lines[0].rstrip("\r").split("\t"))
    if header != _COLUMNS:
        raise DataError(f"{path} has the columns {', '.join(header)}; expected are {', '.join(_COLUMNS)}.")
    if len(lines) == 1:
        raise DataError(f"{path} has no line below its header; copy it again.")
    comments = [_comment(line.rstrip("\r"), f"{path} line {number}") for number, line in enumerate(lines[1:], 2)]
    seen: set[str] = set()
    for number, comment in enumerate(comments, 2):
        if comment.id in seen:
            raise DataError(f"{path} line {number} has the id {comment.id!r} of an earlier line; each must be unique.")
        seen.add(comment.id)
    return comments


def _comment(line: str, where: str) -> Comment:
    values = line.split("\t")
    if len(values) != len(_COLUMNS):
        raise DataError(f"{where} has {len(values)} values separated by tabs, not {len(_COLUMNS)}.")
    part, identity, labels, ekman, text = values
    if part not in PUBLISHED:
        raise DataError(f"{where} has split {part!r}; allowed are {', '.join(PUBLISHED)}.")
    if not identity:
        raise DataError(f"{where} has no id; each comment needs one.")
    if not text.strip():
        raise DataError(f"{where} has no text; remove the line.")
    _codes(labels, "labels", _NUM_LABELS, where)
    return Comment(part, identity, _codes(ekman, "ekman", len(EKMAN), where), text)


def _codes(value: str, column: str, count: int, where: str) -> tuple[int, ...]:
    """Return the codes of a comma list."""
    parts = value.split(",")
    if not all(part.isascii() and part.isdigit() and int(part) < count for part in parts):
        raise DataError(f"{where} has {column} {value!r}; allowed are numbers from 0 to {count - 1} with commas.")
    return tuple(int(part) for part in parts)


def _without_repeats(comments: list[Comment]) -> list[Comment]:
    """Leave out comments of dev and train whose text stands in test, and those of train whose text stands in dev."""
    texts: dict[str, set[str]] = {part: set() for part in PUBLISHED}
    keys = [normalised(comment.text) for comment in comments]
    for comment, key in zip(comments, keys, strict=True):
        texts[comment.part].add(key)
    barred = {"test": set[str](), "dev": texts["test"], "train": texts["test"] | texts["dev"]}
    return [comment for comment, key in zip(comments, keys, strict=True) if key not in barred[comment.part]]


def _by_part(comments: list[Comment]) -> dict[str, int]:
    counts = dict.fromkeys(PUBLISHED, 0)
    for comment in comments:
        counts[comment.part] += 1
    return counts


def _difference(more: dict[str, int], fewer: dict[str, int]) -> dict[str, int]:
    return {part: more[part] - fewer[part] for part in PUBLISHED}


def _warnings(facts: dict[str, dict[str, int]]) -> list[str]:
    told = []
    for key, why in (
        ("several_labels", "carry several Ekman labels and are left out"),
        ("repeated_text", "have a text that also stands in test (or, for train, in dev) and are left out"),
    ):
        if total := sum(facts[key].values()):
            parts = ", ".join(f"{count} of {part}" for part, count in facts[key].items() if count)
            told.append(f"{total} comments {why}: {parts}.")
    return told
