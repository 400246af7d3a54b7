"""The beginning of a text token by token: the transformer's outputs, or the token numbers for fine-tuning."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from projects.redheart.encoders.base import Encoded, Encoder, Identity, unit_length
from projects.redheart.encoders.device import empty_cache, pick_device
from projects.redheart.encoders.model_folder import fingerprint, transformer_config, transformer_folder
from shared.errors import CheckpointError, ConfigError

_VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)


class _TransformerFolder(Encoder):
    """What both share: the folder, the number of tokens and the fast tokenizer."""

    def __init__(self, folder: Path, identity: Identity, max_tokens: int, batch_size: int) -> None:
        config = transformer_config(folder)
        known = config.get("max_position_embeddings")
        highest = min(int(known), 512) if known is not None else 512
        if not 4 <= max_tokens <= highest:
            raise ConfigError(f"data.encoder.max_tokens is {max_tokens}; {identity.model} allows 4 to {highest}")
        super().__init__(identity, batch_size)
        self.folder = transformer_folder(folder)
        self.config = config
        self.max_tokens = max_tokens
        self._tokenizer: Any = None

    @property
    def tokenizer(self) -> Any:
        """The fast tokenizer of the folder, loaded on first use.

        Raises:
            CheckpointError: If the folder has none.
        """
        if self._tokenizer is None:
            from transformers import AutoTokenizer

            # Without these transformers makes an empty vocabulary, and every word becomes the unknown one.
            if not any((self.folder / name).is_file() for name in _VOCABULARIES):
                raise CheckpointError(f"{self.folder} has no usable tokenizer: none of {', '.join(_VOCABULARIES)}")

            try:
                self._tokenizer = AutoTokenizer.from_pretrained(
                    str(self.folder), use_fast=True, local_files_only=True, trust_remote_code=False
                )
            except (OSError, ValueError, KeyError) as error:
                raise CheckpointError(f"{self.folder} has no usable tokenizer: {error}") from error
        return self._tokenizer

    def tokenize(self, texts: Sequence[str]) -> dict[str, Any]:
        """Token numbers of texts, padded on the right to the longest, as tensors."""
        options = {"truncation": True, "max_length": self.max_tokens, "padding": True, "padding_side": "right"}
        return dict(self.tokenizer(list(texts), return_tensors="pt", **options))


class TokenEncoder(_TransformerFolder):
    """Outputs of a transformer's last layer for the first tokens of a text, (max_tokens, D), zeros behind its end.

    Args:
        folder: Folder of the model.
        name: What the report calls it.
        normalise: Whether each token's vector is scaled to length 1.
        max_tokens: Tokens of a text that are read and kept, the special ones counted.
        batch_size: Texts encoded at once.
        device: "auto", "cpu", "cuda" or the like.

    Raises:
        ConfigError: If the model is no transformer or knows fewer tokens.
    """

    def __init__(
        self, folder: Path, name: str, *, normalise: bool, max_tokens: int = 32, batch_size: int, device: str = "auto"
    ) -> None:
        identity = Identity(name, fingerprint(folder), "tokens", normalise, max_tokens)
        super().__init__(folder, identity, max_tokens, batch_size)
        self.device = device
        self._model: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Tokens and numbers of each."""
        return (self.max_tokens, int(self.config["hidden_size"]))

    @property
    def model(self) -> Any:
        """The transformer, loaded on first use from the folder alone.

        Raises:
            CheckpointError: If it cannot be loaded.
        """
        if self._model is None:
            from projects.redheart.models.text_encoder import load_transformer

            try:
                self._model = load_transformer(str(self.folder)).to(pick_device(self.device)).eval()
            except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
                raise CheckpointError(f"{self.folder} cannot be loaded by transformers: {error}") from error
        return self._model

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Encode texts in one batch, in single precision."""
        import torch

        tokens = self.tokenize(texts)
        mask = tokens["attention_mask"].numpy().astype(bool)  # (n, t), t <= max_tokens
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            output = self.model(**{key: value.to(device) for key, value in tokens.items()}).last_hidden_state
        states = output.float().cpu().numpy() * mask[..., None]
        if self.identity.normalise:
            states = unit_length(states)
        values = np.zeros((len(texts), *self.shape), dtype=self.dtype)
        values[:, : states.shape[1]] = states
        return Encoded(values, mask.sum(axis=1).astype(np.uint16))

    def release(self) -> None:
        """Give the accelerator's cached memory back."""
        empty_cache()


class TokenNumbers(_TransformerFolder):
    """Token numbers of the first tokens of a text, (max_tokens,) int32, the padding number behind its end.

    Args:
        folder: Folder of the model.
        name: What the report calls it.
        max_tokens: Tokens of a text that are read, the special ones counted.
        batch_size: Texts tokenised at once.

    Raises:
        ConfigError: If the model is no transformer or knows fewer tokens.
    """

    dtype: np.dtype[Any] = np.dtype("<i4")

    def __init__(self, folder: Path, name: str, *, max_tokens: int = 64, batch_size: int = 1024) -> None:
        identity = Identity(name, fingerprint(folder), "ids", False, max_tokens)
        super().__init__(folder, identity, max_tokens, batch_size)

    @property
    def shape(self) -> tuple[int, ...]:
        """Tokens of a text."""
        return (self.max_tokens,)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Tokenise texts."""
        tokens = self.tokenize(texts)
        ids, mask = tokens["input_ids"].numpy(), tokens["attention_mask"].numpy()
        values = np.full((len(texts), self.max_tokens), self.tokenizer.pad_token_id or 0, dtype=self.dtype)
        values[:, : ids.shape[1]] = ids
        return Encoded(values, mask.sum(axis=1).astype(np.uint16))
