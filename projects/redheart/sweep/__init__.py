"""The flat sweep over learning rates, and runs of the engine that are found again."""
