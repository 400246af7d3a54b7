"""Metrics that follow a fit epoch by epoch; the report's scores, with intervals, come from `shared.scores`."""

from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score


def macro_f1(num_classes: int) -> MulticlassF1Score:
    """F1 averaged over classes, of class codes or logits."""
    return MulticlassF1Score(num_classes, average="macro")


def validation_metrics(num_classes: int) -> MetricCollection:
    """Accuracy over samples, and F1 averaged over classes, of class codes or logits."""
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(num_classes, average="micro"),
            "f1_macro": macro_f1(num_classes),
        }
    )
