"""Metrics that follow a fit epoch by epoch, on true labels; the report's scores, with intervals, are in `shared`."""

from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

TOP = 5
"""Candidates that the app shows."""


def validation_metrics(num_classes: int) -> MetricCollection:
    """Top-1 and top-5 over samples, F1 averaged over classes; of logits."""
    metrics: dict[str, Metric | MetricCollection] = {
        "accuracy": top(1, num_classes),
        "f1_macro": MulticlassF1Score(num_classes, average="macro"),
    }
    if num_classes > TOP:
        metrics["top5"] = top(TOP, num_classes)
    return MetricCollection(metrics, compute_groups=False)


def top(k: int, num_classes: int) -> MulticlassAccuracy:
    """Share of samples whose label is among the k most likely."""
    return MulticlassAccuracy(num_classes, top_k=k, average="micro")
