"""A small made-up test fold with a trap: a metadata column tells the fused network what its images do not show."""

from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from shared.packed_strings import PackedStrings
from shared.report.evaluation import Evaluation, TestOutputs, calibration_scores, evaluate_classification
from shared.report.outputs import HeadOutputs
from shared.sample_index import SampleIndex

CLASSES = ("cell_normal", "cell_porosity", "module_normal", "module_porosity", "module_resin_overflow")
GROUPS, PER_GROUP = 36, 18
CERTAIN_NORMAL = 3.0


def make_index(seed: int = 0) -> SampleIndex:
    """36 groups of 18 samples; on axis x every label is normal; rows of the last half are the test fold."""
    rng = np.random.default_rng(seed)
    count = GROUPS * PER_GROUP
    group = np.repeat(np.arange(GROUPS), PER_GROUP).astype(np.int32)
    axis = np.tile(np.arange(PER_GROUP) % 3, GROUPS).astype(np.int16)
    kind = (group % 2).astype(np.int16)
    defect = (rng.random(count) < 0.55) & (axis != 0)
    resin = defect & (kind == 1) & (rng.random(count) < 0.25)
    label = np.where(kind == 0, np.where(defect, 1, 0), np.where(resin, 4, np.where(defect, 3, 2))).astype(np.int16)
    return SampleIndex(
        ids=PackedStrings.pack(f"ct/battery_{g:03d}/{i:05d}.png" for i, g in enumerate(group)),
        group=group,
        group_names=PackedStrings.pack(f"battery_{g:03d}" for g in range(GROUPS)),
        label=label,
        classes=CLASSES,
        digest=np.zeros((count, 16), dtype=np.uint8),
        meta={"kind": kind, "axis": axis},
        meta_names={"kind": ("cell", "module"), "axis": ("x", "y", "z")},
        numbers={},
        source="stand-in",
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def make_outputs(index: SampleIndex, seed: int = 0) -> TestOutputs:
    """Five rows over all samples; fused = image + 'x means normal', permuted = image + the trap at random places."""
    rng = np.random.default_rng(seed)
    count = len(index)
    normal = np.isin(np.arange(5), (0, 2)).astype(float)
    of_kind = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 1]], dtype=float)[index.meta["kind"]]
    per_battery = rng.normal(size=(GROUPS, 5))[index.group]
    image = 1.2 * np.eye(5)[index.label] + rng.normal(size=(count, 5)) + 0.5 * per_battery + 4.0 * of_kind
    on_x = (index.meta["axis"] == 0)[:, None] * normal * CERTAIN_NORMAL
    probs = {
        "last": softmax(image + on_x + 0.3 * rng.normal(size=(count, 5))),
        "best_single": softmax(image + on_x + 0.15 * rng.normal(size=(count, 5))),
        "final": softmax(image + on_x),
        "image_only": softmax(image),
        "metadata_only": softmax(on_x + 4.0 * of_kind),
        "fused_metadata_permuted": softmax(image + rng.permutation(on_x)),
    }
    target = index.label.astype(np.int64)
    return TestOutputs(probs=probs, target=target, rows=np.arange(count), heads=make_heads(count))


def make_heads(count: int) -> dict[str, HeadOutputs]:
    """Two heads beside the classes: of `wear` a third is unknown, and nothing varies in its second number."""
    rng = np.random.default_rng(9)
    wear, size = rng.random((count, 2)), rng.random((count, 1))
    wear[:, 1] = 0.5
    mask = rng.random((count, 2)) < 2 / 3
    return {
        "wear": HeadOutputs(("edge", "face"), near(wear, rng), wear, mask),
        "size": HeadOutputs(("length",), near(size, rng), size, np.ones((count, 1), dtype=bool)),
    }


