"""What every text encoder is: a name that its vectors are kept under, and a function from texts to rows."""

import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.errors import ConfigError

POOLINGS = ("mean", "tokens")
"""One vector a part of the story, or one a token of the story's beginning."""


@dataclass(frozen=True)
class Identity:
    """What the rows of an encoder depend on beside the text.

    Attributes:
        model: Kind and name of the model, with its revision where it has one.
        weights: Sha256 over the files that the model is made of; for an encoder without weights, its parameters.
        pooling: "mean", "tokens", or "ids": token numbers, for fine-tuning.
        normalise: Whether each vector is scaled to length 1.
        max_tokens: Tokens of a text that are read; None: all of it.
    """

    model: str
    weights: str
    pooling: str
    normalise: bool
    max_tokens: int | None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        return dataclasses.asdict(self)

    def key(self) -> str:
        """Return 12 hexadecimal digits; other fields give another key."""
        content = json.dumps(self.as_dict(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(content.encode("utf-8")).hexdigest()[:12]

    def describe(self) -> str:
        """Return a line for the report."""
        read = "whole text" if self.max_tokens is None else f"{self.max_tokens} tokens"
        unit = ", unit length" if self.normalise else ""
        return f"{self.model} ({self.pooling} of {read}{unit}; weights {self.weights[:12]})"


class Encoded(NamedTuple):
    """Rows of n texts.

    Attributes:
        values: (n, *shape) in the encoder's dtype.
        counts: (n,) uint16, how many entries along the first axis of a row are filled; 1 for one vector a text.
    """

    values: NDArray[Any]
    counts: NDArray[np.uint16]


class Encoder(ABC):
    """Base of all encoders; heavy libraries load on the first call of `encode`, not before.

    Args:
        identity: What the rows depend on.
        batch_size: Texts that are encoded at once, > 0; the rows do not depend on it but for rounding.

    Raises:
        ConfigError: If the batch is empty.
    """

    dtype: np.dtype[Any] = np.dtype("<f2")

    def __init__(self, identity: Identity, batch_size: int) -> None:
        if batch_size < 1:
            raise ConfigError(f"data.encoder.batch_size is {batch_size}; allowed is 1 or more")
        self.identity = identity
        self.batch_size = batch_size

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of a row: (D,) for one vector a text, (T, D) for one a token, (T,) for token numbers."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> Encoded:
        """Encode some texts in one go."""

    def release(self) -> None:  # noqa: B027 - an encoder that keeps nothing has nothing to give back
        """Give memory back after an attempt that needed too much."""


def unit_length(vectors: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Scale the last axis to length 1; a vector of zeros stays one."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)
