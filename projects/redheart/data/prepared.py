"""The prepared folder: stories without near-duplicates, their folds, and a record of what each was made from.

`stories.jsonl`, `quality.json`, `splits.csv`, `source.txt`, with ratings `subjects.csv`, and `prepared.json`: for each
step the hash of its input and of its outputs. A step whose input is the same and whose outputs are there is skipped.
"""

import csv
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projects.redheart.data.index import story_index
from projects.redheart.data.near_duplicates import THRESHOLD
from projects.redheart.data.quality import keep_good_stories
from projects.redheart.data.split import DEFAULT_SHARES, split_stories
from projects.redheart.data.stories import Stories, read_stories, write_story_lines
from projects.redheart.data.subjects import SUBJECTS, read_subjects
from projects.redheart.standin import writer as standin_files
from projects.redheart.tasks import EMOTIONS
from shared.atomic import write_bytes, write_json, write_text
from shared.base_data import Progress, no_progress
from shared.errors import ConfigError, DataError
from shared.sample_index import SOURCES, SampleIndex
from shared.splits import check_folds, read_splits, write_splits

SCHEMA = 1
STORIES, QUALITY, SPLITS, SOURCE = "stories.jsonl", "quality.json", "splits.csv", "source.txt"
RECORD = "prepared.json"
COMMAND = "python -m projects.redheart.prepare_data"
LOWEST_THRESHOLD = 50
"""Below it the bounds of the search exclude nothing."""
REAL, STANDIN = "real", "stand-in"
_OWN = (STORIES, QUALITY, SPLITS, SOURCE, SUBJECTS, RECORD)


@dataclass(frozen=True)
class PrepareOptions:
    """What the folder depends on beside the stories.

    Attributes:
        threshold: `fuzz.ratio` in percent from which a text is a copy of an earlier one.
        bentham_range: Lowest and highest Bentham score in the file.
        emotions: Names of the labels 0 to 6.
        max_chars: Longer texts are cut there.
        shares: Fold -> share of the stories.
        seed: Which of the equally good splits is drawn.

    Raises:
        ConfigError: `threshold` or `seed` is out of range; the others are checked where they are used.
    """

    threshold: float = THRESHOLD
    bentham_range: tuple[float, float] = (0.0, 1.0)
    emotions: tuple[str, ...] = EMOTIONS
    max_chars: int = 20_000
    shares: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_SHARES))
    seed: int = 0

    def __post_init__(self) -> None:
        if not LOWEST_THRESHOLD < self.threshold <= 100:
            raise ConfigError(
                f"data.threshold is {self.threshold}; allowed is above {LOWEST_THRESHOLD} to 100 (percent)"
            )
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}; allowed is 0 or more")


@dataclass(frozen=True, eq=False)
class Prepared:
    """A prepared folder as read.

    Attributes:
        root: The folder.
        stories: N kept stories.
        index: Their index.
        fold: (N,) int8 fold codes.
        quality: Content of quality.json.
        emotions: Names of the labels.
        ran: Steps that the call which made this had to run; empty where all was there.
    """

    root: Path
    stories: Stories
    index: SampleIndex
    fold: NDArray[np.int8]
    quality: dict[str, Any]
    emotions: tuple[str, ...]
    ran: tuple[str, ...] = ()

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """(N,) whether a story has a label of its own."""
        return self.stories.label >= 0


def prepare(
    source: Path,
    root: Path,
    options: PrepareOptions,
    *,
    kind: str | None = None,
    subjects: Path | None = None,
    on_progress: Progress = no_progress,
) -> Prepared:
    """Fill the folder `root` from a file of stories, or what of it is missing or was made from something else.

    Args:
        source: JSON list of stories, or JSON lines.
        root: Folder to fill; made where missing.
        options: What it depends on.
        kind: "real" or "stand-in"; None: as `kind_of` finds.
        subjects: Table of people, copied beside the stories; None: one that is there stays.
        on_progress: Told what is being done.

    Raises:
        DataError: The file cannot be used, or the folder holds something else.
        ConfigError: An option has no meaning.
    """
    if kind is not None and kind not in SOURCES:
        raise ValueError(f"kind is {kind!r}; allowed are {', '.join(SOURCES)}")
    content = _content(source)
    if subjects is not None:
        read_subjects(subjects)  # a wrong table is told before anything is written
    is_new = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root):
        try:
            ran = _fill(root, source, content, options, kind or kind_of(source), subjects, on_progress)
        except (DataError, ConfigError):
            if is_new:  # what was refused leaves no folder behind; an interruption does, since it goes on there
                _remove_own(root)
            raise
    return replace(read_prepared(root), ran=ran)


