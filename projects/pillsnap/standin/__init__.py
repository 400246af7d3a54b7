"""Rendered pills: studio and real-scene photographs of made-up drugs, with look-alikes and unknown drugs."""

from projects.pillsnap.standin.config import StandinConfig
from projects.pillsnap.standin.photos import render_photo
from projects.pillsnap.standin.surfaces import BACKGROUNDS
from projects.pillsnap.standin.writer import generate_standin, read_config

__all__ = ["BACKGROUNDS", "StandinConfig", "generate_standin", "read_config", "render_photo"]
