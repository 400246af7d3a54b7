"""Which epoch each module group was best at: five analyses that vote, and the choice with its reasons."""

from shared.sweet_spots.analyses import ANALYSES, Series, Vote, vote
from shared.sweet_spots.choose import MIN_SNAPSHOTS, Keys, SweetSpots, check_settings, choose
from shared.sweet_spots.ranking import rank_epochs

__all__ = [
    "ANALYSES", "MIN_SNAPSHOTS", "Keys", "Series", "SweetSpots", "Vote", "check_settings", "choose", "rank_epochs",
    "vote",
]  # fmt: skip
