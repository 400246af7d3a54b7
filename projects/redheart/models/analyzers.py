"""The analyzers by name."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from projects.redheart.models.advanced.bentham import AdvancedBentham
from projects.redheart.models.advanced.emotion import AdvancedEmotion
from projects.redheart.models.advanced.regret import AdvancedRegret
from projects.redheart.models.advanced.surd import AdvancedSurd
from projects.redheart.models.context import Analyzer
from projects.redheart.models.neural.bentham import NeuralBenthamAnalyzer
from projects.redheart.models.neural.emotion import NeuralEmotionAnalyzer
from projects.redheart.models.neural.regret import NeuralRegretAnalyzer
from projects.redheart.models.neural.surd import NeuralSurdAnalyzer
from projects.redheart.models.phases import CommunityNetwork, EmotionCalibrator, EmpathyLearner
from projects.redheart.models.signal.dsp import EmotionDSPSimulator
from projects.redheart.models.signal.kalman import DynamicKalmanFilter

ANALYZERS: dict[str, type[Analyzer]] = {
    "neural_emotion": NeuralEmotionAnalyzer,
    "neural_bentham": NeuralBenthamAnalyzer,
    "neural_regret": NeuralRegretAnalyzer,
    "neural_surd": NeuralSurdAnalyzer,
    "advanced_emotion": AdvancedEmotion,
    "advanced_regret": AdvancedRegret,
    "advanced_bentham": AdvancedBentham,
    "advanced_surd": AdvancedSurd,
    "dsp": EmotionDSPSimulator,
    "kalman": DynamicKalmanFilter,
    "emotion_calibrator": EmotionCalibrator,
    "empathy_learner": EmpathyLearner,
    "community_network": CommunityNetwork,
}

GROUPS: dict[str, tuple[str, ...]] = {
    "A": ("emotion_calibrator", "empathy_learner", "community_network"),
    "B": ("neural_emotion", "neural_bentham", "neural_regret", "neural_surd"),
    "C": ("dsp", "kalman"),
    "advanced_emotion": ("advanced_emotion",),
    "advanced_regret": ("advanced_regret",),
    "advanced_bentham": ("advanced_bentham",),
    "advanced_surd": ("advanced_surd",),
}
"""Module group -> its analyzers; A holds backbone, heads and fusion as well."""


def build_analyzers(width: int, sizes: Mapping[str, Mapping[str, Any]], without: Sequence[str] = ()) -> nn.ModuleDict:
    """Build the analyzers that are not left out, in the order of ANALYZERS.

    Args:
        width: Size of a state, H.
        sizes: Analyzer -> its numbers.
        without: Names of analyzers to leave out.

    Raises:
        ValueError: If a name is none of an analyzer's, or sizes of one are missing.
    """
    check_names("without", without, ANALYZERS)
    if set(sizes) != set(ANALYZERS):
        raise ValueError(f"sizes of analyzers are given for {sorted(sizes)}; needed: {sorted(ANALYZERS)}")
    chosen = {name: cls for name, cls in ANALYZERS.items() if name not in without}
    return nn.ModuleDict({name: cls(width, **sizes[name]) for name, cls in chosen.items()})


def check_names(argument: str, names: Sequence[str], allowed: Mapping[str, Any] | Sequence[str]) -> None:
    """Refuse names that are not known.

    Raises:
        ValueError: Naming the first unknown one and those allowed.
    """
    for name in names:
        if name not in allowed:
            raise ValueError(f"{argument} names {name!r}; allowed: {', '.join(allowed)}")
