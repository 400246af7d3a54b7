"""The fields of one story as JSON has them, each checked; what is missing is told apart from what is wrong."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from projects.redheart.tasks import BENTHAM_SCORES, EMOTIONS, SURD_METRICS
from shared.errors import ConfigError, DataError

MISSING = float("nan")
FIELDS: tuple[str, ...] = (
    "id", "text", "title", "action", "label", "emotions", "regret_factor", "bentham_scores", "surd_metrics",
    "timestamp",
)  # fmt: skip
_KNOWN = frozenset(FIELDS)
_EMOTION_KEYS = frozenset({"primary", "secondary", "intensity"})
_SURD_KEYS = frozenset(SURD_METRICS)
_SHOWN_CHARS = 60


@dataclass(frozen=True)
class StoryFormat:
    """What a file may hold.

    Attributes:
        bentham_range: Lowest and highest Bentham score; scaled to 0 and 1.
        emotions: Names of the labels 0 to 6.
        max_chars: Characters that are kept of text, title and action.

    Raises:
        ConfigError: A value has no meaning; the sentence names the key.
    """

    bentham_range: tuple[float, float] = (0.0, 1.0)
    emotions: tuple[str, ...] = EMOTIONS
    max_chars: int = 20_000
    codes: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        low, high = self.bentham_range
        if not (low < high and abs(low) < float("inf") and abs(high) < float("inf")):
            raise ConfigError(f"data.bentham_range is {self.bentham_range}; allowed are two rising numbers.")
        codes = {name.strip().lower(): code for code, name in enumerate(self.emotions)}
        if len(self.emotions) != len(EMOTIONS) or len(codes) != len(EMOTIONS) or "" in codes:
            raise ConfigError(f"data.emotions is {self.emotions}; allowed are {len(EMOTIONS)} different names.")
        if self.max_chars < 1:
            raise ConfigError(f"data.max_chars is {self.max_chars}; allowed is 1 or more.")
        object.__setattr__(self, "codes", codes)


@dataclass
class Tally:
    """What was counted while reading: stories truncated, labels contradicted, keys that nothing reads."""

    truncated: int = 0
    contradicted: int = 0
    contradiction: str = ""
    filled_labels: int = 0
    unknown: Counter[str] = field(default_factory=Counter)


class StoryRow:
    """One checked story; NaN, -1 and "" stand for what is missing.

    Args:
        found: The object as JSON gave it.
        position: Its place in the file, from 0, for messages about an object without id.
        source: Name of the file, for messages.
        form: What the file may hold.
        tally: Extended by what was odd about this story.

    Raises:
        DataError: A field is of a wrong type or out of range, or id or text is missing; names sample and field.
    """

    __slots__ = (
        "action", "bentham", "id", "intensity", "label", "regret", "secondary", "surd", "text", "timestamp", "title",
    )  # fmt: skip

    def __init__(self, found: Any, position: int, source: str, form: StoryFormat, tally: Tally) -> None:
        if not isinstance(found, dict):
            raise DataError(
                f"{source}, object {position}: it is {_kind(found)}, not a JSON object; see the data format."
            )
        self.id = _identity(found.get("id"), f"{source}, object {position}")
        where = f"{source}, sample {self.id!r}"
        if not found.keys() <= _KNOWN:
            tally.unknown.update(found.keys() - _KNOWN)
        texts = [_text(found.get(key), key, where) for key in ("text", "title", "action")]
        if not texts[0].strip():
            state = "missing" if found.get("text") is None else "empty"
            raise DataError(f"{where}: text is {state}; each story needs one, so complete or remove it.")
        tally.truncated += any(len(text) > form.max_chars for text in texts)
        self.text, self.title, self.action = (text[: form.max_chars] for text in texts)
        self.label = _code(found.get("label"), "label", where)
        self.secondary, self.intensity = -1, MISSING
        self._read_emotions(found.get("emotions"), where, form, tally)
        self.regret = _number(found.get("regret_factor"), "regret_factor", where)
        self.bentham = _bentham(found.get("bentham_scores"), where, form.bentham_range)
        self.surd = _surd(found.get("surd_metrics"), where, tally)
        self.timestamp = _timestamp(found.get("timestamp"), where)

    def _read_emotions(self, found: Any, where: str, form: StoryFormat, tally: Tally) -> None:
        """Take intensity and secondary emotion, and the primary one where there is no label."""
        if found is None:
            return
        _require_object(found, "emotions", where, _EMOTION_KEYS, tally)
        primary = _emotion(found.get("primary"), "emotions.primary", where, form)
        self.secondary = _emotion(found.get("secondary"), "emotions.secondary", where, form)
        self.intensity = _number(found.get("intensity"), "emotions.intensity", where)
        if self.label < 0:
            self.label = primary
            tally.filled_labels += primary >= 0
        elif primary >= 0 and primary != self.label:
            tally.contradicted += 1
            tally.contradiction = tally.contradiction or self.id


def _identity(value: Any, where: str) -> str:
    """Return the id; a whole number counts as its digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None:
        raise DataError(f"{where}: it has no id; each story needs one.")
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: id is {_shown(value)}; allowed is a text that is not empty, or a whole number.")
    return _unicode(value, "id", where)


