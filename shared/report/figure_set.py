"""All figures that a report has the content for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from shared.report import figures, figures_curves, figures_rows, figures_sweet_spots, figures_tasks, wording
from shared.report.evaluation import FINAL
from shared.report.outputs import CurveOutputs, TestOutputs

Pictures = Callable[[NDArray[np.int64]], NDArray[np.uint8] | None]
"""Rows of the index (K,) -> (K, H, W), None where there is nothing to show."""


def report_figures(
    report: Mapping[str, Any],
    *,
    classes: Sequence[str] = (),
    outputs: TestOutputs | CurveOutputs | None = None,
    pictures: Pictures | None = None,
    uncalibrated: np.ndarray[Any, np.dtype[np.float64]] | None = None,
    sweet_spots: Mapping[str, Any] | None = None,
    epochs: Sequence[Mapping[str, Any]] = (),
    monitor: str = "val/loss",
    mode: str = "min",
    warn_above: float = 0.05,
) -> dict[str, Figure]:
    """Return the figures for `write_report` by name; a figure without its content is left out.

    Args:
        report: A valid report.
        classes: Names of the classes of `outputs`.
        outputs: The pass over the test fold: of classes, for confusion, reliability and confidence; or of curves.
        pictures: What samples look like, by their rows of the index.
        uncalibrated: (N, C) probabilities of final before its calibrator, drawn in the reliability diagram.
        sweet_spots: Content of sweet_spots.json.
        epochs: Rows of metrics.csv.
        monitor: Key of the monitored metric in `epochs`.
        mode: "max" or "min".
        warn_above: The audit's warn line above 0.5.
    """
    drawn = _beyond_classes(report)
    if report.get("models") or report.get("baselines"):
        drawn["rows"] = figures_rows.rows_figure(
            report.get("models", []), report.get("baselines", []), wording.main_metric(report)
        )
    if report.get("audit"):
        drawn["audit"] = figures.audit_figure(report["audit"], warn_above)
    if report.get("per_group"):
        drawn["subsets"] = _subsets(report)
    if epochs:
        drawn["curves"] = figures.curves_figure(epochs, monitor, mode)
    if sweet_spots is not None:
        drawn["sweet_spots"] = figures_sweet_spots.sweet_spots_figure(sweet_spots)
    if report.get("per_class"):
        drawn["per_class"] = figures.per_class_figure(report["per_class"])
    if report.get("per_point"):
        drawn["per_point"] = figures_curves.per_point_figure(report["per_point"])
    if isinstance(outputs, CurveOutputs):
        drawn |= _curves(outputs, pictures)
    elif outputs is not None:
        probs = outputs.row(FINAL)
        counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
        np.add.at(counts, (outputs.target, probs.argmax(axis=1)), 1)
        drawn["confusion"] = figures.confusion_figure(counts, classes)
        drawn["reliability"] = figures.reliability_figure(probs, outputs.target, before=uncalibrated)
        drawn["confidence"] = figures.confidence_figure(probs, outputs.target)
    return drawn


def _beyond_classes(report: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw when a network of classes is to be trusted, and its other numbers."""
    drawn = {}
    if report.get("risk_coverage"):
        drawn["risk_coverage"] = figures_tasks.risk_coverage_figure(report["risk_coverage"])
    if report.get("tasks"):
        drawn["tasks"] = figures_tasks.tasks_figure(report["tasks"])
    return drawn


def _curves(outputs: CurveOutputs, pictures: Pictures | None) -> dict[str, Figure]:
    """Draw single samples, and all values against each other."""
    final = outputs.row(FINAL)
    chosen = figures_curves.example_rows(final, outputs.target)
    shown = None if pictures is None else pictures(outputs.rows[chosen])
    return {
        "samples": figures_curves.samples_figure(
            final[chosen], outputs.target[chosen], outputs.axes, figures_curves.EXAMPLES, shown
        ),
        "agreement": figures_curves.agreement_figure(final, outputs.target, outputs.axes.channels),
    }


def _subsets(report: Mapping[str, Any]) -> Figure:
    """Draw final against the reference baseline on all samples, the named subsets and the values of each column."""
    parts = report["per_group"]
    first = [name for name in ("all", *wording.named_subsets(report)) if name in parts]
    names = [*first, *(name for name in parts if name not in first)]
    baseline = wording.reference_baseline(report)
    rows = (FINAL,) if baseline is None else (FINAL, baseline["name"])
    return figures_rows.subsets_figure(parts, names, rows, wording.main_metric(report))
