"""Rows of a store as whole batches: gathered from bits, varied in train, unpacked; never kept as pixels."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from projects.spectra.data.batch import SpectraBatch
from projects.spectra.data.gather import transform, unpack, variant_codes, variant_table
from projects.spectra.data.store import CurveStore
from projects.spectra.symmetry import variant_group
from shared.sample_index import SampleIndex
from shared.sampler import SampleKey
from shared.seeding import derive_seed

EPOCH_VARIANTS = ("random", "all")


class CurveDataset(Dataset[SpectraBatch]):
    """The samples at some rows of a store, a whole batch at a time.

    In train a sample comes as one of its variants. With "random" each draw picks one, seeded by (seed, draw), whatever
    worker makes it; with "all" the dataset is as many times as long, and each epoch shows each variant once. Other
    folds never vary.

    Args:
        store: Patterns and curves; its rows are those of the index.
        index: All samples.
        rows: (N,) rows that this dataset shows.
        variants: Name of a symmetry group, see `projects.spectra.symmetry.GROUPS`.
        train: Whether samples vary.
        epoch_variants: "random" or "all".
        device: None: bits are gathered from the map; otherwise all of the store lives there as tensors and batches are
            made there. The batches are the same.
        seed: Base seed of the run.

    Raises:
        ValueError: An argument is not as said, or curves that are no cell are to be varied.
    """

    def __init__(
        self,
        store: CurveStore,
        index: SampleIndex,
        rows: NDArray[np.int64],
        *,
        variants: str = "none",
        train: bool = False,
        epoch_variants: str = "random",
        device: str | None = None,
        seed: int = 0,
    ) -> None:
        if epoch_variants not in EPOCH_VARIANTS:
            raise ValueError(f"epoch_variants is {epoch_variants!r}; allowed are {', '.join(EPOCH_VARIANTS)}")
        if len(store) != len(index):
            raise ValueError(f"the store has {len(store)} rows, the index {len(index)}; they must be the same samples")
        self._switches = variant_table(variant_group(variants if train else "none"))
        if len(self._switches) > 1 and (len(store.output_shape) != 3 or store.output_shape[:2] != (2, 2)):
            raise ValueError(f"curves of shape {store.output_shape} are no cell and have no variants; use 'none'")
        self.store = store
        self.device = device
        self.epoch_variants = epoch_variants
        self._seed = derive_seed(seed, 0)
        self._rows = np.array(rows, dtype=np.int64)
        self._group = torch.from_numpy(index.group[self._rows].astype(np.int64))

    def __len__(self) -> int:
        return len(self._rows) * (len(self._switches) if self.epoch_variants == "all" else 1)

    def __getitem__(self, key: "int | SampleKey") -> SpectraBatch:
        """Return a batch of one; loaders ask for whole batches."""
        return self.__getitems__([key])

    def __getitems__(self, keys: list[Any]) -> SpectraBatch:
        """Return the batch of these keys in their order: positions, or `SampleKey`s, which alone let samples vary.

        Raises:
            IndexError: A position does not exist.
        """
        table = np.array(keys, dtype=np.int64).reshape(len(keys), -1)  # (B, 1) positions or (B, 2) with draws
        position, code = table[:, 0], np.zeros(len(table), dtype=np.int64)
        if len(position) and (position.min() < 0 or position.max() >= len(self)):
            raise IndexError(
                f"position {position.min()} or {position.max()} is outside a dataset of {len(self)} samples"
            )
        if len(self._switches) > 1:
            if self.epoch_variants == "all":
                position, code = position % len(self._rows), position // len(self._rows)
            elif table.shape[1] == 2:
                code = variant_codes(self._seed, table[:, 1], len(self._switches))
        rows = self._rows[position]
        bits, target = self._gather(rows)
        if code.any():
            pixels, target = transform(bits, target, self.store.side_px, self._switches[code])
        else:
            pixels = unpack(bits, self.store.side_px)
        return {
            "image": pixels[:, None],  # (B, 1, H, W)
            "target": target,
            "sample_index": torch.from_numpy(rows),
            "group_index": self._group[torch.from_numpy(position)],
            "domain": torch.zeros(len(rows), dtype=torch.int64),
        }

    def _gather(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return bits and curves of some rows, copied."""
        if self.device is None:
            return torch.from_numpy(self.store.bits[rows]), torch.from_numpy(self.store.target[rows])
        bits, target = self.store.on_device(self.device)
        wanted = torch.from_numpy(rows).to(bits.device)
        return bits[wanted], target[wanted]
