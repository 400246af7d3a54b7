"""A finished run opened again for its own test fold: weights, folds and ledger exactly as they were tested."""

import csv
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from projects.pillsnap.data.folded import PhotoDataModule
from projects.pillsnap.evaluation.accuracy import FoldPhotos
from projects.pillsnap.floor import fit_floor, floor_pixels
from projects.pillsnap.module import PillClassifier
from shared.base_data import Progress
from shared.errors import CheckpointError, ConfigError
from shared.final import final_sha256
from shared.instantiate import instantiate
from shared.ledger import Ledger
from shared.loading import LoadedRun, load_run
from shared.sample_index import SampleIndex
from shared.splits import write_splits

DOMAIN = "domain"


@runtime_checkable
class HoldsOthers(Protocol):
    """Data with photos of classes that the network does not know.

    Attributes:
        others_domain: Domain that all these photos are of. Known photos beside them must be of it too, or the score
            would tell where a photo was taken instead of what it shows.
    """

    others_domain: str

    def others(self, part: str) -> list[tuple[str, str]]:
        """Path and class of each such photo of a part, "tune" or "test"."""

    def other_photo(self, path: str) -> NDArray[np.uint8]:
        """RGB pixels (H, W, 3) uint8 of one of them."""

    def other_digest(self, path: str) -> str:
        """SHA-256 of its bytes, hexadecimal."""


@runtime_checkable
class SwapsBackgrounds(Protocol):
    """Data whose photos can be taken again on another background."""

    def backgrounds(self) -> tuple[str, ...]:
        """Names of the backgrounds; empty where it cannot be done."""

    def photo_on(self, row: int, background: str) -> NDArray[np.uint8]:
        """RGB pixels (H, W, 3) uint8 of a row on that background."""


@runtime_checkable
class NamesPills(Protocol):
    """Data that know which physical pill a photo shows, and from which side (`surface` in the metadata)."""

    @property
    def index(self) -> SampleIndex:
        """All photos."""

    def pill_names(self, rows: NDArray[np.int64]) -> list[str]:
        """Pill of each row."""