def _text(value: Any, key: str, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{where}: {key} is {_shown(value)}, {_kind(value)}; allowed is a text.")
    return _unicode(value, key, where)


def _unicode(value: str, key: str, where: str) -> str:
    r"""Refuse half of a surrogate pair, which "\ud83d" in JSON makes: no file could be written with it."""
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(
                f"{where}: {key} holds half of a surrogate pair at character {error.start}; it must be valid Unicode."
            ) from None
    return value


def _timestamp(value: Any, where: str) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    return _text(value, "timestamp", where)


def _code(value: Any, key: str, where: str) -> int:
    if value is None:
        return -1
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < len(EMOTIONS):
        raise DataError(f"{where}: {key} is {_shown(value)}; allowed are the whole numbers 0 to {len(EMOTIONS) - 1}.")
    return value


def _emotion(value: Any, key: str, where: str, form: StoryFormat) -> int:
    """Return the code of an emotion that is given by name or by code."""
    if not isinstance(value, str):
        return _code(value, key, where)
    code = form.codes.get(value.strip().lower())
    if code is None:
        allowed = ", ".join(form.emotions)
        raise DataError(f"{where}: {key} is {_shown(value)}; allowed are {allowed} (data.emotions), or their codes.")
    return code


def _number(value: Any, key: str, where: str, low: float = 0.0, high: float = 1.0) -> float:
    """Return a number of the range; NaN where it is missing, while a NaN in the file is refused."""
    if value is None:
        return MISSING
    # A bool is an int in Python; NaN fails the comparison.
    if type(value) not in (int, float) or not low <= value <= high:
        raise DataError(f"{where}: {key} is {_shown(value)}; allowed is a number from {low:g} to {high:g}.")
    return float(value)


def _bentham(value: Any, where: str, limits: tuple[float, float]) -> list[float]:
    """Return the ten scores, scaled so that `limits` become 0 and 1."""
    size = len(BENTHAM_SCORES)
    if value is None:
        return [MISSING] * size
    if not isinstance(value, list) or len(value) != size:
        found = f"a list of {len(value)}" if isinstance(value, list) else _shown(value)
        raise DataError(f"{where}: bentham_scores is {found}; allowed is a list of {size} numbers.")
    low, high = limits
    numbers = [_number(each, f"bentham_scores[{place}]", where, low, high) for place, each in enumerate(value)]
    return [(number - low) / (high - low) for number in numbers]


def _surd(value: Any, where: str, tally: Tally) -> list[float]:
    if value is None:
        return [MISSING] * len(SURD_METRICS)
    _require_object(value, "surd_metrics", where, _SURD_KEYS, tally)
    return [_number(value.get(name), f"surd_metrics.{name}", where) for name in SURD_METRICS]


def _require_object(value: Any, key: str, where: str, known: frozenset[str], tally: Tally) -> None:
    """Refuse what is no object, and count the keys that nothing reads."""
    if not isinstance(value, dict):
        raise DataError(f"{where}: {key} is {_shown(value)}; allowed is an object with {', '.join(sorted(known))}.")
    if not value.keys() <= known:
        tally.unknown.update(f"{key}.{name}" for name in value.keys() - known)


def first_of(names: Iterable[str], most: int = 5) -> str:
    """Join a few names for a sentence.

    Example:
        >>> first_of(["a", "b", "c"], 2)
        "'a', 'b', ..."
    """
    listed = list(names)
    return ", ".join(map(repr, listed[:most])) + (", ..." if len(listed) > most else "")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def _shown(value: Any) -> str:
    """Return a value as JSON shows it, short enough for a sentence."""
    words: dict[Any, str] = {True: "true", False: "false"}
    text = words[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 3]}..."


def duplicate_id(ids: Sequence[str]) -> tuple[str, int, int] | None:
    """Return the first id that stands twice, with its two positions; None where all differ."""
    seen: dict[str, int] = {}
    for position, identity in enumerate(ids):
        if identity in seen:
            return identity, seen[identity], position
        seen[identity] = position
    return None
