"""The input side of a batch, gathered from memory maps: parts of stories, token vectors, or token numbers."""

from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from projects.redheart.data.embedding_cache import EmbeddedTexts
from projects.redheart.data.parts import StoryParts


class Sequences(ABC):
    """Inputs of N stories in the order of the index."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of stories."""

    @abstractmethod
    def gather(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Inputs of some stories, padded to the longest of them."""


class PartSequences(Sequences):
    """A vector for each part of a story.

    Args:
        texts: Rows of all parts.
        parts: The parts.
    """

    def __init__(self, texts: EmbeddedTexts, parts: StoryParts) -> None:
        self._vectors = texts.vectors
        self._row = texts.rows(parts.texts)
        self._codes = parts.codes
        self._offsets = parts.offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def gather(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Embedding, embedding_mask and part of some stories, see `StoryBatch`."""
        begin, counts = self._offsets[rows], np.diff(self._offsets)[rows]
        mask = valid_places(counts)
        source = (begin[:, None] + np.arange(mask.shape[1]))[mask]  # (P,) of the stories' parts, in order
        embedding = torch.zeros(*mask.shape, self._vectors.shape[1])
        part = torch.zeros(mask.shape, dtype=torch.int64)
        where = torch.from_numpy(mask)
        # Half precision until here: a quarter of the bytes of a gather in single precision and a copy.
        embedding[where] = torch.from_numpy(self._vectors[self._row[source]]).float()
        part[where] = torch.from_numpy(self._codes[source].astype(np.int64))
        return {"embedding": embedding, "embedding_mask": where, "part": part}


class TokenVectorSequences(Sequences):
    """A vector for each of a story's first tokens.

    Args:
        texts: Rows of all stories, (R, T, D).
        row: (N,) the row of each story.
    """

    def __init__(self, texts: EmbeddedTexts, row: NDArray[np.int64]) -> None:
        self._vectors = texts.vectors
        self._counts = texts.counts[row]
        self._row = row

    def __len__(self) -> int:
        return len(self._row)

    def gather(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Embedding, embedding_mask and part of some stories, see `StoryBatch`."""
        mask = valid_places(self._counts[rows])
        vectors = self._vectors[self._row[rows], : mask.shape[1]]  # zeros behind the end of a story
        return {"embedding": torch.from_numpy(vectors).float()} | token_places(mask)


class TokenNumberSequences(Sequences):
    """Numbers of a story's first tokens, for an encoder that is trained along.

    Args:
        texts: Rows of all stories, (R, T) int32.
        row: (N,) the row of each story.
    """

    def __init__(self, texts: EmbeddedTexts, row: NDArray[np.int64]) -> None:
        self._numbers = texts.vectors
        self._counts = texts.counts[row]
        self._row = row

    def __len__(self) -> int:
        return len(self._row)

    def gather(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Input_ids, token_mask, embedding_mask and part of some stories, see `StoryBatch`."""
        mask = valid_places(self._counts[rows])
        numbers = self._numbers[self._row[rows], : mask.shape[1]].astype(np.int64)
        places = token_places(mask)
        return {"input_ids": torch.from_numpy(numbers), "token_mask": places["embedding_mask"]} | places


def valid_places(counts: NDArray[np.integer]) -> NDArray[np.bool_]:
    """(B, S) bool: True for the first `counts` places of each row; S is the highest count, at least 1."""
    longest = max(int(counts.max(initial=1)), 1)
    return np.arange(longest) < counts[:, None]


def token_places(mask: NDArray[np.bool_]) -> dict[str, Tensor]:
    """The mask as a tensor, and part codes, which are 0 for tokens."""
    return {"embedding_mask": torch.from_numpy(mask), "part": torch.zeros(mask.shape, dtype=torch.int64)}
