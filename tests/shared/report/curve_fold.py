"""A small made-up test fold of curves with a network that is better than its baseline."""

from typing import Any

import numpy as np

from shared.curve_scores import CurveAxes
from shared.packed_strings import PackedStrings
from shared.report.curve_evaluation import CurveEvaluation, evaluate_curves
from shared.report.outputs import CurveOutputs
from shared.sample_index import SampleIndex

AXES = CurveAxes(("left", "right"), "frequency", "Hz", tuple(np.linspace(1.0, 9.0, 9)))
SAMPLES = 60


def make_index() -> SampleIndex:
    return SampleIndex(
        ids=PackedStrings.pack(f"a.npy#{i}" for i in range(SAMPLES)),
        group=np.arange(SAMPLES, dtype=np.int32),
        group_names=PackedStrings.pack(f"g{i}" for i in range(SAMPLES)),
        label=np.zeros(SAMPLES, dtype=np.int16),
        classes=("sample",),
        digest=np.zeros((SAMPLES, 16), dtype=np.uint8),
        meta={},
        meta_names={},
        numbers={},
        source="stand-in",
    )


def make_outputs(seed: int = 0) -> CurveOutputs:
    rng = np.random.default_rng(seed)
    target = rng.random((SAMPLES, 2, 9))
    noise = rng.normal(size=(4, *target.shape))
    predictions = {
        "last": target + 0.12 * noise[0],
        "best_single": target + 0.1 * noise[1],
        "final": target + 0.1 * noise[1],
        "linear": target + 0.3 * noise[3],
    }
    return CurveOutputs(predictions, target, np.arange(SAMPLES), AXES, (2, 9))


def below_zero(curves: np.ndarray) -> dict[str, np.ndarray]:
    return {"not negative": -curves.min(axis=(1, 2))}


def make_evaluation(outputs: CurveOutputs | None = None) -> CurveEvaluation:
    rows = ("last", "best_single", "final")
    found = outputs or make_outputs()
    half = {"first half": np.arange(SAMPLES) < SAMPLES // 2}
    return evaluate_curves(
        found, make_index(), model_rows=rows, seed=1, draws=200, subsets=half, checks=below_zero
    )  # fmt: skip


def make_report(base: dict[str, Any]) -> dict[str, Any]:
    """The classification report with its results replaced by those of curves."""
    gone = ("models", "baselines", "per_class", "per_group", "calibration", "audit", "crossover")
    kept = {key: value for key, value in base.items() if key not in gone}
    cost = base["cost"] | {"test_ms_per_sample": 0.21}
    return kept | {"cost": cost} | make_evaluation().as_dict()
