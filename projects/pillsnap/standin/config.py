"""What a stand-in set of pill photographs is made of: the frozen configuration, photo names and random streams."""

import re
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from shared.errors import ConfigError

FORMAT_VERSION = 1
DOMAINS: tuple[str, ...] = ("studio", "real", "others")
STREAMS = {"drugs": 0xD2, "specimen": 0x5BEC, "scene": 0x5CE2E, "surface": 0x5F, "shot": 0x5407, "noise": 0x2015E}
_SITTING = re.compile(r"([sr])(\d{2})")


@dataclass(frozen=True)
class StandinConfig:
    """Size of a stand-in set of pill photographs.

    Attributes:
        num_classes: Drugs of `top_100_drugs.json`, 1 to 1000.
        num_unknown_classes: Further drugs, photographed in real scenes only, for the open-set question, 0 to 1000.
        size_px: Height and width of a photo in pixels, 48 to 1024.
        studio_sittings: Studio sittings of each class, 0 to 99; a sitting has one specimen and one scene.
        studio_per_sitting: Photos of a studio sitting, 1 to 99.
        real_sittings: Sittings in real scenes of each class, known or unknown, 0 to 99.
        real_per_sitting: Photos of a real sitting, 1 to 99.
        look_alike_share: Share of the classes that come in pairs which differ in their imprint only, 0 to 1.
        seed: Seed of everything random; the pixels of a photo depend on (seed, class, sitting, shot) and on how
            many classes there are, not on the number of sittings or photos.
    """

    num_classes: int = 100
    num_unknown_classes: int = 20
    size_px: int = 256
    studio_sittings: int = 8
    studio_per_sitting: int = 2
    real_sittings: int = 12
    real_per_sitting: int = 3
    look_alike_share: float = 0.48
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that have no meaning.

        Raises:
            ConfigError: A value lies outside its range; the sentence names the key.
        """
        ranges = {"num_classes": (1, 1000), "num_unknown_classes": (0, 1000), "size_px": (48, 1024)}
        ranges |= {"studio_sittings": (0, 99), "studio_per_sitting": (1, 99)}
        ranges |= {"real_sittings": (0, 99), "real_per_sitting": (1, 99)}
        for key, (low, high) in ranges.items():
            self._require(key, low <= getattr(self, key) <= high, f"{low} to {high}")
        self._require("look_alike_share", 0.0 <= self.look_alike_share <= 1.0, "0 to 1")
        self._require("seed", self.seed >= 0, "0 or more")

    @property
    def num_pairs(self) -> int:
        """Number of look-alike pairs among the classes."""
        return int(self.num_classes * self.look_alike_share / 2)

    def sittings(self, domain: str) -> tuple[str, ...]:
        """Return the sitting ids of a class in a domain: s00, s01, ... in the studio, r00, r01, ... elsewhere."""
        count, letter = (self.studio_sittings, "s") if domain == "studio" else (self.real_sittings, "r")
        return tuple(f"{letter}{number:02d}" for number in range(count))

    def per_sitting(self, domain: str) -> int:
        """Return the number of photos of one sitting in a domain."""
        return self.studio_per_sitting if domain == "studio" else self.real_per_sitting

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        return asdict(self)

    def _require(self, key: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise ConfigError(f"standin.{key} is {getattr(self, key)!r}; allowed: {allowed}.")


def photo_name(sitting: str, shot: int) -> str:
    """Return the file name of a photo, for example `r07_02.jpg`."""
    return f"{sitting}_{shot:02d}.jpg"


def sitting_number(domain: str, sitting: str) -> int:
    """Return the number in a sitting id.

    Raises:
        ValueError: The domain is none of `DOMAINS`, or the id does not belong to it.
    """
    if domain not in DOMAINS:
        raise ValueError(f"domain is {domain!r}; allowed: {', '.join(DOMAINS)}.")
    letter = "s" if domain == "studio" else "r"
    match = _SITTING.fullmatch(sitting)
    if match is None or match[1] != letter:
        raise ValueError(f"sitting is {sitting!r}; allowed for {domain}: {letter}00 to {letter}99.")
    return int(match[2])


def stream(purpose: str, seed: int, *ids: int) -> np.random.Generator:
    """Return the random stream of one purpose (a key of `STREAMS`) and thing; equal arguments give equal streams."""
    return np.random.default_rng([STREAMS[purpose], seed, *ids])
