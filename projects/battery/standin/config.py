"""What a stand-in data set is made of: the frozen configuration and the vocabulary of the file format."""

from dataclasses import asdict, dataclass
from typing import Any

from projects.battery.data.labels import CLASSES
from shared.errors import ConfigError

FORMAT_VERSION = 1
FORMS: tuple[str, ...] = ("pouch", "cylindrical", "prismatic")
AXES: tuple[str, ...] = ("x", "y", "z")
POROSITY = "porosity"
RESIN_OVERFLOW = "resin_overflow"
STACK_SLICES = 2000  # slices in one virtual stack; a file name has four digits for the slice

# Words that keep the random streams of plan, battery and slice apart from each other and from anybody's plain
# default_rng(seed): [0, 0] and 0 seed the same stream, and a split drawn from it put all cells into one fold.
PLAN_STREAM, BATTERY_STREAM, SLICE_STREAM = 0x70A1, 0xBA77, 0x511CE


@dataclass(frozen=True)
class StandinConfig:
    """Size, class balance and difficulty of a stand-in CT data set.

    Attributes:
        num_batteries: Batteries, cells and modules together, 1 to 9999.
        num_slices: Images over all batteries and axes.
        size_px: Height and width of an image in pixels, at least 32.
        seed: Seed of everything random; a battery's pixels depend on (seed, battery id) only.
        class_shares: Relative frequencies in the order of `CLASSES`, over all axes.
        x_normal_share: Share of x slices whose label is normal.
        resin_overflow_batteries: Modules with resin overflow; fewer when the class share yields fewer such slices.
        void_contrast: Mean share of the local attenuation that a void takes away, 0 to 1.
        void_width_px: Full width at half maximum of a void, in pixels of a 128 px image.
        noise_sigma: Standard deviation of the scanner noise, as a share of the attenuation of active material.
        ring_strength: Standard deviation of the gain errors of faulty detector pixels, same unit.
        beam_hardening: Share of the attenuation lost in the middle of a solid block (cupping).
        confuser_rate: Expected share of x slices that cross a harmless crease, which looks like a void there.
    """

    num_batteries: int = 320
    num_slices: int = 4000
    size_px: int = 128
    seed: int = 0
    class_shares: tuple[int, int, int, int, int] = (39343, 12755, 39572, 45165, 1481)
    x_normal_share: float = 0.9997
    resin_overflow_batteries: int = 32
    void_contrast: float = 0.85
    void_width_px: float = 2.0
    noise_sigma: float = 0.04
    ring_strength: float = 0.03
    beam_hardening: float = 0.25
    confuser_rate: float = 0.25

    def __post_init__(self) -> None:
        """Refuse values that have no meaning.

        Raises:
            ConfigError: A value lies outside its range; the sentence names the key.
        """
        self._require("num_batteries", 1 <= self.num_batteries <= 9999, "1 to 9999")
        most = self.num_batteries * len(AXES) * STACK_SLICES // 4
        self._require("num_slices", 1 <= self.num_slices <= most, f"1 to {most} for {self.num_batteries} batteries")
        self._require("size_px", 32 <= self.size_px <= 4096, "32 to 4096")
        self._require("seed", self.seed >= 0, "0 or more")
        shares = self.class_shares
        good = len(shares) == len(CLASSES) and min(shares) >= 0 and sum(shares) > 0
        self._require("class_shares", good, f"{len(CLASSES)} numbers of at least 0, not all 0")
        self._require("resin_overflow_batteries", self.resin_overflow_batteries >= 0, "0 or more")
        for name in ("x_normal_share", "void_contrast", "beam_hardening"):
            self._require(name, 0.0 <= getattr(self, name) <= 1.0, "0 to 1")
        for name in ("noise_sigma", "ring_strength"):
            self._require(name, getattr(self, name) >= 0.0, "0 or more")
        self._require("void_width_px", 0.0 < self.void_width_px <= 4.0, "above 0 and at most 4")
        self._require("confuser_rate", 0.0 <= self.confuser_rate < 1.0, "0 to below 1")

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them (lists instead of tuples)."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def _require(self, key: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise ConfigError(f"standin.{key} is {getattr(self, key)!r}; allowed: {allowed}.")
