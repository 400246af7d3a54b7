"""One vector a text from a sentence-transformers model, pooled as the model itself was trained to be."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from projects.redheart.encoders.base import Encoded, Encoder, Identity, unit_length
from projects.redheart.encoders.device import empty_cache, pick_device
from projects.redheart.encoders.model_folder import fingerprint
from projects.redheart.models.text_encoder import no_loading_bar
from shared.errors import CheckpointError, ConfigError


class SentenceEncoder(Encoder):
    """A folder that sentence-transformers reads: MiniLM and its like, static embeddings, bags of words.

    Args:
        folder: Folder of the model.
        name: What the report calls it.
        normalise: Whether each vector is scaled to length 1.
        max_tokens: Tokens of a text that are read; more than the model knows is refused.
        batch_size: Texts encoded at once.
        device: "auto", "cpu", "cuda" or the like.
    """

    def __init__(
        self, folder: Path, name: str, *, normalise: bool, max_tokens: int, batch_size: int, device: str = "auto"
    ) -> None:
        if max_tokens < 2:
            raise ConfigError(f"data.encoder.max_tokens is {max_tokens}; allowed is 2 or more")
        super().__init__(Identity(name, fingerprint(folder), "mean", normalise, max_tokens), batch_size)
        self.folder = folder
        self.max_tokens = max_tokens
        self.device = device
        self._model: Any = None

    @property
    def model(self) -> Any:
        """The SentenceTransformer, loaded on first use from the folder alone.

        Raises:
            CheckpointError: If the folder cannot be loaded.
            ConfigError: If the model reads fewer tokens than asked for.
        """
        if self._model is None:
            from sentence_transformers import SentenceTransformer

            options: dict[str, Any] = {
                "local_files_only": True,
                "trust_remote_code": False,
                "model_kwargs": {"use_safetensors": True},
            }
            try:
                with no_loading_bar():
                    model: Any = SentenceTransformer(str(self.folder), device=pick_device(self.device), **options)
            except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
                raise CheckpointError(f"{self.folder} cannot be loaded by sentence-transformers: {error}") from error
            self._limit_tokens(model)
            self._model = model.eval()
        return self._model

    def _limit_tokens(self, model: Any) -> None:
        """Let the model read `max_tokens`; static models have no limit to set."""
        config = getattr(getattr(model[0], "auto_model", None), "config", None)
        known = getattr(config, "max_position_embeddings", None)
        if known is not None and self.max_tokens > known:
            raise ConfigError(
                f"data.encoder.max_tokens is {self.max_tokens}; {self.identity.model} reads up to {known}"
            )
        if config is not None:
            model.max_seq_length = self.max_tokens

    @property
    def shape(self) -> tuple[int, ...]:
        """One vector a text."""
        return (int(self.model.get_embedding_dimension()),)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Encode texts in one batch, in single precision."""
        vectors = self.model.encode(
            list(texts), batch_size=max(len(texts), 1), convert_to_numpy=True, show_progress_bar=False
        ).astype(np.float32, copy=False)
        if self.identity.normalise:
            vectors = unit_length(vectors)
        return Encoded(vectors.astype(self.dtype), np.ones(len(texts), dtype=np.uint16))

    def release(self) -> None:
        """Give the accelerator's cached memory back."""
        empty_cache()
