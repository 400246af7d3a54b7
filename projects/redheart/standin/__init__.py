"""Stand-in stories with consistent labels for all tasks."""

from projects.redheart.standin.config import StandinConfig
from projects.redheart.standin.writer import MARKER, generate_standin, make_stories

__all__ = ["MARKER", "StandinConfig", "generate_standin", "make_stories"]