def near(target: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """What the three networks say about numbers, final best."""
    noise = {"last": 0.5, "best_single": 0.3, "final": 0.1}
    return {name: np.clip(target + sd * rng.normal(size=target.shape), 0.0, 1.0) for name, sd in noise.items()}


@pytest.fixture(scope="session")
def index() -> SampleIndex:
    return make_index()


@pytest.fixture(scope="session")
def outputs(index: SampleIndex) -> TestOutputs:
    return make_outputs(index)


@pytest.fixture(scope="session")
def evaluation(index: SampleIndex, outputs: TestOutputs) -> Evaluation:
    subsets = {"y/z only": index.meta["axis"][outputs.rows] != 0}
    rows = ("last", "best_single", "final")
    return evaluate_classification(outputs, index, model_rows=rows, seed=1, draws=200, subsets=subsets)


@pytest.fixture(scope="session")
def full_report(index: SampleIndex, outputs: TestOutputs, evaluation: Evaluation) -> dict[str, Any]:
    over_confident = softmax(2.0 * np.log(outputs.probs["final"]))
    after = calibration_scores(outputs.probs["final"], outputs, index, seed=1, draws=200)
    before = calibration_scores(over_confident, outputs, index, seed=1, draws=200)
    shortcut = {"feature": "axis", "auroc": 0.781, "lo": 0.742, "hi": 0.817, "p_value": 0.005, "verdict": "shortcut"}
    clear = {"feature": "brightness", "auroc": 0.523, "lo": 0.486, "hi": 0.561, "p_value": 0.21, "verdict": "clear"}
    undecided = {"feature": "form", "auroc": 0.56, "lo": None, "hi": None, "p_value": 0.4, "verdict": "undecided"}
    return {
        "schema": 1,
        "project": "battery",
        "experiment": "late_fusion",
        "run": "20261121-091500-a1b2c3",
        "status": "done",
        "seed": 7,
        "started": "2026-11-21T09:15:00+00:00",
        "finished": "2026-11-21T09:53:20+00:00",
        "config_hash": "0f" * 32,
        "data_hash": index.data_hash(),
        "splits_hash": "3c" * 32,
        "git": {"commit": "9fceb02d0ae598e95dc970b74767f19372d61af8", "dirty": True},
        "data": {
            "source": "stand-in",
            "folds": {"train": {"n": 2000, "groups": 160}, "test": {"n": len(index), "groups": GROUPS}},
            "skipped": [{"path": "ct/battery_003/00017.png", "reason": "the file ends in the middle"}],
            "leakage": {"checked": {"groups": 320, "ids": 4000, "digests": 4000}, "ok": True},
        },
        "audit": [clear, shortcut, undecided],
        **evaluation.as_dict(),
        "crossover": {
            "decision": "declined",
            "reason": "no gain beyond noise on accept (n = 48 groups, cross-fitted)",
            "n_candidates": 55,
            "expected_luck": 0.0121,
            "gain_val": 0.0164,
            "gain_accept": -0.0021,
            "smallest_detectable": 0.0093,
            "sources": {"image": 31, "metadata": 24, "head": 31},
        },
        "calibration": {
            "method": "temperature",
            "reason": "Lowest NLL on calibrate by more than one standard error.",
            "temperature": 1.873,
            "before": before,
            "after": after,
            "per_group": {"cell": {"temperature": 1.91, "n_groups": 8}, "module": {"temperature": 1.84, "n_groups": 8}},
        },
        "cost": {
            "wall_s": 2300.4,
            "samples_per_s": 118.2,
            "peak_rss_mb": 2210.0,
            "peak_gpu_mb": None,
            "oom_events": 0,
        },
        "resume": {"count": 1, "from_epochs": [12]},
        "artifacts": {"predictions": "predictions.csv", "splits": "splits.csv", "calibrator": "calibrator.safetensors"},
        "warnings": [
            "the sampler and focal alpha are both on.",
            "x slices are 99 % normal.",
            "x slices are 99 % normal.",
        ],
    }


@pytest.fixture
def report(full_report: dict[str, Any]) -> dict[str, Any]:
    """A copy that a test may spoil."""
    return deepcopy(full_report)
