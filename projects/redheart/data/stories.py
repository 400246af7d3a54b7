"""Stories as columns, and the checked reading of the JSON files that hold them.

The file is a JSON list with one object a story, or, with the suffix `.jsonl`, one object a line. Fields: `id`, `text`,
`title`, `action`, `label` (0 to 6), `emotions` {primary, secondary, intensity}, `regret_factor`, `bentham_scores` (ten
numbers), `surd_metrics` {surprise, uncertainty, relevance, depth}, `timestamp`. Only id and text are needed: what is
absent or null is masked. A story without `label` takes `emotions.primary`; without either it has no label, serves
the train fold only, and the sample index holds 0 in its place.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projects.redheart.data.story_fields import StoryFormat, StoryRow, Tally, duplicate_id, first_of
from projects.redheart.tasks import EMOTIONS, SURD_METRICS, TASKS
from shared.atomic import replacing
from shared.errors import DataError
from shared.packed_strings import checked_rows

LINES_SUFFIX = ".jsonl"


@dataclass(frozen=True, eq=False)
class Stories:
    """N stories.

    Attributes:
        ids: Unique, not empty.
        text: Never empty.
        title: "" where missing.
        action: "" where missing.
        label: (N,) int16 code into the emotions, -1 where missing.
        targets: Task (bentham, regret, surd) -> (N, D) float32 in [0, 1], NaN where missing.
        intensity: (N,) float32 in [0, 1], NaN where missing.
        secondary: (N,) int16, -1 where missing.
        timestamp: "" where missing.
    """

    ids: list[str]
    text: list[str]
    title: list[str]
    action: list[str]
    label: NDArray[np.int16]
    targets: dict[str, NDArray[np.float32]]
    intensity: NDArray[np.float32]
    secondary: NDArray[np.int16]
    timestamp: list[str]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.int64]) -> "Stories":
        """Return the stories at `rows`, (M,) distinct, in that order.

        Raises:
            IndexError: A row does not exist, or `rows` are not integers.
        """
        rows = checked_rows(rows, len(self))
        places = rows.tolist()
        return Stories(
            ids=[self.ids[row] for row in places],
            text=[self.text[row] for row in places],
            title=[self.title[row] for row in places],
            action=[self.action[row] for row in places],
            label=self.label[rows],
            targets={task: values[rows] for task, values in self.targets.items()},
            intensity=self.intensity[rows],
            secondary=self.secondary[rows],
            timestamp=[self.timestamp[row] for row in places],
        )

    def missing(self) -> dict[str, int]:
        """Return field -> number of stories that lack it, or lack one of its numbers."""
        absent = {task: int(np.isnan(values).any(axis=1).sum()) for task, values in self.targets.items()}
        return {
            "title": self.title.count(""),
            "action": self.action.count(""),
            "label": int((self.label < 0).sum()),
            "intensity": int(np.isnan(self.intensity).sum()),
            "secondary": int((self.secondary < 0).sum()),
            "regret_factor": absent["regret"],
            "bentham_scores": absent["bentham"],
            "surd_metrics": absent["surd"],
            "timestamp": self.timestamp.count(""),
        }


@dataclass(frozen=True)
class Reading:
    """What was found while reading.

    Attributes:
        num_read: Stories in the file.
        truncated: Stories whose text, title or action was cut at `max_chars`.
        missing: Field -> number of stories without it, or without one of its numbers.
        contradicted: Stories whose `emotions.primary` is another than `label`, which counts.
        filled_labels: Stories that take their label from `emotions.primary`.
        unknown: Key that nothing reads -> how many stories have it.
        warnings: One sentence for each of these that deserves attention.
    """

    num_read: int
    truncated: int
    missing: dict[str, int]
    contradicted: int
    filled_labels: int
    unknown: dict[str, int]
    warnings: list[str]


def read_stories(
    path: Path,
    bentham_range: tuple[float, float] = (0.0, 1.0),
    emotions: Sequence[str] = EMOTIONS,
    max_chars: int = 20_000,
) -> tuple[Stories, Reading]:
    """Read and check a file of stories.

    Args:
        path: JSON list, or one object a line with the suffix `.jsonl`; UTF-8.
        bentham_range: Lowest and highest Bentham score in the file; they become 0 and 1.
        emotions: Names of the labels 0 to 6, for `emotions.primary` and `emotions.secondary`.
        max_chars: Longer texts are cut there, and counted.

    Returns:
        The stories in file order, and what was found while reading.

    Raises:
        DataError: The file is missing, no UTF-8 (byte offset, line), no JSON (line, column) or no list, or a story is
            wrong (sample and field).
        ConfigError: `bentham_range`, `emotions` or `max_chars` has no meaning.
    """
    form = StoryFormat((bentham_range[0], bentham_range[1]), tuple(emotions), max_chars)
    return stories_of(_parse(path), str(path), form)


def stories_of(objects: list[Any], source: str, form: StoryFormat | None = None) -> tuple[Stories, Reading]:
    """Check stories that are parsed already.

    Args:
        objects: As the file has them.
        source: Its name, for messages.
        form: What they may hold; None: the defaults.

    Raises:
        DataError: There is none, one is wrong (sample and field), or an id stands twice.
    """
    form, tally = form or StoryFormat(), Tally()
    if not objects:
        raise DataError(f"{source} holds no story; at least one is needed.")
    rows = [StoryRow(found, position, source, form, tally) for position, found in enumerate(objects)]
    twice = duplicate_id([row.id for row in rows])
    if twice is not None:
        raise DataError(f"{source}: id {twice[0]!r} stands twice, objects {twice[1]} and {twice[2]}; make each unique.")
    targets = {
        "bentham": np.array([row.bentham for row in rows], dtype=np.float32),
        "regret": np.array([[row.regret] for row in rows], dtype=np.float32),
        "surd": np.array([row.surd for row in rows], dtype=np.float32),
    }
    stories = Stories(
        ids=[row.id for row in rows],
        text=[row.text for row in rows],
        title=[row.title for row in rows],
        action=[row.action for row in rows],
        label=np.array([row.label for row in rows], dtype=np.int16),
        targets=targets,
        intensity=np.array([row.intensity for row in rows], dtype=np.float32),
        secondary=np.array([row.secondary for row in rows], dtype=np.int16),
        timestamp=[row.timestamp for row in rows],
    )
    return stories, _reading(stories, tally, form)


def texts_only(ids: list[str], text: list[str], label: NDArray[np.int16]) -> Stories:
    """Return stories of which only text and emotion are known; every other task is masked."""
    missing = {task: np.full((len(ids), size), np.nan, np.float32) for task, size in TASKS.items() if task != "emotion"}
    return Stories(
        ids=ids,
        text=text,
        title=[""] * len(ids),
        action=[""] * len(ids),
        label=label,
        targets=missing,
        intensity=np.full(len(ids), np.nan, np.float32),
        secondary=np.full(len(ids), -1, np.int16),
        timestamp=[""] * len(ids),
    )


def story_object(stories: Stories, row: int) -> dict[str, Any]:
    """Return one story as the file has it, without what is missing; Bentham scores in [0, 1]."""
    found: dict[str, Any] = {"id": stories.ids[row], "text": stories.text[row]}
    found |= {key: texts[row] for key, texts in (("title", stories.title), ("action", stories.action)) if texts[row]}
    label, secondary = int(stories.label[row]), int(stories.secondary[row])
    intensity = _plain(stories.intensity[row])
    if label >= 0:
        found["label"] = label
    emotions = {"secondary": secondary if secondary >= 0 else None, "intensity": intensity}
    if any(value is not None for value in emotions.values()):
        found["emotions"] = {key: value for key, value in emotions.items() if value is not None}
    numbers = {task: [_plain(value) for value in values[row]] for task, values in stories.targets.items()}
    if numbers["regret"][0] is not None:
        found["regret_factor"] = numbers["regret"][0]
    if any(value is not None for value in numbers["bentham"]):
        found["bentham_scores"] = numbers["bentham"]
    surd = {name: value for name, value in zip(SURD_METRICS, numbers["surd"], strict=True) if value is not None}
    if surd:
        found["surd_metrics"] = surd
    if stories.timestamp[row]:
        found["timestamp"] = stories.timestamp[row]
    return found


def write_story_lines(path: Path, stories: Stories) -> None:
    """Write one story a line, atomically; `read_stories` with the default `bentham_range` gives the same arrays."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        for row in range(len(stories)):
            stream.write(json.dumps(story_object(stories, row), ensure_ascii=False, allow_nan=False) + "\n")


