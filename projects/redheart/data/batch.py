"""What a batch of stories holds."""

from typing import NotRequired, TypedDict

from torch import Tensor


class StoryBatch(TypedDict):
    """B stories of S parts.

    Attributes:
        embedding: (B, S, D) float32, zeros where there is no part; absent when the encoder is trained along.
        input_ids: (B, T) int64 token numbers, only when the encoder is trained along.
        token_mask: (B, T) bool, True where there is a token; only then.
        embedding_mask: (B, S) bool, True where there is a part; then S is T.
        part: (B, S) int64: 0 a sentence of the text, 1 the title, 2 the action; 0 for a token and where nothing is.
        target: emotion (B,) int64, 0 where masked; bentham (B, 10), regret (B, 1), surd (B, 4) float32 in [0, 1], 0
            where masked.
        target_mask: emotion (B,) bool, the others (B, D) bool: True where the target is known.
        sample_index: (B,) int64 rows of the index.
        group_index: (B,) int64 codes of the groups.
        domain: (B,) int64, zeros.
    """

    embedding: NotRequired[Tensor]
    input_ids: NotRequired[Tensor]
    token_mask: NotRequired[Tensor]
    embedding_mask: Tensor
    part: Tensor
    target: dict[str, Tensor]
    target_mask: dict[str, Tensor]
    sample_index: Tensor
    group_index: Tensor
    domain: Tensor
