"""Near-duplicates to plant: a text with a few words changed, always above the threshold of the quality step."""

import numpy as np
from rapidfuzz import fuzz

LEAST_RATIO = 93.0
"""A planted copy is at least this like its original, so that it lies safely above the threshold of 92."""

_MOST_CHANGES = 8
_SWAPS = {
    "was": "were",
    "and": "and also",
    "the": "that",
    "It": "This",
    "would": "might",
    "about": "of",
    "not": "never",
}


def changed_copy(text: str, generator: np.random.Generator) -> str:
    """Return a text with up to eight small changes: a letter doubled or lost, a word replaced, lower case, a comma.

    Changes that would bring the ratio to the original below `LEAST_RATIO` are not made; the copy may equal the text.
    """
    made = text
    for _ in range(int(generator.integers(_MOST_CHANGES + 1))):
        changed = _change(made, generator)
        if fuzz.ratio(text, changed) >= LEAST_RATIO:
            made = changed
    return made


def _change(text: str, generator: np.random.Generator) -> str:
    words = text.split(" ")
    place = int(generator.integers(len(words)))
    word = words[place]
    at = int(generator.integers(len(word)))
    kind = int(generator.integers(5))
    if kind == 0:
        words[place] = word[: at + 1] + word[at:]
    elif kind == 1 and len(word) > 1:
        words[place] = word[:at] + word[at + 1 :]
    elif kind == 2:
        words[place] = _SWAPS.get(word, word)
    elif kind == 3:
        words[place] = word.lower()
    else:
        words[place] = word + ("," if word[-1].isalpha() else "")
    return " ".join(words)
