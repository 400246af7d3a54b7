"""Calibrators: modules behind a network that turn its logits into probabilities that mean what they say."""

from shared.calibrators.base import Calibrator, IdentityCalibrator
from shared.calibrators.choose import METHODS, Choice, choose_calibrator
from shared.calibrators.domain_temperature import DomainTemperatureCalibrator
from shared.calibrators.isotonic import IsotonicCalibrator
from shared.calibrators.platt import PlattCalibrator
from shared.calibrators.store import load_calibrator, read_metadata, save_calibrator
from shared.calibrators.temperature import TemperatureCalibrator
from shared.calibrators.variance import VarianceCalibrator, VarianceChoice, choose_variance

__all__ = [
    "METHODS",
    "Calibrator",
    "Choice",
    "DomainTemperatureCalibrator",
    "IdentityCalibrator",
    "IsotonicCalibrator",
    "PlattCalibrator",
    "TemperatureCalibrator",
    "VarianceCalibrator",
    "VarianceChoice",
    "choose_calibrator",
    "choose_variance",
    "load_calibrator",
    "read_metadata",
    "save_calibrator",
]
