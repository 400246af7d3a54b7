"""A transformer that is trained along: tokens in, a vector a token out, in the form of a story's parts."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class EncodedTokens(NamedTuple):
    """Tokens in the form of parts.

    Attributes:
        embedding: (B, T, D), zeros where there is no token.
        mask: (B, T) bool, True where there is a token.
        part: (B, T) int64, zeros: all are text.
    """

    embedding: Tensor
    mask: Tensor
    part: Tensor


class TextEncoder(nn.Module):
    """The transformer that a config describes, with random weights; `initial_text_encoder` gives it those of a folder.

    A network that is loaded again gets its weights from the checkpoint, so the folder need not be there any more.

    Args:
        config: Content of the transformer's config.json, plain values.

    Raises:
        ValueError: If the config names no architecture that transformers knows.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModel

        settings = plain_config(config)
        kind = settings.pop("model_type", None)
        if kind is None:
            raise ValueError("the config of a text encoder has no model_type; allowed is what transformers knows")
        build: Any = AutoModel.from_config
        self.transformer = without_pooler(build(AutoConfig.for_model(kind, **settings), dtype=torch.float32))
        self.embedding_dim = int(self.transformer.config.hidden_size)

    def forward(self, input_ids: Tensor, token_mask: Tensor) -> EncodedTokens:
        """Encode token numbers (B, T) int64 with their mask (B, T) bool; padding never changes another token."""
        # A row without a token attends to its first place: attention over nothing is NaN in some kernels.
        attended = token_mask.clone()
        attended[:, 0] |= ~token_mask.any(dim=1)
        states = self.transformer(input_ids=input_ids, attention_mask=attended.long()).last_hidden_state  # (B, T, D)
        embedding = states.masked_fill(~token_mask[..., None], 0.0)
        return EncodedTokens(embedding, token_mask, torch.zeros_like(input_ids))


def initial_text_encoder(config: Mapping[str, Any], folder: str) -> TextEncoder:
    """Return a `TextEncoder` with the weights of a folder.

    Args:
        config: As for `TextEncoder`.
        folder: Folder with config.json and weights in safetensors.

    Raises:
        ValueError: If the folder's weights do not fit the config.
        OSError: If the folder has no weights in safetensors.
    """
    encoder = TextEncoder(config)
    stored = load_transformer(folder).state_dict()
    try:
        encoder.transformer.load_state_dict(stored)
    except RuntimeError as error:
        raise ValueError(f"the weights in {folder} do not fit the text encoder: {error}") from error
    return encoder


def load_transformer(folder: str) -> Any:
    """Return the transformer of a folder, weights from safetensors only and no code from the folder, without a pooler.

    Raises:
        OSError: If there are no such weights.
    """
    from transformers import AutoModel

    with no_loading_bar():
        model = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        )
    return without_pooler(model)


@contextmanager
def no_loading_bar() -> Iterator[None]:
    """Keep transformers' bar off the screen while a folder is read, which takes a second at most."""
    import transformers

    logging: Any = transformers.utils.logging
    shown: bool = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def without_pooler(model: Any) -> Any:
    """Take the pooler off, where there is one: nothing reads it, so its weights would never move."""
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config.json without what would load code or names the machine that wrote it."""
    left_out = {"auto_map", "_name_or_path", "transformers_version", "custom_pipelines", "dtype", "torch_dtype"}
    return {key: value for key, value in config.items() if key not in left_out}
