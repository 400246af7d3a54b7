"""An encoder without weights: hashed words and letter n-grams, projected to a few hundred numbers.

It knows spelling, not meaning. It is there so that everything runs with nothing installed or downloaded; the report
says its name, so nobody takes its result for that of a sentence encoder.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.preprocessing import normalize

from projects.redheart.encoders.base import Encoded, Encoder, Identity, unit_length
from shared.errors import ConfigError

NUM_FEATURES = 1 << 18
"""Hashed features of the words, and as many of the letters."""

SPREAD = 8
"""Output numbers that a feature adds to, each with a random sign."""

MAX_CHARS = 4_000
"""Characters of a text that are read; a part is far shorter."""


class HashingEncoder(Encoder):
    """Words, pairs of words and letter n-grams of 3 to 5, hashed, then a seeded sparse random projection.

    The counts of a text enter as log(1 + n), words and letters each scaled to length 1. The result is the same in every
    process and on every machine: hash and projection are integer arithmetic, sums are taken in double precision before
    the rounding to half precision.

    Args:
        dim: Numbers of a vector, 8 to 4,096.
        normalise: Whether each vector is scaled to length 1.
        batch_size: Texts encoded at once.
        seed: Which projection.

    Raises:
        ConfigError: If an argument is out of range.

    Source: Weinberger et al., "Feature Hashing for Large Scale Multitask Learning" (ICML 2009), signed hashing; Li,
        Hastie, Church, "Very Sparse Random Projections" (KDD 2006), there each entry is drawn on its own, here each
        feature has exactly `SPREAD` of them.
    """

    def __init__(self, dim: int = 384, *, normalise: bool = True, batch_size: int = 512, seed: int = 0) -> None:
        if not 8 <= dim <= 4096:
            raise ConfigError(f"data.encoder.dim is {dim}; allowed is 8 to 4096")
        weights = f"dim {dim}, features 2 x {NUM_FEATURES}, spread {SPREAD}, chars {MAX_CHARS}, seed {seed}, version 1"
        digest = hashlib.sha256(weights.encode()).hexdigest()
        super().__init__(Identity("hashing", digest, "mean", normalise, None), batch_size)
        self.dim = dim
        # No norm and no sign here: counts are damped first; the projection brings the signs.
        common = {"n_features": NUM_FEATURES, "norm": None, "alternate_sign": False, "dtype": np.float64}
        self._words = HashingVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b|[!?]+", **common)
        self._letters = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), **common)
        self._projection = sparse_projection(2 * NUM_FEATURES, dim, seed)

    @property
    def shape(self) -> tuple[int, ...]:
        """One vector a text."""
        return (self.dim,)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Encode texts; one without a word or letter becomes zeros."""
        read = [text[:MAX_CHARS] for text in texts]
        counts = [vectorizer.transform(read) for vectorizer in (self._words, self._letters)]
        for matrix in counts:
            np.log1p(matrix.data, out=matrix.data)
        features = hstack([normalize(matrix) for matrix in counts], format="csr")
        vectors = (features @ self._projection).toarray()
        if self.identity.normalise:
            vectors = unit_length(vectors)
        return Encoded(vectors.astype(self.dtype), np.ones(len(texts), dtype=np.uint16))


def sparse_projection(num_features: int, dim: int, seed: int) -> csr_matrix:
    """Return the (num_features, dim) projection: `SPREAD` entries a row, +-1 / sqrt(SPREAD); equal places add up."""
    slot = np.arange(num_features * SPREAD, dtype=np.uint64)
    bits = mixed(slot + np.uint64(seed) * np.uint64(num_features * SPREAD))
    column = (bits >> np.uint64(1)) % np.uint64(dim)
    sign = np.where(bits & np.uint64(1), 1.0, -1.0) / np.sqrt(SPREAD)
    pointer = np.arange(0, len(slot) + 1, SPREAD)
    return csr_matrix((sign, column.astype(np.int32), pointer), shape=(num_features, dim))


def mixed(number: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the splitmix64 of each number; arithmetic modulo 2**64, so the same everywhere and for ever.

    Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators" (OOPSLA 2014).
    """
    with np.errstate(over="ignore"):
        state = number + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))
