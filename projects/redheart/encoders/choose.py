"""From `data.encoder` to an encoder: the names, their options, and what each cannot do."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from projects.redheart.encoders.base import POOLINGS, Encoder
from projects.redheart.encoders.model_folder import hub_folder, local_folder, packaged_minilm
from shared.errors import ConfigError

ENCODERS = ("hashing", "minilm_packaged", "local_path", "hub")
LOWEST = {"batch_size": 1, "max_tokens": 2, "dim": 1}
"""Key -> lowest value; an encoder may allow less, and says so itself."""


@dataclass(frozen=True)
class EncoderOptions:
    """The keys of `data.encoder`.

    Attributes:
        name: One of `ENCODERS`.
        pooling: "mean": a vector for each part of a story; "tokens": one for each of its first tokens.
        normalise: Whether each vector is scaled to length 1.
        finetune: Whether the encoder is trained along, from token numbers.
        batch_size: Texts encoded at once.
        max_tokens: Tokens of a text that are read; None: 128 for pooling mean, 32 for tokens, 64 for fine-tuning.
        dim: Numbers of a vector of the hashing encoder.
        path: Folder, for local_path.
        model: Name on the hub.
        revision: Commit, tag or branch on the hub.
        device: Where vectors are computed, "auto" for the accelerator where there is one.

    Raises:
        ConfigError: A key has a value that is not allowed, or is missing.
    """

    name: str
    pooling: str = "mean"
    normalise: bool = True
    finetune: bool = False
    batch_size: int = 64
    max_tokens: int | None = None
    dim: int = 384
    path: str | None = None
    model: str | None = None
    revision: str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        self._check_kinds()
        if self.name not in ENCODERS:
            raise ConfigError(f"data.encoder.name is {self.name!r}; allowed are {', '.join(ENCODERS)}")
        if self.pooling not in POOLINGS:
            raise ConfigError(f"data.encoder.pooling is {self.pooling!r}; allowed are {', '.join(POOLINGS)}")
        if self.name == "hashing" and self.finetune:
            raise ConfigError(
                "data.encoder.finetune=true needs an encoder with weights; encoder=hashing has none: take "
                "encoder=minilm_packaged, local_path or hub"
            )
        if self.name == "hashing" and self.pooling != "mean":
            raise ConfigError(
                "data.encoder.pooling is 'tokens', but encoder=hashing has no token outputs; allowed is mean"
            )
        needed = {"local_path": ("path",), "hub": ("model", "revision")}.get(self.name, ())
        for key in needed:
            if not getattr(self, key):
                raise ConfigError(f"encoder={self.name} needs data.encoder.{key}, which is not set")

    def _check_kinds(self) -> None:
        """Refuse a value of another kind: a number in words would fail deep inside an encoder, with a stack trace."""
        for key, lowest in LOWEST.items():
            value = getattr(self, key)
            if value is None and key == "max_tokens":
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise ConfigError(f"data.encoder.{key} is {value!r}; allowed is a whole number from {lowest} on")
            if value < lowest:
                raise ConfigError(f"data.encoder.{key} is {value}; allowed is {lowest} or more")
        for key in ("normalise", "finetune"):
            if not isinstance(getattr(self, key), bool):
                raise ConfigError(f"data.encoder.{key} is {getattr(self, key)!r}; allowed are true, false")
        for key in ("path", "model", "revision", "device"):
            value = getattr(self, key)
            if not isinstance(value, str) and (value is not None or key == "device"):
                raise ConfigError(f"data.encoder.{key} is {value!r}; allowed is a text; quote one of digits alone")

    @property
    def tokens(self) -> int:
        """Tokens of a text that are read."""
        if self.max_tokens is not None:
            return self.max_tokens
        return 64 if self.finetune else 32 if self.pooling == "tokens" else 128

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> "EncoderOptions":
        """Read the keys.

        Raises:
            ConfigError: If there is a key that nothing reads, or `name` is missing.
        """
        known = cls.__dataclass_fields__
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise ConfigError(f"data.encoder has the key {unknown[0]!r}; allowed are {', '.join(known)}")
        if "name" not in options:
            raise ConfigError(f"data.encoder has no name; allowed are {', '.join(ENCODERS)}")
        return cls(**options)


def model_of(options: EncoderOptions) -> tuple[Path, str]:
    """Folder of an encoder with weights, and what the report calls it."""
    if options.name == "minilm_packaged":
        return packaged_minilm(), "all-MiniLM-L6-v2, packaged"
    if options.name == "hub":
        assert options.model is not None
        assert options.revision is not None
        return hub_folder(options.model, options.revision), f"{options.model}@{options.revision}"
    assert options.path is not None
    folder = local_folder(options.path)
    return folder, f"{folder.resolve().name}, a local folder"


def build_encoder(options: EncoderOptions) -> Encoder:
    """Build the encoder whose rows the dataset shows.

    Raises:
        ConfigError: If the encoder cannot do what is asked, or a package is not installed.
        CheckpointError: If its files are missing or not what they should be.
    """
    if options.name == "hashing":
        from projects.redheart.encoders.hashing import HashingEncoder

        return HashingEncoder(options.dim, normalise=options.normalise, batch_size=options.batch_size)
    folder, name = model_of(options)
    common: dict[str, Any] = {
        "normalise": options.normalise,
        "batch_size": options.batch_size,
        "device": options.device,
    }
    if options.finetune:
        from projects.redheart.encoders.tokens import TokenNumbers

        return TokenNumbers(folder, name, max_tokens=options.tokens)
    if options.pooling == "tokens":
        from projects.redheart.encoders.tokens import TokenEncoder

        return TokenEncoder(folder, name, max_tokens=options.tokens, **common)
    from projects.redheart.encoders.sentence import SentenceEncoder

    return SentenceEncoder(folder, name, max_tokens=options.tokens, **common)