def _plain(value: np.float32) -> float | None:
    """Return a number that JSON can hold and that is read back as the same float32; None for NaN."""
    return None if np.isnan(value) else float(value)


def _parse(path: Path) -> list[Any]:
    """Return the objects of a file."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"the stories {path} do not exist; give the JSON file that holds them.") from None
    except OSError as error:
        raise DataError(f"the stories {path} cannot be read ({error}).") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = error.start + (3 if raw.startswith(b"\xef\xbb\xbf") else 0)
        line = raw.count(b"\n", 0, at) + 1
        raise DataError(
            f"{path} is not UTF-8: byte {raw[at]:#04x} at offset {at}, line {line}; save it as UTF-8."
        ) from None
    if path.suffix == LINES_SUFFIX:
        # Not splitlines(): a text may hold U+2028, which JSON leaves unescaped.
        lines = enumerate(text.split("\n"), 1)
        return [_loads(line, path, number) for number, line in lines if line.strip()]
    objects = _loads(text, path, 1)
    if not isinstance(objects, list):
        raise DataError(f"{path} holds no list at its top level; expected is [{{...}}, ...], one object a story.")
    return objects


def _loads(text: str, path: Path, first_line: int) -> Any:
    """Parse JSON that begins at a line of a file."""
    try:
        return json.loads(text, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise DataError(f"{path}, line {line}, column {error.colno}: no valid JSON ({error.msg}).") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}.") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object with a key twice, of which Python's reader would keep the last without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        key = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object (id {found.get('id')!r}) holds the key {key!r} twice")
    return found


def _reading(stories: Stories, tally: Tally, form: StoryFormat) -> Reading:
    """Put the counts together, with a sentence for each that deserves attention."""
    warnings, missing = [], stories.missing()
    if tally.truncated:
        warnings.append(f"{tally.truncated} stories are longer than {form.max_chars} characters and were cut there.")
    if tally.contradicted:
        warnings.append(
            f"{tally.contradicted} stories have an emotions.primary other than their label, the first "
            f"{tally.contradiction!r}; the label counts."
        )
    if tally.unknown:
        warnings.append(
            f"{len(tally.unknown)} keys that nothing reads were ignored: {first_of(sorted(tally.unknown))}."
        )
    if missing["label"]:
        warnings.append(f"{missing['label']} stories have no label; they serve the train fold only.")
    unknown = dict(sorted(tally.unknown.items()))
    return Reading(len(stories), tally.truncated, missing, tally.contradicted, tally.filled_labels, unknown, warnings)