def kind_of(source: Path) -> str:
    """Tell whether a file of stories is a stand-in, by the record that its maker has left beside it.

    Args:
        source: `stories.json` beside a STANDIN.json, or `stories.jsonl` of a folder prepared from one.

    Returns:
        "stand-in" or "real": a file without such a record is the user's own.
    """
    if source.name == standin_files.STORIES and (source.parent / standin_files.MARKER).is_file():
        return STANDIN
    kept = source.parent / SOURCE
    is_prepared = source.name == STORIES and (source.parent / RECORD).is_file() and kept.is_file()
    return STANDIN if is_prepared and kept.read_text(encoding="utf-8").strip() == STANDIN else REAL


def _fill(
    root: Path, source: Path, content: bytes, options: PrepareOptions, kind: str, subjects: Path | None,
    on_progress: Progress,
) -> tuple[str, ...]:  # fmt: skip
    """Run the steps that are needed and return their names."""
    record = _own_record(root)
    ran = []
    if _quality(root, source, content, options, record, on_progress):
        ran.append("quality")
    write_text(root / SOURCE, kind + "\n")
    if subjects is not None:
        write_bytes(root / SUBJECTS, _without_removed(subjects, root))
    if _split(root, options, record):
        ran.append("split")
    return tuple(ran)


def _remove_own(root: Path) -> None:
    """Take away what `prepare` writes, and the folder where that leaves it empty."""
    for name in _OWN:
        (root / name).unlink(missing_ok=True)
    with suppress(OSError):  # somebody else has put something there
        root.rmdir()


def read_prepared(root: Path) -> Prepared:
    """Read a prepared folder.

    Raises:
        DataError: Something is missing, changed since, or contradicts another file; the sentence names the command.
    """
    record = _record(root)
    if record is None or set(record["steps"]) != {"quality", "split"}:
        raise DataError(
            f"{root} is no complete folder of prepared stories; make one with `{COMMAND} STORIES.json {root}`."
        )
    for step in record["steps"].values():
        for name, sha256 in step["outputs"].items():
            if _sha256(_content(root / name)) != sha256:
                raise DataError(f"{root / name} is not what was prepared; run `{COMMAND}` again.")
    stories, _ = read_stories(root / STORIES, max_chars=_NO_LIMIT)
    quality = json.loads((root / QUALITY).read_text(encoding="utf-8"))
    kind = _content(root / SOURCE).decode("utf-8").strip()
    emotions = tuple(record["emotions"])
    index = story_index(stories, kind, record["name"], emotions=emotions)
    return Prepared(root, stories, index, read_splits(root / SPLITS, index), quality, emotions)


_NO_LIMIT = 1 << 40  # what was prepared is cut already


def _quality(
    root: Path, source: Path, content: bytes, options: PrepareOptions, record: dict[str, Any], on_progress: Progress
) -> bool:
    """Read, check, remove copies, write; return whether that had to be done."""
    settings = {
        "threshold": options.threshold, "bentham_range": list(options.bentham_range),
        "emotions": list(options.emotions), "max_chars": options.max_chars,
    }  # fmt: skip
    sha256 = _sha256(content)
    wanted = _input_hash(sha256, settings)
    if _is_done(root, record, "quality", wanted):
        return False
    stories, reading = read_stories(source, options.bentham_range, options.emotions, options.max_chars)
    kept, quality = keep_good_stories(
        stories, reading, options.threshold, emotions=options.emotions,
        on_progress=lambda done, total: on_progress("near-duplicates", done, total),
    )  # fmt: skip
    write_json(root / RECORD, record)  # first: a folder with stories and no record would be refused as a stranger's
    write_story_lines(root / STORIES, kept)
    about = {"schema": SCHEMA, "source_file": source.name, "sha256": sha256}
    write_json(root / QUALITY, about | quality.as_dict())
    record["emotions"] = list(options.emotions)
    _write_record(root, record, "quality", wanted, (STORIES, QUALITY))
    return True


