"""The ROC curves of network and floor over the pooled out-of-fold predictions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from shared.cross_validation.pooling import Pooled
from shared.report import figure_style as style
from shared.report import wording
from shared.report.evaluation import FINAL
from shared.report.outputs import TestOutputs


def roc_figure(
    pooled: Pooled[TestOutputs],
    floors: Mapping[str, NDArray[np.float64]],
    rows: Mapping[str, Any],
    names: Sequence[str],
) -> Figure:
    """Draw the pooled ROC curves, and faintly those of each round of the final network.

    Args:
        pooled: Out-of-fold probabilities of the networks.
        floors: Floor name to (N, 2) out-of-fold probabilities.
        rows: The part "rows" of cross_validation.json, for the legend.
        names: Rows to draw, at most six.
    """
    probs = {**pooled.outputs.probs, **floors}
    target = pooled.outputs.target == 1
    figure = style.new_figure(6.2, 5.6)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=style.GREY, linewidth=1, linestyle="--")
    for number in range(len(pooled.folds)):
        mask = pooled.tested(number)
        false, true, _ = roc_curve(target[mask], probs[FINAL][mask, 1])
        axes.plot(false, true, color=style.SERIES[0], linewidth=0.7, alpha=0.35)
    for name, colour, dashes in zip(names, style.SERIES, ("-", "--", ":", "-.", "-", "--"), strict=False):
        false, true, _ = roc_curve(target, probs[name][:, 1])
        label = f"{name}: AUROC {wording.value_with_interval(rows[name]['auroc'])}"
        axes.plot(false, true, color=colour, linewidth=1.8, linestyle=dashes, label=label)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.legend(fontsize=8, frameon=False, loc="lower right", title="thin: rounds of final", title_fontsize=8)
    style.dress(
        axes, f"Out-of-fold ROC, {len(target):,} samples", "share of negatives called positive",
        "share of positives found",
    )  # fmt: skip
    return figure
