"""What a stand-in set of patterns and spectra is made of: the frozen configuration and the format's vocabulary."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import ConfigError

FORMAT_VERSION = 1
WAVELENGTHS_NM: NDArray[np.float64] = np.arange(400.0, 701.0)  # of the file format: 301 columns

# Words that keep the random streams of patterns and of padding rows apart, and both from a plain default_rng(seed).
PATTERN_STREAM, PADDING_STREAM = 0x9A77, 0xFADD


@dataclass(frozen=True)
class StandinConfig:
    """Size and physics of a stand-in set; the defaults are the physics of the RCWA set `coarse`.

    Attributes:
        num_samples: Rows over all files, padding rows included.
        side_px: Height and width of a pattern in pixels, a multiple of 16 from 16 to 1024.
        sigma_px: Standard deviation of the Gaussian that smooths the noise, in pixels.
        thickness_um: Height of the pattern's material in micrometres.
        index_a: Refractive index at infinite wavelength.
        index_b_um2: Dispersion in square micrometres: n = index_a + index_b_um2 / wavelength^2.
        distance_um: From the mask to the plane of the pixels, in micrometres.
        pitch_um: Period in x and y, one Bayer cell, in micrometres.
        padding_share: Share of rows whose spectrum is all zero, 0 to below 1.
        num_files: Pairs of files that the rows are spread over.
        seed: Seed of everything random; the pattern of row i depends on (seed, i, side_px, sigma_px) only.
    """

    num_samples: int = 2000
    side_px: int = 128
    sigma_px: float = 11.0
    thickness_um: float = 1.0
    index_a: float = 1.5
    index_b_um2: float = 0.01
    distance_um: float = 2.0
    pitch_um: float = 2.0
    padding_share: float = 0.01
    num_files: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that have no meaning.

        Raises:
            ConfigError: A value lies outside its range; the sentence names the key.
        """
        self._require("num_samples", self.num_samples >= 1, "1 or more")
        good = 16 <= self.side_px <= 1024 and self.side_px % 16 == 0
        self._require("side_px", good, "multiples of 16 from 16 to 1024")
        self._require("sigma_px", 0.5 <= self.sigma_px <= self.side_px / 4, f"0.5 to side_px / 4 = {self.side_px / 4}")
        for name in ("thickness_um", "distance_um", "pitch_um"):
            value = getattr(self, name)
            self._require(name, math.isfinite(value) and value > 0, "finite numbers above 0")
        self._require("index_a", math.isfinite(self.index_a) and self.index_a >= 1, "finite numbers of at least 1")
        good = math.isfinite(self.index_b_um2) and self.index_b_um2 >= 0
        self._require("index_b_um2", good, "finite numbers of at least 0")
        self._require("padding_share", 0 <= self.padding_share < 1, "0 to below 1")
        most = min(self.num_samples, 1000)
        self._require("num_files", 1 <= self.num_files <= most, f"1 to {most} for {self.num_samples} samples")
        self._require("seed", self.seed >= 0, "0 or more")

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        return asdict(self)

    def _require(self, key: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise ConfigError(f"standin.{key} is {getattr(self, key)!r}; allowed: {allowed}.")
