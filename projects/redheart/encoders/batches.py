"""Many texts through an encoder, the longest first, with a batch that gives way when memory runs out."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from projects.redheart.encoders.base import Encoded, Encoder
from shared.errors import TrainingError


class BatchedEncoding:
    """Encodes texts in batches; out of memory halves the batch, for good.

    Args:
        encoder: The encoder; its `batch_size` is where the batch starts.

    Attributes:
        batch_size: The present batch.
        num_halvings: How often memory ran out.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.batch_size = encoder.batch_size
        self.num_halvings = 0

    def run(self, texts: Sequence[str]) -> Iterator[tuple[NDArray[np.int64], Encoded]]:
        """Encode texts, the longest first: batches of like length pad little, and memory runs out early or never.

        Yields:
            Positions in `texts`, (n,), and their rows.

        Raises:
            TrainingError: If memory runs out with a single text.
        """
        lengths = np.fromiter((len(text) for text in texts), dtype=np.int64, count=len(texts))
        order = np.argsort(-lengths, kind="stable")
        begin = 0
        while begin < len(order):
            positions = order[begin : begin + self.batch_size]
            rows = self._try([texts[position] for position in positions])
            if rows is not None:
                yield positions, rows
                begin += len(positions)

    def _try(self, batch: list[str]) -> Encoded | None:
        """Encode a batch, or halve the batch size and return None."""
        try:
            return self.encoder.encode(batch)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise TrainingError(
                    f"memory runs out while one text of {len(batch[0])} characters is encoded with "
                    f"{self.encoder.identity.model}: set data.encoder.max_tokens lower, or take a smaller encoder"
                ) from error
        # Behind the handler: while it runs, the traceback keeps the tensors of the failed attempt alive.
        self.batch_size = max(1, len(batch) // 2)
        self.num_halvings += 1
        self.encoder.release()
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means too little memory: Python's, torch's on an accelerator, or its CPU allocator's."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text
