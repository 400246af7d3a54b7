"""Sentences and parts: each awkward text by hand, and what must hold for any text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projects.redheart.data.parts import (
    ACTION,
    MAX_SENTENCE_CHARS,
    TEXT,
    TITLE,
    cut_sentence,
    merge_neighbours,
    split_sentences,
    split_stories,
    whole_text,
)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("I left. She stayed.", ["I left.", "She stayed."]),
        ("Dr. Who met Mrs. Smith. They spoke.", ["Dr. Who met Mrs. Smith.", "They spoke."]),
        ("See e.g. Paris, i.e. France. Nice.", ["See e.g. Paris, i.e. France.", "Nice."]),
        ("J. K. Rowling wrote it. So what?", ["J. K. Rowling wrote it.", "So what?"]),
        ("The U.S. Army came. We ran.", ["The U.S. Army came.", "We ran."]),
        ("It was I. Nobody else.", ["It was I.", "Nobody else."]),
        ("He said no. She left.", ["He said no.", "She left."]),
        ("House no. 5 burned. Gone.", ["House no. 5 burned.", "Gone."]),
        ("It cost 3.50. Cheap!", ["It cost 3.50.", "Cheap!"]),
        ("He brought bread, milk, etc. Then he left.", ["He brought bread, milk, etc.", "Then he left."]),
        ('"Stop!" he said. "Why?" She ran.', ['"Stop!" he said.', '"Why?"', "She ran."]),
        ("\u201cGo.\u201d She went. \u201cNow?\u201d", ["\u201cGo.\u201d", "She went.", "\u201cNow?\u201d"]),
        ("He shouted (twice!) Then silence.", ["He shouted (twice!)", "Then silence."]),
        ("Well... maybe. No... Really.", ["Well... maybe.", "No...", "Really."]),
        ("Wait\u2026 What?! Yes!!!", ["Wait\u2026", "What?!", "Yes!!!"]),
        ("no punctuation at all in this text", ["no punctuation at all in this text"]),
        ("a title\n\nthe text. begins", ["a title", "the text. begins"]),
        ("a line\nthat is wrapped. Yes.", ["a line that is wrapped.", "Yes."]),
        ("\u4eca\u3002\u5143\uff1f\u306f", ["\u4eca\u3002", "\u5143\uff1f", "\u306f"]),
        ("...", ["..."]),
        ("  \n \n ", []),
        ("", []),
    ],
)  # fmt: skip
def test_sentences(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@given(st.text(alphabet="aB .!?\u2026\n\"')\u3002,5", max_size=80))
def test_no_letter_is_lost_and_no_sentence_is_empty(text: str) -> None:
    sentences = split_sentences(text)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence == sentence.strip() and sentence for sentence in sentences)


@given(st.text(alphabet="ab ,;", max_size=120), st.integers(1, 30))
def test_cutting_keeps_every_letter_and_the_limit(text: str, limit: int) -> None:
    sentence = " ".join(text.split())
    pieces = cut_sentence(sentence, limit)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(0 < len(piece) <= limit for piece in pieces)


def test_a_long_sentence_is_cut_at_a_clause_else_at_a_word_else_anywhere() -> None:
    assert cut_sentence("one two three, four five six seven", 20) == ["one two three,", "four five six seven"]
    assert cut_sentence("one two three four five", 12) == ["one two", "three four", "five"]
    assert cut_sentence("abcdefgh", 3) == ["abc", "def", "gh"]


@given(st.integers(0, 60), st.integers(1, 20))
def test_merging_keeps_all_in_order_and_spreads_evenly(count: int, room: int) -> None:
    pieces = [str(number) for number in range(count)]
    merged = merge_neighbours(pieces, room)
    assert " ".join(merged).split() == pieces
    assert len(merged) == min(count, room)
    sizes = [len(piece.split()) for piece in merged]
    assert max(sizes, default=0) - min(sizes, default=0) <= 1


def test_stories_become_title_action_and_sentences() -> None:
    long_text = " ".join(f"Sentence {number}." for number in range(10))
    parts = split_stories(["T", "", " "], ["A", "Did it", ""], ["One. Two.", long_text, "word " * 300], max_parts=5)
    assert parts.offsets.tolist() == [0, 4, 9, 12]
    assert parts.codes.tolist() == [TITLE, ACTION, TEXT, TEXT, ACTION, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT]
    assert parts.texts[:6] == ["T", "A", "One.", "Two.", "Did it", "Sentence 0. Sentence 1."]
    assert (parts.num_merged, parts.num_cut) == (1, 1)
    assert parts.codes.dtype == np.int8
    assert all(0 < len(text) <= MAX_SENTENCE_CHARS for text in parts.texts)


def test_too_few_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="max_parts is 2; allowed is 3 or more"):
        split_stories([], [], [], max_parts=2)


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (("A walk", "", "It rained."), "A walk. It rained."),
        (("Why?", " ran ", "x"), "Why? ran. x"),
        (("", "", "x"), "x"),
    ],
)
def test_whole_text(pieces: tuple[str, str, str], text: str) -> None:
    assert whole_text(*pieces) == text
