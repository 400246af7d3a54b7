"""The battery datamodules: CT slices (stand-in or a user's own) and the public ELPV set, behind the same folds."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from projects.battery.data.audit_features import audit_table, compute_features
from projects.battery.data.augment import build_augmentation
from projects.battery.data.consistency import consistency_findings
from projects.battery.data.dataset import SliceDataset, meta_table, permute_within
from projects.battery.data.elpv import load_elpv
from projects.battery.data.scan_cache import load_or_scan
from projects.battery.data.split_csv import apply_split_csv
from projects.battery.sampling import sampling_probabilities
from projects.battery.standin import StandinConfig, generate_standin
from shared.audit import AuditTable
from shared.base_data import FoldedDataModule
from shared.errors import ConfigError, DataError
from shared.folds import FOLDS
from shared.readers import FolderReader, ImageReader
from shared.sample_index import SampleIndex
from shared.splits import cut_published, kfold_groups, split_groups

SAMPLERS = ("shuffle", "balanced")


class BatteryDataModule(FoldedDataModule):
    """What CT and ELPV share: datasets, augmentation, sampling, the audit's table.

    Args:
        image_size_px: Side of the square image that the network sees.
        meta_columns: Metadata columns given to the network, in this order.
        stratum_column: Metadata column within which the audit and the permutation work (cell/module, mono/poly).
        exclude_axes_from_fit: Axes left out of train, val, accept and calibrate; never of test.
        sampler: "shuffle", or "balanced": classes, and batteries within a class, come up equally often.
        augmentation: Arguments of `build_augmentation`, or None for no augmentation.
        batch_size: Samples in a training batch.
        eval_batch_size: Samples in any other batch.
        num_workers: Loader processes.
        seed: Set by the engine.
        cache_folder: Set by the engine; made data and data-set indices.
    """

    network_keys: ClassVar[tuple[str, ...]] = ("image_size_px", "meta_columns")

    reader: ImageReader

    def __init__(
        self,
        *,
        image_size_px: int,
        meta_columns: Sequence[str],
        stratum_column: str,
        exclude_axes_from_fit: Sequence[str],
        sampler: str,
        augmentation: Mapping[str, Any] | None,
        batch_size: int,
        eval_batch_size: int,
        num_workers: int,
        seed: int,
        cache_folder: str,
    ) -> None:
        super().__init__(batch_size=batch_size, eval_batch_size=eval_batch_size, num_workers=num_workers, seed=seed)
        if image_size_px < 16:
            raise ConfigError(f"data.image_size_px is {image_size_px}; allowed are 16 and above")
        if sampler not in SAMPLERS:
            raise ConfigError(f"data.sampler is {sampler!r}; allowed are {', '.join(SAMPLERS)}")
        self.image_size_px = image_size_px
        self.meta_columns = tuple(meta_columns)
        self.stratum_column = stratum_column
        self.excluded_axes = tuple(exclude_axes_from_fit)
        self.sampler = sampler
        self.transform = None if augmentation is None else build_augmentation(image_size_px, **_options(augmentation))
        self.cache_folder = Path(cache_folder)
        self._skipped: list[dict[str, str]] = []
        self._findings: list[str] = []

    def check_columns(self, index: SampleIndex) -> SampleIndex:
        """Return the index if it has the metadata columns that the configuration names.

        Raises:
            ConfigError: Naming the column and those there are.
        """
        for key, columns in (("meta_columns", self.meta_columns), ("stratum_column", (self.stratum_column,))):
            for column in columns:
                if column not in index.meta:
                    raise ConfigError(f"data.{key} has {column!r}; the data set has {', '.join(index.meta)}")
        return index

    def build_dataset(self, fold: str, rows: NDArray[np.int64]) -> Dataset[Any]:
        """Slices of a fold; on test each comes with the metadata of another one of its stratum beside its own."""
        permuted = None
        if fold == "test":
            strata = self.index.meta[self.stratum_column][rows].astype(np.int64)
            permuted = permute_within(strata, meta_table(self.index, rows, self.meta_columns), self.seed)
        return SliceDataset(
            self.index,
            rows,
            self.reader,
            image_size_px=self.image_size_px,
            transform=self.transform if fold == "train" else None,
            train=fold == "train",
            seed=self.seed,
            meta_columns=self.meta_columns,
            domain_column=self.stratum_column,
            meta_permuted=permuted,
        )

    def fit_rows(self, fold: str, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Leave the excluded axes out."""
        if not self.excluded_axes:
            return rows
        names = self.index.meta_names.get("axis", ())
        unknown = [axis for axis in self.excluded_axes if axis not in names]
        if unknown:
            found = ", ".join(names) or "no axes"
            raise ConfigError(f"data.exclude_axes_from_fit holds {', '.join(unknown)}; the data set has {found}")
        codes = [names.index(axis) for axis in self.excluded_axes]
        return rows[~np.isin(self.index.meta["axis"][rows], codes)]

    def sampling_weights(self, rows: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Chances that bring classes, and batteries within a class, up equally often."""
        if self.sampler == "shuffle":
            return None
        return sampling_probabilities(self.index.label[rows], len(self.index.classes), self.index.group[rows])

    def audit_table(self) -> AuditTable:
        """Metadata and cheap image statistics of the train fold against defect yes/no."""
        index = self.index.take(self.rows("train"))
        features = compute_features(
            index,
            self.reader,
            workers=2,
            on_progress=lambda done, total: self.progress("image statistics", done, total),
        )
        return audit_table(index, features, stratum=self.stratum_column)

    def module_arguments(self) -> dict[str, Any]:
        """Class names and counts, metadata sizes, and whether the loader balances the classes."""
        rows = self.rows("train")
        return {
            "classes": list(self.index.classes),
            "class_counts": np.bincount(self.index.label[rows], minlength=len(self.index.classes)).tolist(),
            "meta_names": {column: list(self.index.meta_names[column]) for column in self.meta_columns},
            "balanced_sampling": self.sampler == "balanced",
        }

    def domain_names(self) -> list[str]:
        """Values of the stratum, e.g. cell and module: what temperatures may differ by."""
        return list(self.index.meta_names[self.stratum_column])

    def align(self, arguments: Mapping[str, Any]) -> None:
        """Give classes and metadata the codes a trained network knows; a value it does not know is missing (-1)."""
        index, classes = self.index, tuple(arguments["classes"])
        unknown = sorted(set(index.classes) - set(classes))
        if unknown:
            raise DataError(f"the data set has the class {unknown[0]!r}; the network knows {', '.join(classes)}")
        meta, meta_names = dict(index.meta), dict(index.meta_names)
        for column, names in arguments["meta_names"].items():
            if column not in meta:
                raise DataError(f"the data set has no metadata column {column!r}, which the network needs")
            meta[column] = _recoded(meta[column], meta_names[column], tuple(names))
            meta_names[column] = tuple(names)
        label = _recoded(index.label, index.classes, classes)
        self._index = dataclasses.replace(index, label=label, classes=classes, meta=meta, meta_names=meta_names)

    def findings(self) -> tuple[list[dict[str, str]], list[str]]:
        """Files that were skipped, and what is odd about the data."""
        return self._skipped, self._findings


class CtDataModule(BatteryDataModule):
    """CT slices with JSON labels.

    Args:
        root: Folder of the user's data; None: stand-in data, made on first use.
        standin: Fields of `StandinConfig` for the stand-in data.
        split_csv: Fold -> CSV file, or {"all": file with a fold column}; None: a split by battery.
        shares: Share of the batteries of each fold, used without `split_csv`.
        file_pattern: Regular expression of the image names.
        on_bad_file: "raise" or "skip".
        scan_workers: Threads that read files in the scan, and processes that make stand-in data.
        common: See `BatteryDataModule`.
    """

    def __init__(
        self,
        *,
        root: str | None,
        standin: Mapping[str, Any],
        split_csv: Mapping[str, str] | None,
        shares: Mapping[str, float],
        file_pattern: str,
        on_bad_file: str,
        scan_workers: int,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if root is not None and standin:
            raise ConfigError(
                "data.root names your own slices, but data.standin is set: choose data=battery_ct with it"
            )
        self.root = None if root is None else Path(root)
        self.standin = dict(standin)
        self.split_csv = split_csv
        self.shares = dict(shares)
        self.file_pattern = file_pattern
        self.on_bad_file = on_bad_file
        self.scan_workers = scan_workers
        self._csv_fold: NDArray[np.int8] | None = None

    def build_index(self) -> SampleIndex:
        """Make the stand-in data if no root is given, then scan the folder or take the index of an earlier scan."""
        root = self.root or self._standin_root()
        result = load_or_scan(
            root,
            self.cache_folder / "indices",
            pattern=self.file_pattern,
            on_bad_file=self.on_bad_file,
            workers=self.scan_workers,
            source="stand-in" if self.root is None else "real",
            on_progress=lambda done, total: self.progress("scan", done, total),
        )
        self.reader = FolderReader(root)
        self._skipped = [{"path": file.path, "reason": file.reason} for file in result.skipped]
        self._findings = [*result.findings, *consistency_findings(result.index, result.skipped)]
        if self.split_csv is None:
            return self.check_columns(result.index)
        codes = apply_split_csv(result.index, {fold: Path(path) for fold, path in self.split_csv.items()})
        self._csv_fold = codes[codes >= 0]
        left_out = int((codes < 0).sum())
        if left_out:
            self._findings.append(f"{left_out} of {len(codes)} images stand in no split CSV and are left out")
        return self.check_columns(result.index.take(np.flatnonzero(codes >= 0)))

    def split(self, index: SampleIndex) -> NDArray[np.int8]:
        """By battery, or as the user's CSV files say; val is cut in three where they name no accept and calibrate."""
        if self._csv_fold is None:
            return split_groups(index.label, index.group, self.shares, self.seed)
        names = np.array(FOLDS)[self._csv_fold]
        if np.isin(names, ("accept", "calibrate")).any():
            return self._csv_fold
        return cut_published(names, index.label, index.group, self.seed)

    def subsets(self, rows: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
        """Slices on which a defect can be seen at all: there the axis gives nothing away."""
        names = self.index.meta_names["axis"]
        if "x" not in names:
            return {}
        return {"y/z only": self.index.meta["axis"][rows] != names.index("x")}

    def _standin_root(self) -> Path:
        config = StandinConfig(**_options(self.standin))
        # One folder for each configuration: sets of several sizes and seeds stand beside each other.
        key = hashlib.blake2b(json.dumps(config.as_dict(), sort_keys=True).encode(), digest_size=4).hexdigest()
        root = self.cache_folder / "battery" / f"standin-{config.num_slices}x{config.size_px}px-{key}"
        return generate_standin(
            root,
            config,
            workers=self.scan_workers,
            on_progress=lambda done, total: self.progress("stand-in CT", done, total),
        )


class ElpvDataModule(BatteryDataModule):
    """ELPV: electroluminescence images of solar cells, the nearest public set; type mono/poly as metadata.

    The set does not say which of its 44 modules a cell comes from, so each image is its own group: cells of one module
    can stand on both sides of the split, and the intervals take the images as independent.

    Args:
        root: Folder with elpv_subset.zip or images/, and labels.csv.
        cross_validation_fold: None: the split column of the set; 0..4: this part of a 5-fold cross-validation over
            all images is the test fold.
        common: See `BatteryDataModule`.
    """

    NUM_CV_FOLDS = 5

    def __init__(self, *, root: str, cross_validation_fold: int | None, **common: Any) -> None:
        super().__init__(**common)
        if cross_validation_fold is not None and not 0 <= cross_validation_fold < self.NUM_CV_FOLDS:
            highest = self.NUM_CV_FOLDS - 1
            raise ConfigError(f"data.cross_validation_fold is {cross_validation_fold}; allowed: null, 0 to {highest}")
        self.root = Path(root)
        self.cross_validation_fold = cross_validation_fold
        self._published: NDArray[np.str_] | None = None

    def build_index(self) -> SampleIndex:
        """Read labels.csv and the digests of the images."""
        elpv = load_elpv(self.root)
        self.reader, self._published = elpv.reader, elpv.published
        self._findings = ["ELPV does not publish module ids: each image counts as its own group"]
        return self.check_columns(elpv.index)

    def split(self, index: SampleIndex) -> NDArray[np.int8]:
        """The set's own split with its dev part cut in three, or one round of the cross-validation."""
        assert self._published is not None
        if self.cross_validation_fold is None:
            return cut_published(self._published, index.label, index.group, self.seed)
        # The parts are the same whatever the run's seed: runs of several seeds stay comparable.
        part = kfold_groups(index.label, index.group, self.NUM_CV_FOLDS, seed=0)
        published = np.where(part == self.cross_validation_fold, "test", "train")
        inner = kfold_groups(index.label, index.group, 8, seed=self.cross_validation_fold + 1)
        published[(published == "train") & (inner == 0)] = "val"
        return cut_published(published, index.label, index.group, self.seed)


def _recoded(codes: NDArray[np.int16], names: Sequence[str], wanted: Sequence[str]) -> NDArray[np.int16]:
    """Codes into `names` as codes into `wanted`, -1 for what is not there or was missing."""
    table = [wanted.index(name) if name in wanted else -1 for name in names]
    return np.array([*table, -1], dtype=np.int16)[codes]  # the last entry answers code -1


def _options(node: Mapping[str, Any]) -> dict[str, Any]:
    """Lists, as YAML has them, become the tuples that the constructors name."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in node.items()}
