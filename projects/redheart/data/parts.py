"""The parts of a story in their order: its title, its action, and the sentences of its text."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

TEXT, TITLE, ACTION = 0, 1, 2
"""Codes of the parts: a sentence of the text, the title, the action."""

MIN_PARTS = 3
"""A title, an action and one sentence."""

MAX_SENTENCE_CHARS = 600
"""A longer sentence is cut at a clause or a word: some 128 tokens, beyond which encoders do not read."""

_PARAGRAPH = re.compile(r"(?:\r?\n|\r)[ \t]*(?:\r?\n|\r)\s*")
_CLOSERS = "\"'\u2019\u201d\u00bb)\\]"
_OPENERS = "\"'\u2018\u201c\u00ab([-\u2013\u2014*"
# A run of terminators with what closes after it, then white space; ideographic ones need none.
_BOUNDARY = re.compile(
    rf"(?P<mark>[.!?\u2026]+)[{_CLOSERS}]*(?P<gap>\s+)|[\u3002\uff01\uff1f]+[{_CLOSERS}\u300d\u300f]*\s*"
)
_WORD_BEFORE = re.compile(r"([\w.]+)$")
_INITIAL = re.compile(r"[^\W\d_]|(?:[^\W\d_]\.)+[^\W\d_]")
_CLAUSE = re.compile(r"[,;:\u2014][\s]")
# Before a name or a number, hardly ever at the end of a sentence; `etc.`, `Inc.` and `a.m.` end one often enough.
_ABBREVIATIONS = frozenset({
    "mr", "mrs", "ms", "mx", "dr", "prof", "st", "sr", "jr", "rev", "hon", "gen", "col", "capt", "lt", "sgt", "gov",
    "sen", "rep", "pres", "mt", "ft", "vs", "fig", "figs", "eq", "no", "nos", "vol", "ch", "pp", "ed", "cf", "al",
    "approx", "dept", "est", "e.g", "i.e", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct",
    "nov", "dec",
})  # fmt: skip
_ALSO_WORDS = frozenset({"no", "mar", "ed", "al", "est", "st", "rep", "ms", "col", "gen", "ch"})
"""Abbreviations that are words as well: they count before a digit or, with a capital, before anything."""


@dataclass(frozen=True, eq=False)
class StoryParts:
    """The parts of N stories one after the other.

    Attributes:
        texts: P texts, none empty.
        codes: (P,) int8, `TEXT`, `TITLE` or `ACTION`.
        offsets: (N + 1,) int64; story i has the parts offsets[i] to offsets[i + 1].
        num_merged: Stories with more sentences than there was room for; neighbours were joined, nothing is lost.
        num_cut: Sentences that were too long and were cut.
    """

    texts: list[str]
    codes: NDArray[np.int8]
    offsets: NDArray[np.int64]
    num_merged: int
    num_cut: int


def split_stories(
    titles: Sequence[str], actions: Sequence[str], texts: Sequence[str], max_parts: int = 16
) -> StoryParts:
    """Split N stories into their parts.

    Args:
        titles: N titles, "" where there is none.
        actions: N actions, "" where there is none.
        texts: N texts.
        max_parts: Most parts of a story, at least `MIN_PARTS`.

    Raises:
        ValueError: If `max_parts` is too small.
    """
    if max_parts < MIN_PARTS:
        raise ValueError(f"max_parts is {max_parts}; allowed is {MIN_PARTS} or more")
    parts: list[str] = []
    codes: list[int] = []
    ends = [0]
    merged = cut = 0
    for title, action, text in zip(titles, actions, texts, strict=True):
        for code, single in ((TITLE, title.strip()), (ACTION, action.strip())):
            if single:
                parts.append(single)
                codes.append(code)
        whole = split_sentences(text)
        pieces = [piece for sentence in whole for piece in cut_sentence(sentence)]
        cut += sum(len(sentence) > MAX_SENTENCE_CHARS for sentence in whole)
        room = max_parts - (len(parts) - ends[-1])
        merged += len(pieces) > room
        sentences = merge_neighbours(pieces, room)
        parts += sentences
        codes += [TEXT] * len(sentences)
        ends.append(len(parts))
    return StoryParts(parts, np.array(codes, dtype=np.int8), np.array(ends, dtype=np.int64), merged, cut)


def split_sentences(text: str) -> list[str]:
    """Split a text into sentences; an empty line ends one, and so does `.`, `!`, `?` or an ellipsis where it fits.

    A mark ends nothing after an abbreviation or an initial, nor where the text goes on in lower case: `"Go!" he said`,
    `well... maybe`.

    Returns:
        Sentences without white space around them; none is empty. A text without punctuation is one sentence.

    Example:
        >>> split_sentences('Dr. Who paid 3.50. "Really?" she asked. Yes!')
        ['Dr. Who paid 3.50.', '"Really?" she asked.', 'Yes!']
    """
    return [
        sentence for paragraph in _PARAGRAPH.split(text) for piece in _split_paragraph(paragraph)
        if (sentence := " ".join(piece.split()))
    ]  # fmt: skip


def _split_paragraph(paragraph: str) -> Iterator[str]:
    begin = 0
    for match in _BOUNDARY.finditer(paragraph):
        if match["mark"] is None or _ends_sentence(paragraph, begin, match):
            yield paragraph[begin : match.end()]
            begin = match.end()
    yield paragraph[begin:]


def _ends_sentence(paragraph: str, begin: int, match: re.Match[str]) -> bool:
    following = paragraph[match.end() :].lstrip(_OPENERS)[:1]
    if following.islower():
        return False
    if match["mark"] != ".":
        return True
    found = _WORD_BEFORE.search(paragraph, max(begin, match.start() - 32), match.start())
    if found is None:
        return True
    word = found[1]
    if word.lower() in _ALSO_WORDS:
        return not (following.isdigit() or word[0].isupper())
    # `I.` ends a sentence far more often than it is an initial.
    return word.lower() not in _ABBREVIATIONS and not (_INITIAL.fullmatch(word) and word != "I")


def cut_sentence(sentence: str, max_chars: int = MAX_SENTENCE_CHARS) -> list[str]:
    """Cut a sentence into pieces of at most `max_chars`, at a clause if one ends in the second half, else at a word.

    Example:
        >>> cut_sentence("one two, three four", 10)
        ['one two,', 'three four']
    """
    pieces = []
    while len(sentence) > max_chars:
        ends = [found.start() + 1 for found in _CLAUSE.finditer(sentence, max_chars // 2, max_chars)]
        place = ends[-1] if ends else sentence.rfind(" ", 1, max_chars + 1)
        if place <= 0:  # no white space at all
            place = max_chars
        pieces.append(sentence[:place].strip())
        sentence = sentence[place:].strip()
    return [*pieces, sentence] if sentence else pieces


def merge_neighbours(pieces: Sequence[str], room: int) -> list[str]:
    """Join neighbours evenly until at most `room` pieces are left; the order and every word stay.

    Example:
        >>> merge_neighbours(["a", "b", "c", "d", "e"], 2)
        ['a b', 'c d e']
    """
    if len(pieces) <= room:
        return list(pieces)
    edges = [number * len(pieces) // room for number in range(room + 1)]
    return [" ".join(pieces[first:last]) for first, last in pairwise(edges)]


def whole_text(title: str, action: str, text: str) -> str:
    """Return title, action and text as one text, each closed by a full stop where it has no mark of its own.

    Example:
        >>> whole_text("A walk", "", "It rained.")
        'A walk. It rained.'
    """
    present = [piece.strip() for piece in (title, action, text) if piece.strip()]
    closed = [piece if piece[-1] in ".!?\u2026\"'\u201d" else f"{piece}." for piece in present[:-1]]
    return " ".join([*closed, *present[-1:]])
