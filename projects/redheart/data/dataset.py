"""Stories as whole batches: inputs from a memory map, targets and masks from columns."""

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from projects.redheart.data.batch import StoryBatch
from projects.redheart.data.sequences import Sequences
from projects.redheart.data.stories import Stories
from projects.redheart.tasks import EMOTION, SCORES
from shared.sample_index import SampleIndex


class StoryTargets:
    """What is known of N stories, as tensors: a target and a mask for each task.

    Args:
        stories: The stories, in the order of the index.
    """

    def __init__(self, stories: Stories) -> None:
        label = torch.from_numpy(stories.label.astype(np.int64))
        self.mask: dict[str, Tensor] = {EMOTION: label >= 0}
        self.target: dict[str, Tensor] = {EMOTION: label.clamp(min=0)}
        for task in SCORES:
            values = torch.from_numpy(stories.targets[task].astype(np.float32))
            self.mask[task] = ~values.isnan()
            self.target[task] = values.nan_to_num(0.0)


class StoryDataset(Dataset[StoryBatch]):
    """The stories at some rows of the index, a whole batch at a time.

    Args:
        sequences: Inputs of all stories.
        targets: Targets of all stories.
        index: All stories.
        rows: (N,) rows that this dataset shows.

    Raises:
        ValueError: If inputs and index are not of the same stories.
    """

    def __init__(
        self, sequences: Sequences, targets: StoryTargets, index: SampleIndex, rows: NDArray[np.int64]
    ) -> None:
        if len(sequences) != len(index):
            raise ValueError(f"there are inputs of {len(sequences)} stories and {len(index)} rows of the index")
        self._sequences = sequences
        self._targets = targets
        self._rows = np.array(rows, dtype=np.int64)
        self._group = torch.from_numpy(index.group.astype(np.int64))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any) -> StoryBatch:
        """Return a batch of one; loaders ask for whole batches."""
        return self.__getitems__([key])

    def __getitems__(self, keys: list[Any]) -> StoryBatch:
        """Return the batch of these keys in their order: positions, or `SampleKey`s.

        Raises:
            IndexError: A position does not exist.
        """
        position = np.array(keys, dtype=np.int64).reshape(len(keys), -1)[:, 0]
        if len(position) and (position.min() < 0 or position.max() >= len(self)):
            raise IndexError(
                f"position {position.min()} or {position.max()} is outside a dataset of {len(self)} samples"
            )
        rows = self._rows[position]
        chosen = torch.from_numpy(rows)
        batch = self._sequences.gather(rows) | {
            "target": {task: values[chosen] for task, values in self._targets.target.items()},
            "target_mask": {task: values[chosen] for task, values in self._targets.mask.items()},
            "sample_index": chosen,
            "group_index": self._group[chosen],
            "domain": torch.zeros(len(rows), dtype=torch.int64),
        }
        return cast(StoryBatch, batch)