def _split(root: Path, options: PrepareOptions, record: dict[str, Any]) -> bool:
    """Cut the folds and write them; return whether that had to be done."""
    settings = {"shares": dict(options.shares), "seed": options.seed}
    wanted = _input_hash(record["steps"]["quality"]["outputs"][STORIES], settings)
    if _is_done(root, record, "split", wanted):
        return False
    stories, _ = read_stories(root / STORIES, max_chars=_NO_LIMIT)
    kind = _content(root / SOURCE).decode("utf-8").strip()
    index = story_index(stories, kind, record["name"], emotions=options.emotions)
    fold = split_stories(index, stories.label >= 0, options.shares, options.seed)
    check_folds(index, fold)
    write_splits(root / SPLITS, index, fold)
    _write_record(root, record, "split", wanted, (SPLITS,))
    return True


def _without_removed(subjects: Path, root: Path) -> bytes:
    """The table of people, which has been read, without the lines about stories that left as near-duplicates."""
    quality = json.loads((root / QUALITY).read_text(encoding="utf-8"))
    removed = {entry["id"] for entry in quality["removed"]}
    rows = [row for row in csv.reader(io.StringIO(_content(subjects).decode("utf-8-sig"), newline="")) if row]
    place = rows[0].index("id")
    kept = [row for row in rows if row[place].strip() not in removed]
    if len(kept) == 1:
        raise DataError(f"{subjects} rates only stories that left as near-duplicates; rate those that stay.")
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(kept)
    return text.getvalue().encode("utf-8")


def _own_record(root: Path) -> dict[str, Any]:
    """The record of a folder that is ours or empty.

    Raises:
        DataError: The folder holds something else.
    """
    record = _record(root)
    if record is None:
        strangers = [path.name for path in root.iterdir() if not path.name.startswith(".")]
        if any(name != "stories.json" for name in strangers):
            raise DataError(f"{root} is not empty and has no {RECORD}; give an empty or a new folder.")
        # The name goes into every sample id; it stays when the folder is moved, since splits.csv holds it.
        record = {"schema": SCHEMA, "name": root.absolute().name, "emotions": [], "steps": {}}
    return record


def _record(root: Path) -> dict[str, Any] | None:
    """Content of the record, None where there is none."""
    path = root / RECORD
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        known = content["schema"] == SCHEMA and isinstance(content["steps"], dict) and isinstance(content["name"], str)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error}); remove the folder and prepare it anew.") from error
    if not known:
        raise DataError(f"{path} is not one of schema {SCHEMA}; remove the folder and prepare it anew.")
    return dict(content)


def _is_done(root: Path, record: Mapping[str, Any], step: str, wanted: str) -> bool:
    """Tell whether a step ran with this input and its outputs are still what it wrote."""
    found = record["steps"].get(step)
    if found is None or found["input"] != wanted:
        return False
    outputs = ((root / name, sha256) for name, sha256 in found["outputs"].items())
    return all(path.is_file() and _sha256(path.read_bytes()) == sha256 for path, sha256 in outputs)


def _write_record(root: Path, record: dict[str, Any], step: str, wanted: str, outputs: tuple[str, ...]) -> None:
    hashes = {name: _sha256((root / name).read_bytes()) for name in outputs}
    record["steps"][step] = {"input": wanted, "outputs": hashes}
    write_json(root / RECORD, record)


def _input_hash(sha256: str, settings: Mapping[str, Any]) -> str:
    return _sha256(json.dumps([SCHEMA, sha256, settings], sort_keys=True).encode("utf-8"))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the folder's lock; the system lets go of it when the process ends, however it ends."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
