"""The flat sweep over learning rates, as runs of the engine that are found again."""