@dataclass(frozen=True, eq=False)
class OpenedRun:
    """A finished run with its data.

    Attributes:
        loaded: Final network and calibrator.
        module: The network.
        datamodule: Its data, the folds bound to the run's ledger.
        ledger: The run's ledger, test open for the final network.
        final_sha256: Hash of network and calibrator.
    """

    loaded: LoadedRun
    module: PillClassifier
    datamodule: PhotoDataModule
    ledger: Ledger
    final_sha256: str

    @property
    def folder(self) -> Path:
        """Where the evaluation goes."""
        return self.loaded.run.path / "evaluation"

    def fold_rows(self, fold: str, purpose: str) -> NDArray[np.int64]:
        """Rows of a fold, after the ledger has allowed and recorded the purpose.

        Raises:
            LeakError: If the fold may not serve it.
        """
        self.ledger.record(purpose, fold, "evaluate")
        return np.asarray(self.datamodule.rows(fold), dtype=np.int64)

    def photos(self, rows: NDArray[np.int64]) -> FoldPhotos:
        """What the index knows of some rows."""
        index = self.datamodule.index
        return FoldPhotos(
            rows=rows,
            ids=[index.ids[int(row)] for row in rows],
            target=index.label[rows].astype(np.int64),
            group=index.group[rows],
            domain=index.meta[DOMAIN][rows].astype(np.int64),
            domains=tuple(index.meta_names[DOMAIN]),
            classes=tuple(index.classes),
            labels=class_labels(self.datamodule),
        )

    def calibrated(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated logits as the server has them, (N, K): it does not know a photo's domain.

        Args:
            logits: (N, K) of the network.
        """
        wide = torch.from_numpy(np.asarray(logits, dtype=np.float64))
        if self.loaded.calibrator is not None:
            wide = self.loaded.calibrator.module(wide, None)
        return np.asarray(wide.numpy(), dtype=np.float64)

    def pills(self, rows: NDArray[np.int64]) -> tuple[list[str], list[str]] | None:
        """Pill and side ("front", "back") of each row, None where the data do not know them."""
        if not isinstance(self.datamodule, NamesPills):
            return None
        index = self.datamodule.index
        sides = index.meta_names["surface"]
        return self.datamodule.pill_names(rows), [sides[code] for code in index.meta["surface"][rows]]

    def floor(self, rows: NDArray[np.int64], progress: Progress) -> NDArray[np.float64]:
        """Probabilities (N, K) for some rows of a forest on small pixels, fitted on the train photos of the run."""
        index, photo = self.datamodule.index, self.datamodule.photo
        train = self.fold_rows("train", "fit")
        fitted_on = floor_pixels(train, photo, lambda done, total: progress("floor: train photos", done, total))
        tested_on = floor_pixels(rows, photo, lambda done, total: progress("floor: test photos", done, total))
        return fit_floor(fitted_on, index.label[train], tested_on, len(index.classes), self.loaded.settings.seed)


def open_run(path: Path, progress: Progress) -> OpenedRun:
    """Open a finished run for a detailed evaluation on its own test fold.

    Nothing of the run changes but its ledger, which records what is read. The test fold opens again for the very
    weights and calibrator that the run tested, and for no other.

    Args:
        path: Run directory or a link to it.
        progress: Shown while data are made or scanned.

    Raises:
        ConfigError: If the folder is not a run directory.
        CheckpointError: If the run is not finished or of another project.
        LeakError: If the data or folds are not those of the run, or test was opened for other weights.
    """
    loaded = load_run(path)
    if not isinstance(loaded.module, PillClassifier):
        raise CheckpointError(f"{path} holds a {type(loaded.module).__name__}, allowed: runs of the pillsnap project")
    tested = loaded.run.done("test")
    if tested is None:
        raise CheckpointError(f"{path} has not been tested; resume it first, with the stage test among its stages")
    settings = loaded.settings
    datamodule = instantiate(settings.plain["data"], "data", seed=settings.seed, cache_folder=settings.paths.cache)
    assert isinstance(datamodule, PhotoDataModule)
    datamodule.progress = progress
    ledger = Ledger(loaded.run.path, tuple(Path(parent) for parent in loaded.run.status()["parents"]))
    with tempfile.TemporaryDirectory() as folder:  # the ledger compares the hash of splits.csv, which stays as it is
        splits_hash = write_splits(Path(folder) / "splits.csv", datamodule.index, datamodule.fold)
    ledger.bind(datamodule.index, datamodule.fold, splits_hash)
    state, calibrator = loaded.module.state_dict(), loaded.calibrator
    final = final_sha256(state, calibrator)
    ledger.open_test(final)
    datamodule.ledger = ledger
    return OpenedRun(loaded, loaded.module, datamodule, ledger, final)


def class_labels(datamodule: PhotoDataModule) -> tuple[str, ...]:
    """Names of the classes for readers: of the drugs where there are some, else the classes themselves."""
    dataset = getattr(datamodule, "dataset", None)
    return tuple(datamodule.index.classes if dataset is None else dataset.names)


def class_metadata(datamodule: PhotoDataModule) -> Mapping[str, Mapping[str, Any]]:
    """What is known of each class: form, shape, colours; empty where nothing is."""
    dataset = getattr(datamodule, "dataset", None)
    return {} if dataset is None else dict(dataset.metadata)


def backgrounds_of(datamodule: PhotoDataModule) -> tuple[str, ...]:
    """Backgrounds that photos of these data can be taken again on."""
    return datamodule.backgrounds() if isinstance(datamodule, SwapsBackgrounds) else ()


def others_of(datamodule: PhotoDataModule, part: str) -> list[tuple[str, str]]:
    """Path and class of photos of held-out classes; empty where the data have none."""
    return datamodule.others(part) if isinstance(datamodule, HoldsOthers) else []


def others_domain(datamodule: PhotoDataModule) -> str:
    """Domain of the photos of held-out classes, "" where the data have none."""
    return datamodule.others_domain if isinstance(datamodule, HoldsOthers) else ""


def knows_drugs(datamodule: PhotoDataModule) -> bool:
    """Whether the classes are drugs, which the project's targets are about."""
    return bool(class_metadata(datamodule))


def predicted_by_the_run(run: Path) -> dict[str, str]:
    """Sample id to the class that the run's own test predicted, from predictions.csv.

    Raises:
        CheckpointError: If the file is missing or has other columns.
    """
    path = run / "predictions.csv"
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return {row["sample_id"]: row["predicted"] for row in csv.DictReader(stream)}
    except (OSError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); the run's own test wrote it, restore it") from error


def device_named(name: str) -> torch.device:
    """The device of that name; "auto" is the accelerator where there is one.

    Raises:
        ConfigError: If there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda") or (name == "cuda" and not torch.cuda.is_available()):
        there = "auto, cpu, cuda" if torch.cuda.is_available() else "auto, cpu (torch sees no accelerator)"
        raise ConfigError(f"--device is {name}, allowed here: {there}")
    return torch.device(name)
