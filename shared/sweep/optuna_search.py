"""Searches with Optuna's samplers. The ledger is the truth: the study is made anew from its points at each question."""

import contextlib
import hashlib
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shared.errors import ConfigError
from shared.sweep.axes import Axes, Axis, Choice, Interval, drawn_value, listed_values, place_of, plain_axis, size_of
from shared.sweep.canonical import canonical_value, point_id, same_values
from shared.sweep.plans import Proposal
from shared.sweep.scoring import measured, was_stopped
from shared.sweep.states import PointView

if TYPE_CHECKING:
    import optuna

SAMPLERS = ("tpe", "random", "gp", "grid")
MAX_TRIES = 20
"""How often a sampler may suggest a known point before a random unknown one is taken instead."""
MAX_LISTED, MAX_DRAWS = 100_000, 1_000
"""Spaces up to this size are listed to find an unknown point; elsewhere so many random ones are tried."""
DIGITS = 6
"""Significant digits of a suggested number."""


class OptunaPlanner:
    """Asks a sampler for points until there are `total` in the space.

    Points that are done are told to the study with their score; those that failed for good with the worst score there
    is, so that the sampler keeps away; those stopped early as pruned; those under way as running, which TPE takes as
    bad and GP as expected, so that several at once do not propose the same. A point that is known is never proposed
    again: the sampler is told what became of it and asked once more, and after `MAX_TRIES` a random unknown point is
    taken. The sampler's seed follows from `seed` and the number of points: the same ledger gives the same answer.

    Args:
        axes: What is searched, as `parse_search` reads it.
        total: Number of points that the sweep shall have in the end, however often it is started; None for a grid.
        batch: How many may be under way at once.
        sampler: One of SAMPLERS; "grid" goes through all combinations in random order.
        seed: Of the sampler.

    Raises:
        ConfigError: If a number is not allowed, or the sampler cannot serve.
    """

    def __init__(
        self,
        axes: Axes,
        total: int | None,
        batch: int = 1,
        sampler: str = "tpe",
        seed: int = 0,
    ) -> None:
        _check_sampler(sampler, axes)
        for name, number in (("total", total), ("batch", batch)):
            if (number is not None or sampler != "grid" or name == "batch") and not _is_count(number):
                raise ConfigError(f"hydra.sweeper.{name} is {number!r}; a whole number from 1 on is needed")
        if not axes:
            raise ConfigError("hydra/sweeper=optuna has nothing to search; give an override such as a=interval(0,1)")
        self.axes, self.sampler, self.batch, self.seed = dict(axes), sampler, batch, seed
        self.size = size_of(self.axes)
        self.total: int | None = min(n for n in (total, self.size) if n is not None)
        self.notes: list[str] = []
        self._asked_for = total

    def space(self) -> dict[str, Any]:
        """What each key may be, and how many points there shall be."""
        axes = {key: plain_axis(axis) for key, (_, axis) in self.axes.items()}
        return {"kind": "optuna", "total": self.total, "axes": axes}

    def contains(self, values: Mapping[str, Any]) -> bool:
        """Whether each key has a value that it may have."""
        return values.keys() == self.axes.keys() and all(
            place_of(axis, values[key]) is not None for key, (_, axis) in self.axes.items()
        )

    def propose(self, points: Sequence[PointView]) -> list[Proposal] | None:
        """As many points as may start now."""
        assert self.total is not None
        self.notes = []
        if self._asked_for is not None and self._asked_for > self.total:
            self.notes.append(f"the space has {self.total} points, so the total of {self._asked_for} is not reached")
        inside = sorted((point for point in points if self.contains(point.values)), key=lambda point: point.number)
        left = self.total - len(inside)
        if left <= 0:
            return None
        number = min(left, self.batch - sum(not point.is_settled for point in inside))
        return (self._suggest(inside, number) or None) if number > 0 else []

    def _suggest(self, inside: Sequence[PointView], number: int) -> list[Proposal]:
        known = {point_id(point.values, 0): point for point in inside}
        shuffled = random.Random(_seed(self.seed, len(inside), "unknown"))
        asked = self._asked(inside) if self.sampler != "grid" else iter(())
        found: list[Proposal] = []
        for _ in range(number):
            candidates = itertools.chain(asked, self._unknown(shuffled))
            values = next((values for values in candidates if self._is_new(values, known)), None)
            if values is None:
                self.notes.append(f"no unknown point was found after {len(known)}; widen the space")
                break
            proposal = Proposal(values, tuple(self._override(key, value) for key, value in values.items()))
            known[point_id(values, 0)] = PointView("", -1, 0, 0, values, proposal.overrides)
            found.append(proposal)
        return found

    def _is_new(self, values: Mapping[str, Any], known: Mapping[str, PointView]) -> bool:
        return point_id(values, 0) not in known and not any(same_values(values, p.values) for p in known.values())

    def _asked(self, inside: Sequence[PointView]) -> Iterator[dict[str, Any]]:
        """Suggestions of the sampler, up to MAX_TRIES more than are used; each stays in the study, running or told."""
        import optuna

        with _quiet():
            study = optuna.create_study(sampler=_sampler(self.sampler, _seed(self.seed, len(inside), "sampler")))
            worst = max((score for point in inside if (score := measured(point)) is not None), default=None)
            told = {point_id(point.values, 0): self._trial(point, worst) for point in inside}
            study.add_trials(list(told.values()))
        distributions = {key: _distribution(axis) for key, (_, axis) in self.axes.items()}
        for _ in range(MAX_TRIES + self.batch):
            with _quiet():
                trial = study.ask(distributions)
                values = {key: self._value(key, trial.params[key]) for key in self.axes}
                again = told.get(point_id(values, 0))
                if again is not None and again.value is not None:
                    study.tell(trial, again.value)
            yield values

    def _trial(self, point: PointView, worst: float | None) -> "optuna.trial.FrozenTrial":
        """What became of a point, as Optuna says it."""
        from optuna.trial import TrialState, create_trial

        params = {key: place_of(axis, point.values[key]) for key, (_, axis) in self.axes.items()}
        distributions = {key: _distribution(axis) for key, (_, axis) in self.axes.items()}
        score = measured(point)
        if score is None and not point.is_settled:
            return create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)
        if score is None and worst is None:
            return create_trial(state=TrialState.FAIL, params=params, distributions=distributions)
        if score is not None and was_stopped(point):
            assert point.outcome is not None
            reports = {int(point.outcome["stopped_at"]): score}
            return create_trial(
                state=TrialState.PRUNED, value=score, params=params, distributions=distributions,
                intermediate_values=reports,
            )  # fmt: skip
        return create_trial(value=worst if score is None else score, params=params, distributions=distributions)

    def _value(self, key: str, suggested: Any) -> Any:
        """The value of a point for what Optuna suggests: a number of an interval, the place of a choice."""
        axis = self.axes[key][1]
        if isinstance(axis, Choice):
            return axis.values[int(suggested)]
        if axis.whole:
            return int(suggested)
        return canonical_value(min(max(float(f"{suggested:.{DIGITS}g}"), axis.low), axis.high))

    def _override(self, key: str, value: Any) -> str:
        element, axis = self.axes[key]
        if isinstance(axis, Choice):
            place = place_of(axis, value)
            assert place is not None
            return axis.overrides[int(place)]
        return f"{element}={value!r}"

    def _unknown(self, chance: random.Random) -> Iterator[dict[str, Any]]:
        """Random points: each once where they can be listed, otherwise a bounded number of draws."""
        if self.size is not None and self.size <= MAX_LISTED:
            cells = list(itertools.product(*(listed_values(axis) for _, axis in self.axes.values())))
            chance.shuffle(cells)
            yield from (dict(zip(self.axes, cell, strict=True)) for cell in cells)
            return
        for _ in range(MAX_DRAWS):
            yield {key: self._value(key, drawn_value(axis, chance)) for key, (_, axis) in self.axes.items()}


