"""Batches: the longest first, and halved when memory runs out."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from projects.redheart.encoders.base import Encoded, Encoder, Identity
from projects.redheart.encoders.batches import BatchedEncoding, is_out_of_memory
from shared.errors import TrainingError


class LengthEncoder(Encoder):
    """A row is the length of its text; more than `room` characters at once do not fit."""

    def __init__(self, batch_size: int, room: int, error: Exception | None = None) -> None:
        super().__init__(Identity("lengths", "none", "mean", False, None), batch_size)
        self.room, self.error, self.batches, self.released = room, error or MemoryError(), list[int](), 0

    @property
    def shape(self) -> tuple[int, ...]:
        return (1,)

    def encode(self, texts: Sequence[str]) -> Encoded:
        if sum(map(len, texts)) > self.room:
            raise self.error
        self.batches.append(len(texts))
        lengths = np.array([[len(text)] for text in texts], dtype=self.dtype)
        return Encoded(lengths, np.ones(len(texts), dtype=np.uint16))

    def release(self) -> None:
        self.released += 1


TEXTS = ["x" * length for length in (3, 9, 1, 5, 7, 2, 8, 4, 6)]


def gathered(encoding: BatchedEncoding, texts: Sequence[str]) -> list[int]:
    found = np.zeros(len(texts), dtype=int)
    for positions, rows in encoding.run(texts):
        found[positions] = rows.values[:, 0]
    return found.tolist()


def test_the_longest_come_first_and_every_text_has_its_row() -> None:
    encoding = BatchedEncoding(LengthEncoder(4, 1000))
    order = [positions.tolist() for positions, _ in encoding.run(TEXTS)]
    assert order[0] == [1, 6, 4, 8]
    assert gathered(encoding, TEXTS) == [len(text) for text in TEXTS]


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("out of memory"), RuntimeError("CPUAllocator: can't allocate memory")],
)  # fmt: skip
def test_out_of_memory_halves_the_batch_and_loses_nothing(error: Exception) -> None:
    encoder = LengthEncoder(8, 20, error)
    encoding = BatchedEncoding(encoder)
    assert gathered(encoding, TEXTS) == [len(text) for text in TEXTS]
    assert encoding.num_halvings == encoder.released == 2
    assert encoding.batch_size == max(encoder.batches) == 2


def test_a_single_text_that_does_not_fit_is_one_sentence() -> None:
    with pytest.raises(TrainingError, match="one text of 9 characters is encoded with lengths: set data"):
        gathered(BatchedEncoding(LengthEncoder(8, 8)), TEXTS)


def test_another_error_is_not_taken_for_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"):
        gathered(BatchedEncoding(LengthEncoder(8, 20, RuntimeError("shapes differ"))), TEXTS)
    assert not is_out_of_memory(RuntimeError("shapes differ"))
