"""Advice from past runs: how each went, which settings went with better results, and what to run next."""
