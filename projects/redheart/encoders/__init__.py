"""From texts to numbers: encoders with and without weights."""

from projects.redheart.encoders.base import Encoded, Encoder, Identity
from projects.redheart.encoders.choose import ENCODERS, EncoderOptions, build_encoder

__all__ = ["ENCODERS", "Encoded", "Encoder", "EncoderOptions", "Identity", "build_encoder"]
