"""Photos of an index as samples: decoded as the server decodes, augmented as pixels, then the one preprocessor."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from projects.pillsnap.data.batch import PillBatch
from projects.pillsnap.preprocess import UnifiedPreprocessor, centre_square
from shared.augmentation import Augmentation
from shared.sample_index import SampleIndex
from shared.sampler import SampleKey
from shared.seeding import derive_seed

DOMAIN = "domain"
"""Metadata column that says where a photo was taken."""


class PhotoDataset(Dataset[PillBatch]):
    """The photos at some rows of an index.

    Args:
        index: All photos.
        rows: (N,) rows of the index that this dataset shows.
        photo: Row of the index -> RGB pixels, (H, W, 3) uint8.
        preprocess: From pixels to the network's input.
        augment: Change of the centre square of a training photo, (H, H, 3) uint8 to (S, S, 3) uint8, which comes before
            the rest of the preprocessor; None for none. Only a `SampleKey`, which a training sampler hands out, is
            augmented.
        seed: Base seed of the run.
        attributes: Keys of `index.meta`, in the order of the network's attribute heads.
    """

    def __init__(
        self,
        index: SampleIndex,
        rows: NDArray[np.int64],
        photo: Callable[[int], NDArray[np.uint8]],
        preprocess: UnifiedPreprocessor,
        *,
        augment: Augmentation | None,
        seed: int,
        attributes: Sequence[str],
    ) -> None:
        self.photo = photo
        self.preprocess = preprocess
        self.augment = augment
        self.seed = seed
        columns = [index.meta[name][rows].astype(np.int64) for name in attributes]
        table = np.stack(columns, axis=1) if columns else np.zeros((len(rows), 0), dtype=np.int64)
        self._attributes = torch.from_numpy(table)  # (N, A)
        self._target = torch.from_numpy(index.label[rows].astype(np.int64))
        self._rows = torch.from_numpy(np.asarray(rows, dtype=np.int64).copy())
        self._group = torch.from_numpy(index.group[rows].astype(np.int64))
        self._domain = torch.from_numpy(index.meta[DOMAIN][rows].astype(np.int64))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: "int | SampleKey") -> PillBatch:
        """Return one photo.

        Raises:
            DataError: The file is missing or damaged; the message names it.
            IndexError: The position does not exist.
        """
        position, draw = key if isinstance(key, SampleKey) else (key, None)
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} does not exist in a dataset of {len(self)} photos")
        pixels = self.photo(int(self._rows[position]))
        if self.augment is not None and draw is not None:
            # Of what serving looks at: a random crop of a whole 4:3 photo would squeeze it.
            square = np.ascontiguousarray(centre_square(pixels))
            pixels = self.augment(square, derive_seed(self.seed, draw))
        return {
            "image": network_input(self.preprocess, pixels),
            "target": self._target[position],
            "attributes": self._attributes[position],
            "sample_index": self._rows[position],
            "group_index": self._group[position],
            "domain": self._domain[position],
        }


def network_input(preprocess: UnifiedPreprocessor, pixels: NDArray[np.uint8]) -> Tensor:
    """Return the network's input, (3, S, S) float32, for RGB pixels (H, W, 3) uint8 of any size."""
    return torch.from_numpy(preprocess(pixels))
