"""Photos of the chain's data sets: a user's own, or rendered pills that go through the very same chain."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projects.pillsnap.chain.dataset import PillDataset, read_dataset
from projects.pillsnap.data.folded import PhotoDataModule, content_digests, decoded, recorded
from projects.pillsnap.data.standin_dataset import make_standin_dataset
from projects.pillsnap.standin import BACKGROUNDS, StandinConfig, render_photo
from shared.errors import ConfigError, DataError
from shared.packed_strings import PackedStrings
from shared.readers import FolderReader
from shared.sample_index import SampleIndex

SAMPLERS = ("shuffle", "weighted")


class PillDataModule(PhotoDataModule):
    """A data set with class_mapping.json, splits.json and manifest.json.

    The folds are those of splits.json; the run's seed changes order and augmentation only.

    Args:
        root: Folder of the data set; None: rendered pills, made on first use.
        standin: Fields of `StandinConfig`, without a root.
        sampler: "shuffle", or "weighted": each photo as often as the training weight of its drug says.
        common: See `PhotoDataModule`.

    Raises:
        ConfigError: If a value is not allowed.
    """

    others_domain = "real"
    """Domain of the photos in `others`."""

    def __init__(self, *, root: str | None, standin: Mapping[str, Any], sampler: str, **common: Any) -> None:
        super().__init__(**common)
        if root is not None and standin:
            raise ConfigError("data.root names your own photos, but data.standin is set: choose data=pillsnap_folder")
        if sampler not in SAMPLERS:
            raise ConfigError(f"data.sampler is {sampler!r}; allowed are {', '.join(SAMPLERS)}")
        self.standin = None if root is not None else StandinConfig(**standin)
        self._root = None if root is None else Path(root)
        self.sampler = sampler
        self._dataset: PillDataset | None = None

    @property
    def dataset(self) -> PillDataset:
        """The data set as its files describe it; made on first use where it is the stand-in."""
        if self._dataset is None:
            self._dataset = read_dataset(self._root or self._standin_root())
        return self._dataset

    def build_index(self) -> SampleIndex:
        """One row a photo, in the order of the data set."""
        dataset = self.dataset
        stated = dataset.manifest["preprocessing"]
        if stated != self.preprocess.get_config():
            raise DataError(
                f"{dataset.root / 'manifest.json'} was made for the preprocessing {stated}; data.preprocessing gives "
                f"{self.preprocess.get_config()}: run the manifest step again or change data.preprocessing"
            )
        if dataset.manifest["augmentation"] != self.augmentation:
            self._findings.append(
                f"{dataset.root / 'manifest.json'} states another augmentation than data.augmentation, which was used"
            )
        self._reader = FolderReader(dataset.root)
        domain, domains = recorded(dataset.domain)
        names, group = np.unique(np.array(dataset.group), return_inverse=True)
        return SampleIndex(
            ids=PackedStrings.pack(dataset.paths), group=group.astype(np.int32),
            group_names=PackedStrings.pack(str(name) for name in names), label=dataset.label, classes=dataset.classes,
            digest=content_digests(self._reader.read(path) for path in dataset.paths), meta={"domain": domain},
            meta_names={"domain": domains}, numbers={}, source=dataset.manifest["source"],
        )  # fmt: skip

    def split(self, index: SampleIndex) -> NDArray[np.int8]:
        """As splits.json says."""
        return self.dataset.fold

    def read(self, row: int) -> bytes:
        """Bytes of a photo."""
        return self._reader.read(self.index.ids[row])

    def sampling_weights(self, rows: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """The training weights of the drugs, where they are asked for."""
        if self.sampler == "shuffle":
            return None
        dataset = self.dataset
        weight = np.array([float(dataset.metadata[kcode]["weight"]) for kcode in dataset.classes])
        return weight[self.index.label[rows]]

    def others(self, part: str) -> list[tuple[str, str]]:
        """Path and K-code of photos of drugs that are none of the classes; `part` is "tune" or "test".

        Raises:
            KeyError: If there is no such part.
        """
        return self.dataset.others[part]

    def other_photo(self, path: str) -> NDArray[np.uint8]:
        """RGB pixels (H, W, 3) uint8 of one of `others`."""
        return decoded(FolderReader(self.dataset.root).read(path), path)

    def backgrounds(self) -> tuple[str, ...]:
        """Backgrounds that a photo can be taken again on; none for photos that were taken."""
        return () if self.standin is None else BACKGROUNDS

    def photo_on(self, row: int, background: str) -> NDArray[np.uint8]:
        """The photo of a row taken again on another background, (S, S, 3) uint8.

        Raises:
            DataError: If the photos are not rendered: then nobody can.
        """
        if self.standin is None:
            raise DataError("photos that were taken cannot be taken again on another background; only rendered ones")
        # combined/<kcode>/<domain>_<sitting>_<shot>.jpg
        _, kcode, name = self.index.ids[row].split("/")
        domain, sitting, shot = Path(name).stem.split("_")
        return render_photo(self.standin, domain, kcode, sitting, int(shot), background=background)

    def other_digest(self, path: str) -> str:
        """Sha256 (hex) of the bytes of one of `others`."""
        return hashlib.sha256(FolderReader(self.dataset.root).read(path)).hexdigest()

    def findings(self) -> tuple[list[dict[str, str]], list[str]]:
        """What the chain found short."""
        return [], self._findings

    def _standin_root(self) -> Path:
        assert self.standin is not None
        photos = self.standin.as_dict()
        chain = {"photos": photos, "preprocessing": self.preprocess.get_config(), "augmentation": self.augmentation}
        folder = self.cache_folder / "pillsnap"
        size = f"{self.standin.num_classes}x{self.standin.size_px}px"
        return make_standin_dataset(
            folder / f"standin-{size}-{_key(photos)}", folder / f"dataset-{size}-{_key(chain)}", self.standin,
            self.preprocess, self.augmentation, self.progress,
        )  # fmt: skip


def _key(content: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=4).hexdigest()
