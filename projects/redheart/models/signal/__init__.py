"""The emotion trajectory as a signal: filters, envelopes and spectrum; a Kalman filter."""

from projects.redheart.models.signal.dsp import EmotionDSPSimulator
from projects.redheart.models.signal.kalman import DynamicKalmanFilter

__all__ = ["DynamicKalmanFilter", "EmotionDSPSimulator"]
