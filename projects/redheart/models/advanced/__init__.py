"""Analyzers that follow a theory of their task: appraisal, regret over time, hedonic calculus, predictive coding."""

from projects.redheart.models.advanced.bentham import AdvancedBentham
from projects.redheart.models.advanced.emotion import AdvancedEmotion
from projects.redheart.models.advanced.regret import AdvancedRegret
from projects.redheart.models.advanced.surd import AdvancedSurd

__all__ = ["AdvancedBentham", "AdvancedEmotion", "AdvancedRegret", "AdvancedSurd"]
