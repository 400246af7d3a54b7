"""Patterns and their scalar spectra in the file format of the real solver data; see `writer` for the format."""

from projects.spectra.standin.config import StandinConfig
from projects.spectra.standin.writer import generate_standin

__all__ = ["StandinConfig", "generate_standin"]
