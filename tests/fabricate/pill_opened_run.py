"""A finished run that never ran: a small untrained network, flat photos, and a ledger that remembers what was asked."""

import csv
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from projects.pillsnap.evaluation.run_access import OpenedRun
from projects.pillsnap.module import PillClassifier
from projects.pillsnap.preprocess import UnifiedPreprocessor
from shared.folds import FOLDS, require_purpose
from shared.packed_strings import PackedStrings
from shared.sample_index import SampleIndex

CLASSES, SIZE_PX = 6, 32
FOLD_OF_COPY = ("test", "test", "calibrate", "accept")
COPIES = 8
TRAINED = 2  # further pills of each class, in train


class MadeUpData:
    """Photos of flat colours: four photos of each of 48 pills and 12 in train, front and back, studio and real."""

    others_domain = "real"

    def __init__(self, num_others: int = 7) -> None:
        self.preprocess = UnifiedPreprocessor(size_px=SIZE_PX, grid=4)
        self.num_others = num_others
        self.read_rows: list[int] = []
        self.read_others: list[str] = []
        self.changed_others: set[str] = set()
        tested = CLASSES * COPIES
        pill = np.repeat(np.arange(tested + CLASSES * TRAINED), 4)
        label = np.where(pill < tested, pill // COPIES, (pill - tested) // TRAINED)
        folds = [FOLD_OF_COPY[number % 4] if number < tested else "train" for number in pill]
        count = len(pill)
        self._pill, self._label = pill, label
        self.fold = np.array([FOLDS.index(fold) for fold in folds], dtype=np.int8)
        names = [f"pill{number}" for number in np.unique(pill)]
        self.index = SampleIndex(
            ids=PackedStrings.pack(f"photo{row}" for row in range(count)),
            group=pill.astype(np.int32),
            group_names=PackedStrings.pack(names),
            label=label.astype(np.int16),
            classes=tuple(f"K-{code}" for code in range(CLASSES)),
            digest=np.zeros((count, 16), np.uint8),
            meta={
                "domain": np.tile([1, 1, 0, 0], count // 4).astype(np.int16),
                "surface": np.tile([1, 0], count // 2).astype(np.int16),
                "shape": (label % 2).astype(np.int16),
            },
            meta_names={"domain": ("real", "studio"), "surface": ("back", "front"), "shape": ("oval", "round")},
            numbers={},
            source="stand-in",
        )

    def rows(self, fold: str) -> np.ndarray:
        return np.flatnonzero(self.fold == FOLDS.index(fold))

    def photo(self, row: int) -> np.ndarray:
        self.read_rows.append(row)
        rng = np.random.default_rng(int(self._label[row]))
        image = np.tile(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8), (8, 8, 1))
        return np.clip(image.astype(int) + row % 7, 0, 255).astype(np.uint8)

    def backgrounds(self) -> tuple[str, ...]:
        return ("wood",)

    def photo_on(self, row: int, background: str) -> np.ndarray:
        assert background == "wood"
        return 255 - self.photo(row)

    def others(self, part: str) -> list[tuple[str, str]]:
        return [(f"{part}/{code}/{shot}", f"X-{code}") for code in range(self.num_others) for shot in range(3)]

    def other_photo(self, path: str) -> np.ndarray:
        self.read_others.append(path)
        _, code, shot = path.split("/")
        image = np.random.default_rng(100 + int(code)).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        return np.clip(np.tile(image, (8, 8, 1)).astype(int) + int(shot), 0, 255).astype(np.uint8)

    def other_digest(self, path: str) -> str:
        return hashlib.sha256(f"{path}/{path in self.changed_others}".encode()).hexdigest()

    def pill_names(self, rows: np.ndarray) -> list[str]:
        return [f"pill{number}" for number in self._pill[rows]]

    def findings(self) -> tuple[list[Any], list[str]]:
        return [], ["two photos are odd"]


def made_up_network() -> PillClassifier:
    """Return a network of half a million untrained weights."""
    return PillClassifier(
        network="timm", parameters={"backbone": "test_resnet", "drop_path_rate": 0.0}, pretrained=False,
        weights_path=None, label_smoothing=0.0, attribute_weight=0.5,
        mixing={"mixup_alpha": 0.2, "cutmix_alpha": 1.0, "cutmix_area": [0.1, 1.0], "probability": 0.0},
        classes=[f"K-{code}" for code in range(CLASSES)], attribute_names={"shape": ["oval", "round"]},
        domains=["real", "studio"], preprocessing={}, optimizer={"name": "adamw", "lr": 1e-3},
        scheduler={"name": "constant"},
    ).eval()  # fmt: skip


def made_up_run(folder: Path, data: Any, network: PillClassifier, final_sha256: str = "ab" * 32) -> OpenedRun:
    """Return the run in `folder`, with a predictions.csv that says K-0 of every photo."""
    with (folder / "predictions.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["sample_id", "predicted"])
        writer.writerows([data.index.ids[int(row)], "K-0"] for row in data.rows("test"))
    settings = SimpleNamespace(project="pillsnap", experiment="made_up", seed=3, plain={"data": {}})
    loaded: Any = SimpleNamespace(run=SimpleNamespace(path=folder), settings=settings, calibrator=None, module=network)
    asked: list[tuple[str, str, str]] = []

    def record(purpose: str, fold: str, stage: str) -> None:
        require_purpose(fold, purpose)
        asked.append((purpose, fold, stage))

    ledger: Any = SimpleNamespace(record=record, asked=asked)
    return OpenedRun(loaded, network, data, ledger, final_sha256)
