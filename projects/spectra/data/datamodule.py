"""The datamodule of colour-router cells: stand-in data or a user's paired .npy files, behind the same folds."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from projects.spectra.data.dataset import EPOCH_VARIANTS, CurveDataset
from projects.spectra.data.gather import transform, variant_table
from projects.spectra.data.pairs_store import pairs_store
from projects.spectra.data.store import CurveStore
from projects.spectra.data.symmetry_check import SymmetryCheck, check_symmetry
from projects.spectra.spectrum import CELL_CHANNELS, FILE_BANDS, wavelengths_nm
from projects.spectra.symmetry import GROUPS, variant_group
from shared.base_data import FoldedDataModule
from shared.errors import ConfigError, DataError
from shared.folds import FOLDS
from shared.sample_index import SampleIndex
from shared.splits import kfold_groups, split_groups

MAX_BASELINE_ROWS = 50_000
"""Patterns with their variants that the baselines are fitted on at most; all originals are always among them."""

CV_SHARES = {"train": 0.85, "val": 0.09, "accept": 0.06}
"""How a round cuts what it does not test; nothing is kept to calibrate, since networks of curves state no variance."""


class CurveDataModule(FoldedDataModule):
    """What all sets of (pattern, curves) share: folds by group, datasets over a store, pictures, baselines.

    A subclass fills `build_store` and `channels_and_axis`.

    Args:
        shares: Share of the groups of each fold, used without `cross_validation_fold`.
        cross_validation_fold: None, or 0 to 4: that fifth of the groups is the test fold; the rest is cut by
            `CV_SHARES`.
        symmetry: Name of a group of `projects.spectra.symmetry.GROUPS` by which training samples vary.
        symmetry_epoch: "random": one variant a sample and epoch; "all": each of them, an epoch is as much longer.
        store_device: None, or a device ("cuda") on which bits and curves live; `num_workers` must be 0 then.
        batch_size: Samples in a training batch.
        eval_batch_size: Samples in any other batch.
        num_workers: Loader processes.
        seed: Set by the engine.
        cache_folder: Set by the engine; made data and stores.
    """

    NUM_CV_FOLDS: ClassVar[int] = 5

    def __init__(
        self,
        *,
        shares: Mapping[str, float],
        cross_validation_fold: int | None,
        symmetry: str,
        symmetry_epoch: str,
        store_device: str | None,
        batch_size: int,
        eval_batch_size: int,
        num_workers: int,
        seed: int,
        cache_folder: str,
    ) -> None:
        super().__init__(batch_size=batch_size, eval_batch_size=eval_batch_size, num_workers=num_workers, seed=seed)
        if cross_validation_fold is not None and not 0 <= cross_validation_fold < self.NUM_CV_FOLDS:
            raise ConfigError(
                f"data.cross_validation_fold is {cross_validation_fold}; allowed: null, 0 to {self.NUM_CV_FOLDS - 1}"
            )
        for key, value, allowed in (
            ("symmetry", symmetry, tuple(GROUPS)),
            ("symmetry_epoch", symmetry_epoch, EPOCH_VARIANTS),
        ):
            if value not in allowed:
                raise ConfigError(f"data.{key} is {value!r}; allowed are {', '.join(allowed)}")
        _check_device(store_device, num_workers)
        self.shares = dict(shares)
        self.cross_validation_fold = cross_validation_fold
        self.symmetry = symmetry
        self.symmetry_epoch = symmetry_epoch
        self.store_device = store_device
        self.cache_folder = Path(cache_folder)
        self._store: CurveStore | None = None
        self._findings: list[str] = []
        self._symmetry_check: SymmetryCheck | None = None

    # -- slots of this class ---------------------------------------------------------------------------------------

    @abstractmethod
    def build_store(self) -> tuple[CurveStore, SampleIndex, list[str]]:
        """Return the store, the index of its rows and findings."""

    @abstractmethod
    def channels_and_axis(self) -> tuple[list[str], dict[str, Any]]:
        """Return the names of the channels in order, and {"name", "unit", "values"} of the last axis."""

    # -- slots of the base -----------------------------------------------------------------------------------------

    def build_index(self) -> SampleIndex:
        """Read the files, or take the store of an earlier run."""
        self._store, index, findings = self.build_store()
        self._findings = list(findings)
        return index

    def split(self, index: SampleIndex) -> NDArray[np.int8]:
        """By group, so that a pattern and its variants never part; or one round of a cross-validation."""
        if self.cross_validation_fold is None:
            return split_groups(index.label, index.group, self.shares, self.seed)
        # The parts are the same whatever the run's seed: runs of several seeds stay comparable.
        part = kfold_groups(index.label, index.group, self.NUM_CV_FOLDS, seed=0)
        rest = part != self.cross_validation_fold
        fold = np.full(len(index), FOLDS.index("test"), dtype=np.int8)
        fold[rest] = split_groups(index.label[rest], index.group[rest], CV_SHARES, self.seed)
        return fold

    def build_dataset(self, fold: str, rows: NDArray[np.int64]) -> Dataset[Any]:
        """Whole batches of a fold; before the first one of train the symmetry is held against the data."""
        return CurveDataset(
            self.store,
            self.index,
            rows,
            variants=self._variants() if fold == "train" else "none",
            train=fold == "train",
            epoch_variants=self.symmetry_epoch,
            device=self.store_device,
            seed=self.seed,
        )

    def module_arguments(self) -> dict[str, Any]:
        """Shape, names, mean and spread of what is predicted, and the side of the image."""
        target = self.store.target[self.rows("train")]
        mean = target.mean(axis=0, dtype=np.float64)
        spread = float(np.sqrt(np.square(target - mean).mean(dtype=np.float64)))
        if spread == 0:
            raise DataError("the curves of the training samples are all the same: there is nothing to learn")
        return self._curves() | {"target_mean": mean.tolist(), "target_spread": spread}

    def _curves(self) -> dict[str, Any]:
        """Return what a network must agree with."""
        channels, axis = self.channels_and_axis()
        return {
            "output_shape": list(self.store.output_shape),
            "channels": channels,
            "axis": axis,
            "image_side_px": self.store.side_px,
        }

    def align(self, arguments: Mapping[str, Any]) -> None:
        """Refuse a network that predicts something else.

        Raises:
            DataError: Naming what differs.
        """
        own = self._curves()
        for key in ("image_side_px", "output_shape", "channels", "axis"):
            if own[key] != _plain(arguments[key]):
                raise DataError(f"the data set has {key} {_short(own[key])}; the network {_short(arguments[key])}.")

    def findings(self) -> tuple[list[dict[str, str]], list[str]]:
        """What is odd about the data, and what the symmetry check measured."""
        used = self._variants()
        if self._symmetry_check is None:
            return [], self._findings
        declined = "" if used == self.symmetry else ": training samples do not vary"
        return [], [*self._findings, self._symmetry_check.sentence + declined]

    def _variants(self) -> str:
        """Hold the symmetry against the training samples, once; return the group to use, "none" where undecidable.

        Raises:
            DataError: If it does not hold.
        """
        rows = self.rows("train")
        if self.symmetry == "none" or not len(rows):
            return "none"
        if self._symmetry_check is None:
            self._symmetry_check = check_symmetry(
                self.store.bits, self.store.target, rows, self.index.group, self.symmetry
            )
        return self.symmetry if self._symmetry_check.verdict == "holds" else "none"

    # -- for reports -----------------------------------------------------------------------------------------------

    @property
    def store(self) -> CurveStore:
        """Patterns and curves; its rows are those of the index."""
        if self._store is None:
            _ = self.index
        assert self._store is not None
        return self._store

    def pictures(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return patterns as pixels, (K, H, W) uint8 of 0 and 1."""
        return self.store.pictures(rows)

    def baselines(self, fit_rows: NDArray[np.int64], test_rows: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Return what the simple models predict for `test_rows` after a fit on `fit_rows`, name -> (M, *output_shape).

        They are given the variants that the network is trained on, as far as `MAX_BASELINE_ROWS` go.
        """
        from projects.spectra.baselines import nearest_neighbour, ridge_fourier

        bits, target = self._with_variants(fit_rows)
        arguments = (bits, target, self.store.bits[test_rows], self.store.side_px)
        return {
            "ridge on Fourier orders": ridge_fourier(*arguments),
            "nearest neighbour": nearest_neighbour(*arguments),
        }

    def _with_variants(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return packed patterns and curves of some rows, and of their variants behind them."""
        side, bits, target = self.store.side_px, [self.store.bits[rows]], [self.store.target[rows]]
        for variant in variant_group(self._variants())[1 : max(1, MAX_BASELINE_ROWS // max(len(rows), 1))]:
            turned, cells = transform(
                torch.from_numpy(bits[0]), torch.from_numpy(target[0]), side,
                np.repeat(variant_table((variant,)), len(rows), axis=0),
            )  # fmt: skip
            bits.append(np.packbits(turned.numpy().reshape(len(rows), -1), axis=1))
            target.append(cells.numpy())
        return np.concatenate(bits), np.concatenate(target)


class SpectraDataModule(CurveDataModule):
    """Colour-router cells in the format of paired .npy files.

    Args:
        struct_files: The user's structure files; None: stand-in data, made on first use.
        spectra_files: As many spectra files.
        standin: Fields of `StandinConfig` for the stand-in data.
        standin_workers: Processes that make it.
        sign: "auto", "negative" or "positive": sign of the power in the files.
        allow_asymmetric: Whether a pattern may be without the symmetry about its main diagonal.
        num_wavelengths: Wavelengths of a cell, 400 to 700 nm.
        common: See `CurveDataModule`.
    """

    network_keys: ClassVar[tuple[str, ...]] = ("num_wavelengths",)

    def __init__(
        self,
        *,
        struct_files: Sequence[str] | None,
        spectra_files: Sequence[str] | None,
        standin: Mapping[str, Any],
        standin_workers: int,
        sign: str,
        allow_asymmetric: bool,
        num_wavelengths: int,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if (struct_files is None) != (spectra_files is None):
            missing = "struct_files" if struct_files is None else "spectra_files"
            raise ConfigError(f"data.{missing} is null but its partner is not; give both lists, or neither")
        if not 2 <= num_wavelengths <= FILE_BANDS:
            raise ConfigError(f"data.num_wavelengths is {num_wavelengths}; allowed are 2 to {FILE_BANDS}")
        self.struct_files = struct_files
        self.spectra_files = spectra_files
        self.standin = dict(standin)
        self.standin_workers = standin_workers
        self.sign = sign
        self.allow_asymmetric = allow_asymmetric
        self.num_wavelengths = num_wavelengths

    def build_store(self) -> tuple[CurveStore, SampleIndex, list[str]]:
        """Make the stand-in data if no files are given, then read the files or take the store of an earlier run."""
        struct_files: Sequence[str | Path] | None = self.struct_files
        spectra_files: Sequence[str | Path] | None = self.spectra_files
        is_standin = struct_files is None or spectra_files is None
        if is_standin:
            struct_files, spectra_files = standin_files(self._standin_root())
        assert struct_files is not None
        assert spectra_files is not None
        return pairs_store(
            struct_files,
            spectra_files,
            self.cache_folder / "spectra" / "indices",
            sign=self.sign,
            allow_asymmetric=self.allow_asymmetric,
            num_wavelengths=self.num_wavelengths,
            source="stand-in" if is_standin else "real",
            on_progress=lambda done, total: self.progress("structures", done, total),
        )

    def channels_and_axis(self) -> tuple[list[str], dict[str, Any]]:
        """The four quadrants over the wavelength."""
        values = wavelengths_nm(self.num_wavelengths).tolist()
        return list(CELL_CHANNELS), {"name": "wavelength", "unit": "nm", "values": values}

    def _standin_root(self) -> Path:
        from projects.spectra.standin import StandinConfig, generate_standin

        config = StandinConfig(**self.standin)
        # One folder for each configuration: sets of several sizes and seeds stand beside each other.
        key = hashlib.blake2b(json.dumps(config.as_dict(), sort_keys=True).encode(), digest_size=4).hexdigest()
        return generate_standin(
            self.cache_folder / "spectra" / f"standin-{config.num_samples}-{key}",
            config,
            workers=self.standin_workers,
            on_progress=lambda done, total: self.progress("stand-in spectra", done, total),
        )


def standin_files(root: Path) -> tuple[list[Path], list[Path]]:
    """Return the structure and the spectra files of a stand-in folder, in the order of their numbers.

    Raises:
        DataError: There are none.
    """
    number = {path: int(path.stem.removeprefix("struct_")) for path in root.glob("struct_*.npy")}
    if not number:
        raise DataError(f"{root} holds no struct_<k>.npy; delete the folder and it is made again.")
    structures = sorted(number, key=number.__getitem__)
    return structures, [root / f"spectra_{number[path]}.npy" for path in structures]


def _check_device(device: str | None, num_workers: int) -> None:
    if device is None:
        return
    if num_workers:
        raise ConfigError(
            f"data.store_device={device} makes batches on the device, in the training process: data.num_workers "
            f"must be 0 with it, not {num_workers}"
        )
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ConfigError(f"data.store_device is {device!r}; allowed are null, cpu, cuda or cuda:<number>") from error
    if kind not in ("cpu", "cuda"):
        raise ConfigError(f"data.store_device is {device!r}; allowed are null, cpu, cuda or cuda:<number>")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"data.store_device is {device!r}, but torch sees no such device; use null")


def _plain(value: Any) -> Any:
    """Tuples, as a module may keep them, as the lists they were."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 160 else f"{text[:157]}..."