def _check_sampler(sampler: str, axes: Axes) -> None:
    if sampler == "cmaes":
        raise ConfigError(
            "hydra.sweeper.sampler is cmaes, which keeps its state outside the points and so cannot go on from a "
            f"ledger; allowed are {', '.join(SAMPLERS)}"
        )
    if sampler not in SAMPLERS:
        raise ConfigError(f"hydra.sweeper.sampler is {sampler!r}; allowed are {', '.join(SAMPLERS)}")
    endless = [key for key, (_, axis) in axes.items() if isinstance(axis, Interval) and not axis.whole]
    if sampler == "grid" and endless:
        raise ConfigError(
            f"hydra.sweeper.sampler is grid, but {endless[0]} is an interval of numbers without end; list its values, "
            "give range(), or take another sampler"
        )


def _sampler(name: str, seed: int) -> "optuna.samplers.BaseSampler":
    from optuna import samplers

    if name == "tpe":
        return samplers.TPESampler(seed=seed, constant_liar=True)
    return samplers.GPSampler(seed=seed) if name == "gp" else samplers.RandomSampler(seed=seed)


def _distribution(axis: Axis) -> "optuna.distributions.BaseDistribution":
    """As Optuna says it; of choices it sees only the places, since its own values must be plain."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(axis, Choice):
        places = range(len(axis.values))
        return IntDistribution(0, places[-1]) if axis.ordered else CategoricalDistribution(tuple(places))
    if axis.whole:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return FloatDistribution(axis.low, axis.high, log=axis.log)


def _seed(seed: int, number: int, word: str) -> int:
    """32 bits that differ from one number of points to the next."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}/{word}".encode()).digest()[:4], "big")


def _is_count(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 1


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's lines about each trial and its warnings about what is experimental."""
    import warnings

    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
