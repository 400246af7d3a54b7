"""Analyzers that learn a task from attention: hierarchical, by dimension, by counterfactual pairs, by information."""

from projects.redheart.models.neural.bentham import NeuralBenthamAnalyzer
from projects.redheart.models.neural.emotion import NeuralEmotionAnalyzer
from projects.redheart.models.neural.regret import NeuralRegretAnalyzer
from projects.redheart.models.neural.surd import NeuralSurdAnalyzer

__all__ = ["NeuralBenthamAnalyzer", "NeuralEmotionAnalyzer", "NeuralRegretAnalyzer", "NeuralSurdAnalyzer"]
