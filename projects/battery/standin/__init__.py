"""A CT phantom in the file format of the real inspection images; see `writer` for the format."""

from projects.battery.standin.config import StandinConfig
from projects.battery.standin.writer import generate_standin

__all__ = ["StandinConfig", "generate_standin"]
