"""What a stand-in set of stories is made of."""

from dataclasses import asdict, dataclass
from typing import Any

from shared.errors import ConfigError

FORMAT_VERSION = 1

# Words that keep the random streams of plan, story, copy and subject apart from each other and from a plain seed.
PLAN_STREAM, STORY_STREAM, COPY_STREAM, SUBJECT_STREAM = 0x9E7A, 0x57081, 0xC097, 0x5B1EC


@dataclass(frozen=True)
class StandinConfig:
    """Size and difficulty of a stand-in set.

    Attributes:
        num_stories: Stories in all, near-duplicates included, 20 to 1,000,000.
        seed: Seed of everything random.
        near_duplicate_share: Share of the stories that are a slightly changed copy of an earlier one, 0 to 0.5; the
            default gives 623 of 10,460, as many as the reference removed.
        turn_share: Share of the stories whose feeling turns: both feelings have as many sentences, and the label is
            the one that comes last.
        ambiguous_share: Chance that a sentence of feeling fits several feelings.
        label_noise: Share of the stories whose label is drawn at random.
        score_noise: Standard deviation that is added to every number.
        missing_share: Chance of each task's field to be missing.
        num_subjects: People with simulated ratings; 0: no subjects.csv.
    """

    num_stories: int = 1500
    seed: int = 0
    near_duplicate_share: float = 0.0596
    turn_share: float = 0.5
    ambiguous_share: float = 0.2
    label_noise: float = 0.05
    score_noise: float = 0.05
    missing_share: float = 0.02
    num_subjects: int = 0

    def __post_init__(self) -> None:
        """Refuse values that have no meaning.

        Raises:
            ConfigError: A value lies outside its range; the sentence names the key.
        """
        self._require("num_stories", 20 <= self.num_stories <= 1_000_000, "20 to 1000000")
        self._require("seed", self.seed >= 0, "0 or more")
        self._require("near_duplicate_share", 0 <= self.near_duplicate_share <= 0.5, "0 to 0.5")
        self._require("missing_share", 0 <= self.missing_share < 1, "0 to below 1")
        for key in ("turn_share", "ambiguous_share", "label_noise", "score_noise"):
            self._require(key, 0 <= getattr(self, key) <= 1, "0 to 1")
        most = self.num_stories // 4
        enough = self.num_subjects == 0 or 5 <= self.num_subjects <= most
        self._require("num_subjects", enough, f"0, or 5 to {most} for {self.num_stories} stories")

    @property
    def num_copies(self) -> int:
        """How many stories are near-duplicates."""
        return round(self.near_duplicate_share * self.num_stories)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        return asdict(self)

    def _require(self, key: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise ConfigError(f"standin.{key} is {getattr(self, key)!r}; allowed: {allowed}.")
