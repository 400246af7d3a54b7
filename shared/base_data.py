"""The datamodule with named folds: one index, one split, and loaders that tell the ledger what they are opened for."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from lightning import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from shared.audit import AuditTable
from shared.distributed.share import ALONE, RankShare
from shared.errors import DataError
from shared.folds import FOLDS
from shared.ledger import Ledger
from shared.sample_index import SampleIndex
from shared.sampler import EpochSampler, ResumableLoader, outlive_signals

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""


def no_progress(what: str, done: int, total: int) -> None:
    """Show nothing."""


@runtime_checkable
class BatchedDataset(Protocol):
    """A dataset that makes a whole batch at once, which is faster where a sample is a few bytes of a large array."""

    def __getitems__(self, keys: list[Any]) -> dict[str, Any]:
        """The batch of these keys."""


def _as_it_is(batch: dict[str, Any]) -> dict[str, Any]:
    """What a `BatchedDataset` returns needs no collation."""
    return batch


class FoldedDataModule(LightningDataModule):
    """Base of all datamodules: a subclass says what the samples are, how they are split and how one is read.

    Slots: `build_index`, `split`, `build_dataset`; optional: `fit_rows`, `sampling_weights`, `audit_table`, `subsets`,
    `module_arguments`, `domain_names`, `baselines`, `pictures`, `findings`.

    Args:
        batch_size: Samples in a training batch, on all ranks together.
        eval_batch_size: Samples in a batch of any other fold.
        num_workers: Loader processes; 0 reads in the training process. The batches do not depend on it.
        seed: Seed of the split, the order and the augmentation.
    """

    network_keys: ClassVar[tuple[str, ...]] = ()
    """Arguments that a trained network depends on: `evaluate` takes them from the run, not from the other set."""

    def __init__(self, *, batch_size: int, eval_batch_size: int, num_workers: int, seed: int) -> None:
        super().__init__()
        if batch_size < 1 or eval_batch_size < 1:
            raise DataError(
                f"data.batch_size and data.eval_batch_size must be at least 1, got {batch_size} and {eval_batch_size}"
            )
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.share: RankShare = ALONE  # set for the fit by whoever starts several ranks
        self.ledger: Ledger | None = None
        self.progress: Progress = no_progress
        self._index: SampleIndex | None = None
        self._fold: NDArray[np.int8] | None = None

    # -- slots -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def build_index(self) -> SampleIndex:
        """All samples of the data set (makes or scans the files on first use)."""

    @abstractmethod
    def split(self, index: SampleIndex) -> NDArray[np.int8]:
        """Fold code of each sample, (N,), positions in `shared.folds.FOLDS`."""

    @abstractmethod
    def build_dataset(self, fold: str, rows: NDArray[np.int64]) -> Dataset[Any]:
        """Dataset over rows of the index; for `train` it is indexed by `SampleKey`, otherwise by position.

        One with `__getitems__` returns whole batches, see `BatchedDataset`.
        """

    def fit_rows(self, fold: str, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of a fold that are really used, for data sets that leave some out of the fit; never called for test."""
        return rows

    def sampling_weights(self, rows: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Relative chance of each training sample, or None for a plain shuffle."""
        return None

    def audit_table(self) -> AuditTable | None:
        """What the shortcut audit looks at, or None where the data set has nothing to audit."""
        return None

    def subsets(self, rows: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
        """Named parts of the given rows that the report shows on their own."""
        return {}

    def module_arguments(self) -> dict[str, Any]:
        """What the module must know of the data, as plain values: class names, sizes."""
        return {"classes": list(self.index.classes)}

    def domain_names(self) -> list[str]:
        """Names of the codes in a batch's `domain`, in order; empty where there is but one domain."""
        return []

    def align(self, arguments: Mapping[str, Any]) -> None:
        """Encode the data as a network trained on another set expects, given the `module_arguments` of that set.

        Raises:
            DataError: If this set holds what the network cannot know.
        """
        if list(arguments["classes"]) != list(self.index.classes):
            raise DataError(f"the data set has the classes {self.index.classes}; the network {arguments['classes']}")

    def baselines(self, fit_rows: NDArray[np.int64], test_rows: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Simple models that the network must beat: rows of the report's baselines, fitted on train after the fit.

        A data set that overrides this slot has that use of train recorded in its ledger; nobody else has.

        Args:
            fit_rows: Rows to fit them on, those of train.
            test_rows: (M,) rows to predict.

        Returns:
            Name -> probabilities (M, classes) whose rows sum to 1; where the targets are curves, predictions (M, ...)
            in the target's shape.
        """
        return {}

    def pictures(self, rows: NDArray[np.int64]) -> NDArray[np.uint8] | None:
        """What the given samples look like, (K, H, W), for the report; None where there is nothing to show."""
        return None

    def findings(self) -> tuple[list[dict[str, str]], list[str]]:
        """Skipped files ({path, reason}) and warnings about the data, for the report."""
        return [], []

    # -- what the base does ----------------------------------------------------------------------------------------

    @property
    def index(self) -> SampleIndex:
        """The samples; built on first use."""
        if self._index is None:
            self._index = self.build_index()
        return self._index

    @property
    def fold(self) -> NDArray[np.int8]:
        """Fold code of each sample, (N,)."""
        if self._fold is None:
            self._fold = self.split(self.index)
        return self._fold

    def set_fold(self, fold: NDArray[np.int8]) -> None:
        """Use other folds than `split` gives, for example all test when a finished network is evaluated."""
        self._fold = fold

    def rows(self, fold: str) -> NDArray[np.int64]:
        """Rows of the index that a fold uses."""
        rows = np.flatnonzero(self.fold == FOLDS.index(fold))
        return rows if fold == "test" else self.fit_rows(fold, rows)

    def loader(self, fold: str, purpose: str) -> DataLoader[Any]:
        """Open a fold for a purpose; the ledger records it, or refuses.

        Raises:
            LeakError: If the fold may not serve the purpose.
            DataError: If the fold has no samples.
        """
        rows = self.rows(fold)
        if len(rows) == 0:
            raise DataError(
                f"fold {fold} has no samples to be used for {purpose}: check data.shares and the exclusions"
            )
        if self.ledger is not None:
            self.ledger.record(purpose, fold, purpose)
        if fold != "train" and self.share.count > 1:
            rows = self._evaluated_here(fold, rows)
        dataset = self.build_dataset(fold, rows)
        workers: dict[str, Any] = {"num_workers": self.num_workers, "persistent_workers": self.num_workers > 0}
        if isinstance(dataset, BatchedDataset):
            workers["collate_fn"] = _as_it_is
        if self.num_workers:
            workers["worker_init_fn"] = outlive_signals
        if (
            fold == "train"
        ):  # for batch-norm statistics as well: what the layers saw in training, augmented and balanced
            return self._training_loader(dataset, self.sampling_weights(rows), workers)
        return DataLoader(dataset, batch_size=self.eval_batch_size, shuffle=False, **workers)

    def _evaluated_here(self, fold: str, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """This rank's rows of a fold that all ranks evaluate together, each row once."""
        if len(rows) < self.share.count:
            raise DataError(
                f"fold {fold} has {len(rows)} samples for trainer.devices={self.share.count}: each rank needs one"
            )
        return rows[self.share.block(len(rows))]

    def _training_loader(
        self, dataset: Dataset[Any], weights: NDArray[np.float64] | None, workers: dict[str, Any]
    ) -> ResumableLoader:
        """A loader in the order of (seed, epoch), of this rank's rows of each batch."""
        num_samples = len(dataset)  # type: ignore[arg-type]  # each row may stand in it several times, augmented
        # A last batch of one sample would break batch normalisation; each epoch leaves out other samples.
        drop_last = num_samples >= self.batch_size
        if self.share.count > 1 and not drop_last:
            raise DataError(
                f"fold train has {num_samples} samples, fewer than data.batch_size ({self.batch_size}), of which each "
                f"of {self.share.count} ranks needs its part: lower data.batch_size or set trainer.devices=1"
            )
        used = num_samples - num_samples % self.batch_size if drop_last else num_samples
        sampler = EpochSampler(num_samples, self.seed, weights, share=self.share, used=used)
        return ResumableLoader(dataset, sampler, self.batch_size // self.share.count, drop_last=drop_last, **workers)

    def train_dataloader(self) -> DataLoader[Any]:
        """Train fold, for the fit."""
        return self.loader("train", "fit")

    def val_dataloader(self) -> DataLoader[Any]:
        """Val fold, for Lightning's validation loop."""
        return self.loader("val", "validate")

    def test_dataloader(self) -> DataLoader[Any]:
        """Test fold; with a ledger it must have been opened by `Ledger.open_test` first."""
        return self.loader("test", "test")

    def describe(self) -> dict[str, Any]:
        """Source and size of each fold in samples and groups, for the report."""
        folds = {}
        for fold in FOLDS:
            rows = self.rows(fold)
            folds[fold] = {"n": len(rows), "groups": len(np.unique(self.index.group[rows]))}
        return {"source": self.index.source, "folds": folds}
