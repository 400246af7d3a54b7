"""The epoch of each module group, from the votes of the analyses; declines where there is too little to choose from."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from shared.errors import ConfigError
from shared.sweet_spots.analyses import ANALYSES, Floats, Series, Vote, vote

SCHEMA = 1
MIN_SNAPSHOTS = 6
FAR_APART = 1 / 3  # of the run: two groups that far from each other are rather two networks

Row = Mapping[str, Any]
"""One snapshot: {"epoch", "step", "metrics": {key: value}}."""


@dataclass(frozen=True)
class Keys:
    """Metric keys that the analyses read."""

    loss: str = "val/loss"
    train_loss: str = "train/loss"
    accuracy: str | None = "val/accuracy"


@dataclass(frozen=True)
class SweetSpots:
    """The choice.

    Attributes:
        decision: "chosen" or "declined".
        reason: A sentence.
        num_snapshots: Number of snapshots looked at.
        num_epochs: Epochs of the run.
        epochs: Group -> chosen epoch; empty when declined.
        votes: Group -> what each analysis says; empty when declined.
        choices: Group -> {"deciding": analysis, "agreement": analyses whose vote lies within one snapshot of the chosen
            epoch, "voted": analyses that did not abstain, "span": epochs as good within the noise or None, "reason"}.
        recommendations: Sentences about what the choice suggests.
        snapshots: The rows looked at, for the figure.
        keys: Metric keys that were read.
    """

    decision: str
    reason: str
    num_snapshots: int
    num_epochs: int
    epochs: dict[str, int] = field(default_factory=dict)
    votes: dict[str, tuple[Vote, ...]] = field(default_factory=dict)
    choices: dict[str, dict[str, Any]] = field(default_factory=dict)
    recommendations: tuple[str, ...] = ()
    snapshots: tuple[Row, ...] = ()
    keys: Keys = Keys()

    def as_dict(self) -> dict[str, Any]:
        """The content of sweet_spots.json; values that are not finite become null."""
        return {
            "schema": SCHEMA,
            "decision": self.decision,
            "reason": self.reason,
            "num_snapshots": self.num_snapshots,
            "num_epochs": self.num_epochs,
            "epochs": dict(self.epochs),
            "choices": {group: dict(choice) for group, choice in self.choices.items()},
            "votes": {group: [one.as_dict() for one in votes] for group, votes in self.votes.items()},
            "recommendations": list(self.recommendations),
            "keys": asdict(self.keys),
            "snapshots": [
                {"epoch": row["epoch"], "step": row["step"], "metrics": _without_nan(row["metrics"])}
                for row in self.snapshots
            ],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "SweetSpots":
        """The choice that `as_dict` wrote; null values of snapshots become NaN.

        Raises:
            ConfigError: If the content is of another schema.
        """
        if content.get("schema") != SCHEMA:
            raise ConfigError(f"sweet_spots.json is of schema {content.get('schema')!r}; this version reads {SCHEMA}")
        rows = [
            {**row, "metrics": {key: math.nan if value is None else value for key, value in row["metrics"].items()}}
            for row in content["snapshots"]
        ]
        return cls(
            content["decision"], content["reason"], content["num_snapshots"], content["num_epochs"],
            epochs=dict(content["epochs"]),
            votes={group: tuple(Vote.from_dict(one) for one in votes) for group, votes in content["votes"].items()},
            choices={group: dict(choice) for group, choice in content["choices"].items()},
            recommendations=tuple(content["recommendations"]),
            snapshots=tuple(rows), keys=Keys(**content["keys"]),
        )  # fmt: skip


def choose(
    rows: Sequence[Row],
    groups: Sequence[str],
    *,
    deciding: Mapping[str, str] | None = None,
    windows: Mapping[str, Sequence[float]] | None = None,
    keys: Keys | None = None,
    num_epochs: int | None = None,
    overfit_weight: float = 0.2,
    stability_weight: float = 0.1,
) -> SweetSpots:
    """Choose an epoch for each module group.

    Each group has one deciding analysis; the votes of the others are shown beside it. Where the deciding one abstains,
    the others decide by majority; of epochs with equally many votes the one nearest to the median vote is taken.

    Args:
        rows: The snapshots, ascending by epoch.
        groups: Names of the groups.
        deciding: Group -> analysis; by default own_loss where the group logs a loss of its own, otherwise overfit.
        windows: Group -> first and last epoch that its deciding analysis looks at, as shares of the run.
        keys: Metric keys.
        num_epochs: Epochs of the run; None: up to the last snapshot.
        overfit_weight: As in `vote`.
        stability_weight: As in `vote`.

    Raises:
        ConfigError: If a setting names an unknown group or analysis, or a window is none.
    """
    keys = keys or Keys()
    deciding, windows = dict(deciding or {}), dict(windows or {})
    check_settings(deciding, windows, groups)
    run = num_epochs if num_epochs is not None else (rows[-1]["epoch"] + 1 if rows else 0)
    common: dict[str, Any] = {"num_snapshots": len(rows), "num_epochs": run, "snapshots": tuple(rows), "keys": keys}
    if (too_few := _too_few(rows, keys.loss)) is not None:
        return SweetSpots("declined", too_few, **common)
    votes, choices = {}, {}
    for group in groups:
        series = series_of(rows, run, keys, group)
        name = deciding_analysis(group, series, deciding)
        weights = {"overfit_weight": overfit_weight, "stability_weight": stability_weight}
        votes[group] = tuple(
            vote(analysis, series, _pair(windows.get(group)) if analysis == name else None, **weights)
            for analysis in ANALYSES
        )
        choices[group] = _choice(votes[group], name, [row["epoch"] for row in rows])
    if undecided := [group for group, choice in choices.items() if choice["epoch"] is None]:
        reason = f"no analysis could vote for {', '.join(undecided)}: {votes[undecided[0]][0].reason}"
        return SweetSpots("declined", reason, votes=votes, **common)
    epochs = {group: int(choice.pop("epoch")) for group, choice in choices.items()}
    last = int(rows[-1]["epoch"])
    return SweetSpots(
        "chosen", f"{len(groups)} module group{'s' * (len(groups) != 1)}, {len(rows)} snapshots of {run} epochs",
        epochs=epochs, votes=votes, choices=choices,
        recommendations=tuple(_recommendations(epochs, choices, run, last)), **common,
    )  # fmt: skip


def check_settings(
    deciding: Mapping[str, str] | None, windows: Mapping[str, Sequence[float]] | None, groups: Sequence[str] | None
) -> None:
    """Look at the settings of `choose`.

    Args:
        deciding: Group -> analysis.
        windows: Group -> first and last share of the run.
        groups: Names of the groups; None: not known yet.

    Raises:
        ConfigError: If one names an unknown group or analysis, or a window is none.
    """
    for key, setting in (("deciding", deciding or {}), ("windows", windows or {})):
        for group in setting:
            if groups is not None and group not in groups:
                raise ConfigError(
                    f"callbacks.sweet_spot.{key} names the module group {group!r}; there are {', '.join(groups)}"
                )
    for group, analysis in (deciding or {}).items():
        if analysis not in ANALYSES:
            allowed = ", ".join(ANALYSES)
            raise ConfigError(f"callbacks.sweet_spot.deciding.{group} is {analysis!r}; allowed: {allowed}")
    for group, window in (windows or {}).items():
        if len(window) != 2 or not 0.0 <= window[0] < window[1] <= 1.0:
            raise ConfigError(
                f"callbacks.sweet_spot.windows.{group} is {list(window)}; two shares of the run are needed, first and "
                "last, for example [0.4, 0.9]"
            )


def _too_few(rows: Sequence[Row], loss: str) -> str | None:
    """Why there is too little to choose from, or None."""
    if len(rows) < MIN_SNAPSHOTS:
        return f"{len(rows)} snapshot{'s' * (len(rows) != 1)}; at least {MIN_SNAPSHOTS} are needed"
    finite = sum(math.isfinite(row["metrics"].get(loss, math.nan)) for row in rows)
    if finite < MIN_SNAPSHOTS:
        return f"{finite} of {len(rows)} snapshots have a finite {loss}; at least {MIN_SNAPSHOTS} are needed"
    return None


def deciding_analysis(group: str, series: Series, deciding: Mapping[str, str] | None) -> str:
    """The analysis that decides for a group: that of the settings, else own_loss where there is one, else overfit."""
    return (deciding or {}).get(group, "overfit" if series.own_loss is None else "own_loss")


def series_of(rows: Sequence[Row], num_epochs: int, keys: Keys, group: str) -> Series:
    """What the analyses read of the rows for one group."""

    def values(key: str | None) -> Floats | None:
        if key is None or not any(key in row["metrics"] for row in rows):
            return None
        found = np.array([row["metrics"].get(key, math.nan) for row in rows], dtype=np.float64)
        return np.where(np.isfinite(found), found, np.nan)

    loss = values(keys.loss)
    if loss is None:
        loss = np.full(len(rows), np.nan)
    epochs = np.array([row["epoch"] for row in rows], dtype=np.int64)
    # Written out: `group_loss_key` refuses names such as "_net", which a group may have and no metric.
    own = values(f"val/group/{group}/loss")
    return Series(epochs, num_epochs, loss, values(keys.train_loss), values(keys.accuracy), own)


def _choice(votes: Sequence[Vote], deciding: str, epochs: Sequence[int]) -> dict[str, Any]:
    """The chosen epoch of one group with its reason; the epoch is None where nobody votes."""
    decider = next(one for one in votes if one.analysis == deciding)
    others = [one.epoch for one in votes if one.epoch is not None]
    chosen, reason = decider.epoch, f"{deciding} decides: {decider.reason}"
    if chosen is None and others:
        chosen = _majority(others)
        reason = f"{deciding} {decider.reason}; the majority of the others decides: epoch {chosen} by votes {others}"
    agreement = 0
    if chosen is not None:
        place = epochs.index(chosen)
        agreement = sum(abs(epochs.index(epoch) - place) <= 1 for epoch in others)
    span = next((one.span for one in votes if one.span is not None), None)
    inside = span is not None and chosen is not None and span[0] <= chosen <= span[1]
    return {
        "epoch": chosen, "deciding": deciding, "agreement": agreement, "voted": len(others),
        "span": list(span) if span is not None and inside else None, "reason": reason,
    }  # fmt: skip


def _majority(epochs: Sequence[int]) -> int:
    """The epoch with the most votes, of equals the one nearest to the median vote, then the earlier."""
    counts, middle = Counter(epochs), float(np.median(epochs))
    return min(counts, key=lambda epoch: (-counts[epoch], abs(epoch - middle), epoch))


def _recommendations(
    epochs: Mapping[str, int], choices: Mapping[str, Mapping[str, Any]], num_epochs: int, last: int
) -> list[str]:
    """Sentences about what the choice suggests."""
    found = []
    apart = [
        (abs(epochs[a] - epochs[b]), a, b)
        for a, b in combinations(epochs, 2)
        if abs(epochs[a] - epochs[b]) > FAR_APART * num_epochs
    ]
    if apart:
        _, a, b = max(apart, key=lambda pair: pair[0])
        more = f" (and {len(apart) - 1} more pairs)" if len(apart) > 1 else ""
        found.append(
            f"the best epochs of {a} ({epochs[a]}) and {b} ({epochs[b]}){more} are more than a third of the run apart: "
            "try the ensemble of both epochs"
        )
    if len(epochs) > 1 and len(set(epochs.values())) == 1:
        found.append(f"all groups choose epoch {next(iter(epochs.values()))}: there is nothing to cross but neighbours")
    late = [group for group, epoch in epochs.items() if epoch == last]
    if late:
        found.append(f"{', '.join(late)}: the last snapshot was the best; more epochs may still help")
    lonely = [group for group, choice in choices.items() if choice["agreement"] <= 1 and choice["voted"] > 1]
    if lonely:
        found.append(f"{', '.join(lonely)}: no second analysis votes near the chosen epoch; take it as a weak choice")
    return found


def _pair(window: Sequence[float] | None) -> tuple[float, float] | None:
    return None if window is None else (float(window[0]), float(window[1]))


def _without_nan(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {key: value if math.isfinite(value) else None for key, value in metrics.items()}
