"""How many photos of a class are taken, and which: studio:real in a fixed ratio, whole captures in a drawn order."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from shared.errors import ConfigError

_Photo = TypeVar("_Photo")


@dataclass(frozen=True)
class Ratio:
    """Parts of studio and real photos in each class, in lowest terms.

    Raises:
        ConfigError: A part is below 1.
    """

    studio: int = 3
    real: int = 7

    def __post_init__(self) -> None:
        if self.studio < 1 or self.real < 1:
            raise ConfigError(f"the ratio is {self.studio}:{self.real}; both parts must be 1 or more.")
        common = math.gcd(self.studio, self.real)
        object.__setattr__(self, "studio", self.studio // common)
        object.__setattr__(self, "real", self.real // common)

    @classmethod
    def parse(cls, text: str) -> "Ratio":
        """Read "3:7".

        Raises:
            ConfigError: It is no such pair.
        """
        match = re.fullmatch(r"(\d{1,6}):(\d{1,6})", text.strip())
        if match is None:
            raise ConfigError(f"the ratio is {text!r}; allowed are two whole numbers from 1 on, such as 3:7.")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.studio}:{self.real}"


def how_many(studio: int, real: int, ratio: Ratio, min_images: int) -> tuple[int, int]:
    """Return how many studio and real photos of a class are used.

    The ratio is held exactly: u times its two parts, with the largest u that both domains allow. Only where that stays
    below `min_images` does the minimum come before the ratio: the nearest numbers to the ratio that reach the minimum,
    or all photos of the class where it has fewer.

    Args:
        studio: Photos there are.
        real: Photos there are.
        ratio: Wanted parts.
        min_images: Fewest photos of a class.

    Example:
        >>> how_many(40, 100, Ratio(3, 7), 50)
        (39, 91)
        >>> how_many(6, 100, Ratio(3, 7), 50)
        (6, 44)
        >>> how_many(6, 20, Ratio(3, 7), 50)
        (6, 20)
    """
    units = min(studio // ratio.studio, real // ratio.real)
    if units * (ratio.studio + ratio.real) >= min_images:
        return units * ratio.studio, units * ratio.real
    total = min(min_images, studio + real)
    wanted = round(total * ratio.studio / (ratio.studio + ratio.real))
    used = min(studio, max(wanted, total - real))
    return used, total - used


def what_falls_short(available: tuple[int, int], used: tuple[int, int], ratio: Ratio, min_images: int) -> list[str]:
    """Return in which ways a class falls short: "no studio photo", "no real photo", "ratio", "images"; mostly none.

    Args:
        available: Studio and real photos there are.
        used: Studio and real photos that are used.
        ratio: Wanted parts.
        min_images: Fewest photos of a class.
    """
    names = ("no studio photo", "no real photo")
    found = [name for name, count in zip(names, available, strict=True) if count == 0]
    if used[0] * ratio.real != used[1] * ratio.studio:
        found.append("ratio")
    if sum(used) < min_images:
        found.append("images")
    return found


def take(captures: Mapping[str, Sequence[_Photo]], count: int, seed: int) -> list[_Photo]:
    """Take `count` photos, capture after capture in a drawn order, so that at most one capture is torn.

    The place of a capture in the order is the hash of seed and name: captures added later do not reshuffle the others,
    and a larger count takes what a smaller one takes and more. What is left of the torn capture is not used at all, so
    nothing of it can reach another fold.

    Args:
        captures: Name -> its photos, in the order in which they are taken.
        count: At most as many as there are.
        seed: Of the draw.

    Example:
        >>> take({"a": [1, 2], "b": [3, 4], "c": [5]}, 3, seed=0)
        [5, 3, 4]
    """
    order = sorted(captures, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    return [photo for name in order for photo in captures[name]][:count]
