"""Measurements of speed and memory; see docs/benchmarks.md."""

import shared  # noqa: F401 - before any benchmark imports torch: it sets what native libraries read as they load
