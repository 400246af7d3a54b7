"""The order of training samples as a pure function of (seed, epoch), with a place to start from in mid-epoch."""

import signal
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from shared.distributed.share import ALONE, RankShare
from shared.seeding import derive_seed


class SampleKey(NamedTuple):
    """What a training sampler hands to a dataset: which sample, and which draw of the whole run this is."""

    position: int  # row of the dataset
    draw: int  # epoch * samples per epoch + place in the epoch: seeds the augmentation, whichever worker runs it


class EpochSampler(Sampler[SampleKey]):
    """A shuffled, or weighted, pass over a dataset whose order depends on (seed, epoch) alone.

    Lightning calls `set_epoch` before each epoch. Augmentations seeded by `SampleKey.draw` differ by epoch and by
    repetition of a sample, and do not depend on the number of workers. Of several ranks each takes its share of the one
    order that all know, so the batches of all together, and their draws, do not depend on the number of ranks either.

    Args:
        num_samples: Size of the dataset, > 0; also the number of draws in an epoch.
        seed: Base seed of the run.
        weights: Relative chance of each sample, (num_samples,), finite and >= 0 with a positive sum;
            drawn with replacement. None: a permutation.
        share: Part of the draws that this process takes.
        used: Draws of an epoch that are taken at all, by all ranks together; None: each. Ranks need whole batches.

    Raises:
        ValueError: If `num_samples` is not positive or the weights are not usable.
    """

    def __init__(
        self, num_samples: int, seed: int, weights: NDArray[np.float64] | None = None, *, share: RankShare = ALONE,
        used: int | None = None,
    ) -> None:  # fmt: skip
        if num_samples <= 0:
            raise ValueError(f"num_samples must be positive, got {num_samples}")
        if weights is not None and (
            weights.shape != (num_samples,)
            or not np.isfinite(weights).all()
            or (weights < 0).any()
            or weights.sum() <= 0
        ):
            raise ValueError(f"weights must be {num_samples} finite numbers >= 0 with a positive sum")
        self.num_samples = num_samples
        self.seed = seed
        self.share = share
        self.used = num_samples if used is None else used
        self.probabilities = None if weights is None else weights / weights.sum()
        self.epoch = 0
        self.first_place = 0

    def __len__(self) -> int:
        return len(range(self.used)[self.share.places(self.used)])

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; an offset left by a resume counts for that resumed epoch only."""
        self.epoch = epoch

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Rows of the dataset in the order of one epoch, (num_samples,)."""
        generator = np.random.default_rng(derive_seed(self.seed, epoch))
        if self.probabilities is None:
            return generator.permutation(self.num_samples)
        return generator.choice(self.num_samples, self.num_samples, replace=True, p=self.probabilities)

    def __iter__(self) -> Iterator[SampleKey]:
        # A generator: nothing runs before the first sample is asked for, so `set_epoch` after `iter()` still counts.
        epoch, first, self.first_place = self.epoch, self.first_place, 0
        order = self.order(epoch)[: self.used].tolist()
        for place in range(self.used)[self.share.places(self.used)][first:]:
            yield SampleKey(order[place], epoch * self.num_samples + place)


WORKER_GRACE_S = 30


def outlive_signals(worker_id: int) -> None:
    """Keep a loader worker alive when a signal goes to the whole process group: Ctrl-C, `scancel`, `timeout`.

    The training process still needs its workers for the batches up to the next checkpoint; it ends them itself. A
    worker that nobody ends is gone 30 s after a SIGTERM, or at once when its parent dies (torch watches that).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda signum, frame: signal.alarm(WORKER_GRACE_S))


class ResumableLoader(DataLoader[Any]):
    """A DataLoader over an `EpochSampler` that can go on behind the last batch the trainer has finished.

    Lightning stores `state_dict()` with a checkpoint and gives it back before the first batch of a resumed epoch.
    The count is that of batches handed out; Lightning reads no batch ahead when the length is known.
    On several ranks `batch_size` is one rank's, and all have handed out the same number.
    """

    def __init__(self, dataset: Dataset[Any], sampler: EpochSampler, batch_size: int, **options: Any) -> None:
        self.handed_out = 0
        self.skip_batches = 0
        super().__init__(dataset, batch_size=batch_size, sampler=sampler, **options)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # A generator: Lightning makes iterators that it never reads, and those must not use up the offset.
        assert isinstance(self.sampler, EpochSampler)
        assert self.batch_size is not None
        self.handed_out, self.skip_batches = self.skip_batches, 0
        self.sampler.first_place = self.handed_out * self.batch_size
        for batch in super().__iter__():
            self.handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Number of batches already handed out in the present epoch (0 once it is complete)."""
        return {"handed_out": self.handed_out % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start the next pass behind that many batches."""
        self.skip_batches = int(state["handed_out"])
