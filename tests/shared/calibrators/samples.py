"""Logits whose calibration is known, and an estimator that hands them to scikit-learn unchanged."""

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin


def planted(num_samples, num_classes, temperature, seed):
    """Logits (N, C) that are `temperature` times the calibrated ones, and targets drawn from those; float64."""
    rng = np.random.default_rng(seed)
    calibrated = rng.normal(scale=1.5, size=(num_samples, num_classes))
    odds = np.exp(calibrated)
    bounds = np.cumsum(odds / odds.sum(axis=1, keepdims=True), axis=1)
    target = (rng.random((num_samples, 1)) > bounds).sum(axis=1).clip(max=num_classes - 1)
    return torch.from_numpy(temperature * calibrated), torch.from_numpy(target)


class FixedLogits(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose input is its decision function."""

    def __init__(self, num_classes=2):
        self.num_classes = num_classes
        self.classes_ = np.arange(num_classes)

    def fit(self, x, y):
        return self

    def decision_function(self, x):
        return np.asarray(x)[:, 0] if self.num_classes == 2 else np.asarray(x)

    def predict(self, x):
        scores = self.decision_function(x)
        return (scores > 0).astype(int) if self.num_classes == 2 else scores.argmax(axis=1)
