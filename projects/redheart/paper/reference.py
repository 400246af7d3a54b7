"""What the reference work claims, beside which our own rows stand; its data and its test are not ours."""

from typing import NamedTuple


class Claim(NamedTuple):
    """One row of the reference: its name, its numbers, and the row of our table that was made in the same way."""

    name: str
    val_loss: float
    val_accuracy: float
    test_accuracy: float
    our_row: str


CLAIMS: tuple[Claim, ...] = (
    Claim("single epoch", 2.31, 0.723, 0.718, "last"),
    Claim("best single epoch", 1.82, 0.785, 0.779, "best_single"),
    Claim("sweet spot", 1.65, 0.821, 0.814, "sweet_spot"),
    Claim("crossover", 1.48, 0.863, 0.857, "crossover"),
)
"""The reference gives one run, no interval and no seed. It has no acceptance test, so nothing of it answers to our row
`final`, the network that the test let through."""

NOT_COMPARABLE = (
    "The reference's numbers come from other data, another split and one run without intervals, so they cannot be set "
    "against ours; what can be tested here is only its claim about the order: each of our rows minus our best single "
    "epoch, paired on the same stories."
)
