"""Slices of an index as training samples: read, decoded and augmented when asked for, never cached."""

from collections.abc import Callable, Collection, Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from projects.battery.data.batch import IMAGE_MEAN, IMAGE_STD, BatteryBatch
from projects.battery.data.decode import decode_grey, resize_square
from shared.readers import ImageReader
from shared.sample_index import SampleIndex
from shared.sampler import SampleKey
from shared.seeding import derive_seed

Transform = Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]
"""(H, W) uint8 and a seed -> (H, W) uint8; see `augment.build_augmentation`."""

# 256 grey values, 256 answers: a look-up replaces the conversion, the division and the subtraction of each pixel.
_NORMALISED = ((np.arange(256, dtype=np.float64) / 255 - IMAGE_MEAN) / IMAGE_STD).astype(np.float32)


class SliceDataset(Dataset[BatteryBatch]):
    """The samples at some rows of an index.

    The key says whether anything is random. A plain position gives the image as it is; a `SampleKey`, which only a
    training sampler hands out, seeds the augmentation from (seed, draw), so a result does not depend on which worker
    made it. With `train` false a `SampleKey` changes nothing either.

    Args:
        index: All samples.
        rows: (N,) rows of the index that this dataset shows.
        reader: Gives the bytes of a sample id.
        image_size_px: Side of the square image, > 0.
        transform: Augmentation of a training image after the resize; None for none.
        train: Whether a `SampleKey` augments.
        seed: Base seed of the run.
        meta_columns: Keys of `index.meta`, in the order of the network's metadata input.
        dropped_columns: Those among them that are shown as missing (-1), for a network that must do without.
        domain_column: Key of `index.meta` that gives `domain`; None: 0 for all.
        meta_permuted: (N, M) codes shown beside the true ones; `dropped_columns` applies to them too.

    Raises:
        ValueError: A column does not exist, or an argument has the wrong size.
    """

    def __init__(
        self,
        index: SampleIndex,
        rows: NDArray[np.int64],
        reader: ImageReader,
        *,
        image_size_px: int,
        transform: Transform | None = None,
        train: bool = False,
        seed: int = 0,
        meta_columns: Sequence[str] = ("kind", "axis"),
        dropped_columns: Collection[str] = (),
        domain_column: str | None = None,
        meta_permuted: NDArray[np.int64] | None = None,
    ) -> None:
        if image_size_px <= 0:
            raise ValueError(f"image_size_px must be positive, got {image_size_px}")
        needed = [*meta_columns, *([] if domain_column is None else [domain_column])]
        unknown = [column for column in needed if column not in index.meta]
        if unknown:
            raise ValueError(f"metadata columns {unknown} do not exist; the index has {sorted(index.meta)}")
        stray = sorted(set(dropped_columns) - set(meta_columns))
        if stray:
            raise ValueError(f"dropped columns {stray} are not among the metadata columns {list(meta_columns)}")
        self.reader = reader
        self.image_size_px = image_size_px
        self.transform = transform
        self.train = train
        self.seed = seed
        self._ids = index.ids.take(rows)
        # Tables and no Python objects: forked workers share them, and a row of a tensor is a ready sample.
        self._meta = _table(index, rows, meta_columns, dropped_columns)
        self._meta_permuted = _checked_permutation(meta_permuted, self._meta, meta_columns, dropped_columns)
        self._target = torch.from_numpy(index.label[rows].astype(np.int64))
        self._sample_index = torch.from_numpy(np.asarray(rows, dtype=np.int64).copy())
        self._group_index = torch.from_numpy(index.group[rows].astype(np.int64))
        self._domain = _table(index, rows, [domain_column] if domain_column else [], ()).sum(dim=1)  # no column: 0

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, key: "int | SampleKey") -> BatteryBatch:
        """Return one sample.

        Raises:
            DataError: The file is missing, cut off or damaged; the message names it.
            IndexError: The position does not exist.
        """
        position, draw = key if isinstance(key, SampleKey) else (key, None)
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} does not exist in a dataset of {len(self)} samples")
        image = self.pixels(position)
        if self.train and self.transform is not None and draw is not None:
            image = self.transform(image, derive_seed(self.seed, draw))
        sample: BatteryBatch = {
            "image": normalise(image),
            "meta": self._meta[position],
            "target": self._target[position],
            "sample_index": self._sample_index[position],
            "group_index": self._group_index[position],
            "domain": self._domain[position],
        }
        if self._meta_permuted is not None:
            sample["meta_permuted"] = self._meta_permuted[position]
        return sample

    def pixels(self, position: int) -> NDArray[np.uint8]:
        """Return the grey pixels of one sample as the network's input shows them, (H, W) uint8, never augmented."""
        sample_id = self._ids[position]
        return resize_square(decode_grey(self.reader.read(sample_id), sample_id), self.image_size_px)


def normalise(image: NDArray[np.uint8]) -> Tensor:
    """Turn grey pixels, (H, W) uint8, into the network's input, (1, H, W) float32.

    Example:
        >>> [round(value, 2) for value in normalise(np.array([[0, 255]], np.uint8)).flatten().tolist()]
        [-1.99, 2.44]
    """
    return torch.from_numpy(_NORMALISED[image])[None]  # (1, H, W)


def permute_within(strata: NDArray[np.int64], meta: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Give each sample the metadata of another one of its stratum, e.g. of the same kind.

    Args:
        strata: (N,) code of the stratum.
        meta: (N, M) metadata codes.
        seed: Seeds the permutation.

    Returns:
        (N, M): within each stratum the same rows in another order, no row in its own place; a stratum of one keeps its.
    """
    generator = np.random.default_rng(seed)
    permuted = meta.copy()
    for stratum in np.unique(strata):
        # A shift along a shuffled order is one cycle through all members, so none stays where it was.
        members = generator.permutation(np.flatnonzero(strata == stratum))
        permuted[members] = meta[np.roll(members, 1)]
    return permuted


def meta_table(index: SampleIndex, rows: NDArray[np.int64], columns: Sequence[str]) -> NDArray[np.int64]:
    """Return the metadata codes of some rows, (N, M) int64 in the order of `columns`, -1 where missing."""
    table = np.empty((len(rows), len(columns)), dtype=np.int64)
    for place, column in enumerate(columns):
        table[:, place] = index.meta[column][rows]
    return table


def _table(index: SampleIndex, rows: NDArray[np.int64], columns: Sequence[str], dropped: Collection[str]) -> Tensor:
    table = meta_table(index, rows, columns)
    table[:, [column in dropped for column in columns]] = -1
    return torch.from_numpy(table)


def _checked_permutation(
    meta_permuted: NDArray[np.int64] | None, meta: Tensor, columns: Sequence[str], dropped: Collection[str]
) -> Tensor | None:
    if meta_permuted is None:
        return None
    if meta_permuted.shape != tuple(meta.shape):
        raise ValueError(f"meta_permuted must be of shape {tuple(meta.shape)}, got {meta_permuted.shape}")
    table = cast("NDArray[np.int64]", meta_permuted.astype(np.int64))
    table[:, [column in dropped for column in columns]] = -1
    return torch.from_numpy(table)
