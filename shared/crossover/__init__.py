"""Networks put together from the epochs that suit each module group, tested before they replace anything."""

from shared.crossover.files import load_metadata, load_state, save_state
from shared.crossover.procedure import CrossoverResult, run_crossover
from shared.crossover.settings import BestSingle, CrossoverData, CrossoverSettings

__all__ = [
    "BestSingle", "CrossoverData", "CrossoverResult", "CrossoverSettings", "load_metadata", "load_state",
    "run_crossover", "save_state",
]  # fmt: skip
