"""What the pillsnap datamodules share: the preprocessor, the augmentation, datasets, and photos one by one."""

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from projects.pillsnap.data.augment import build_augmentation
from projects.pillsnap.data.dataset import DOMAIN, PhotoDataset
from projects.pillsnap.gateway import PILLOW_MAX_PIXELS, GatewayLimits, PhotoError, decode_photo
from projects.pillsnap.preprocess import PreprocessError, UnifiedPreprocessor
from shared.base_data import FoldedDataModule
from shared.errors import ConfigError, DataError
from shared.sample_index import DIGEST_BYTES

UNLIMITED = GatewayLimits(max_bytes=1 << 30, max_pixels=PILLOW_MAX_PIXELS)
"""A user's own photos may be larger than what a stranger may upload."""


class PhotoDataModule(FoldedDataModule):
    """Base of the project's datamodules.

    A subclass fills `build_index`, `split` and `read`; its index has a metadata column `domain`.

    Args:
        preprocessing: size_px, clahe, clip_limit and grid of `UnifiedPreprocessor`.
        augmentation: Arguments of `build_augmentation`, or None for no augmentation.
        batch_size: Photos in a training batch.
        eval_batch_size: Photos in any other batch.
        num_workers: Loader processes.
        seed: Set by the engine.
        cache_folder: Set by the engine; made data.
    """

    network_keys: ClassVar[tuple[str, ...]] = ("preprocessing",)

    attributes: tuple[str, ...] = ()
    """Metadata columns that get a head of their own."""

    def __init__(
        self,
        *,
        preprocessing: Mapping[str, Any],
        augmentation: Mapping[str, Any] | None,
        batch_size: int,
        eval_batch_size: int,
        num_workers: int,
        seed: int,
        cache_folder: str,
    ) -> None:
        super().__init__(batch_size=batch_size, eval_batch_size=eval_batch_size, num_workers=num_workers, seed=seed)
        try:
            self.preprocess = UnifiedPreprocessor(**preprocessing)
        except (PreprocessError, TypeError) as error:
            raise ConfigError(f"data.preprocessing is refused: {error}") from None
        self.augmentation = dict(augmentation or {})
        options: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in self.augmentation.items()
        }
        self.augment = None if augmentation is None else build_augmentation(self.preprocess.size_px, **options)
        self.cache_folder = Path(cache_folder)
        self._findings: list[str] = []

    @abstractmethod
    def read(self, row: int) -> bytes:
        """Bytes of the file behind a row of the index."""

    def photo(self, row: int) -> NDArray[np.uint8]:
        """RGB pixels (H, W, 3) uint8 of a row of the index, decoded as the server decodes.

        Raises:
            DataError: If the file is missing or damaged; the message names it.
        """
        return decoded(self.read(row), self.index.ids[row])

    def build_dataset(self, fold: str, rows: NDArray[np.int64]) -> Dataset[Any]:
        """Photos of a fold; only those of train are augmented."""
        augment = self.augment if fold == "train" else None
        return PhotoDataset(
            self.index, rows, self.photo, self.preprocess, augment=augment, seed=self.seed, attributes=self.attributes
        )

    def module_arguments(self) -> dict[str, Any]:
        """Classes, values of the attributes, names of the domains, and the preprocessing."""
        names = self.index.meta_names
        return {
            "classes": list(self.index.classes),
            "attribute_names": {attribute: list(names[attribute]) for attribute in self.attributes},
            "domains": list(names[DOMAIN]),
            "preprocessing": self.preprocess.get_config(),
        }

    def align(self, arguments: Mapping[str, Any]) -> None:
        """Refuse data of other classes or under another preprocessing than the network was trained with."""
        if dict(arguments["preprocessing"]) != self.preprocess.get_config():
            raise DataError(
                f"the network was trained on pixels from {dict(arguments['preprocessing'])}; the data give "
                f"{self.preprocess.get_config()}"
            )
        super().align(arguments)

    def pictures(self, rows: NDArray[np.int64]) -> NDArray[np.uint8] | None:
        """What the given photos look like to the network's eye, in grey, (K, S, S)."""
        squares = [self.preprocess.square(self.photo(int(row))) for row in rows]
        weights = np.array([0.299, 0.587, 0.114])
        return np.stack([(square @ weights).round().astype(np.uint8) for square in squares])

    def findings(self) -> tuple[list[dict[str, str]], list[str]]:
        """What is odd about the data."""
        return [], self._findings


def decoded(content: bytes, name: str) -> NDArray[np.uint8]:
    """RGB pixels (H, W, 3) uint8 of a photo's bytes.

    Raises:
        DataError: If it is no whole photo; the message has its `name`.
    """
    try:
        return decode_photo(content, UNLIMITED)
    except PhotoError as error:
        raise DataError(f"photo {name} cannot be used: {error}") from None


def content_digests(contents: Iterable[bytes]) -> NDArray[np.uint8]:
    """The index's digest of each file's bytes, (N, 16) uint8."""
    digests = [hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest() for content in contents]
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, DIGEST_BYTES).copy()


def recorded(values: Sequence[str]) -> tuple[NDArray[np.int16], tuple[str, ...]]:
    """Codes of strings and their sorted names; an empty string is missing, -1."""
    names = tuple(sorted(set(values) - {""}))
    table = {name: code for code, name in enumerate(names)} | {"": -1}
    return np.array([table[value] for value in values], dtype=np.int16), names
