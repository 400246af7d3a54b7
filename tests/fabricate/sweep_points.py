"""Points of a sweep in any state, without a ledger."""

from dataclasses import replace
from typing import Any

from shared.sweep.canonical import point_id
from shared.sweep.plans import Proposal
from shared.sweep.states import PointView


def view(number: int, proposal: Proposal, generation: int = 0) -> PointView:
    """Return a planned point."""
    name = point_id(proposal.values, generation)
    return PointView(name, number, proposal.stage, generation, dict(proposal.values), proposal.overrides)


def point(number: int, values: dict[str, Any], score: float | None = None, stage: int = 0, **facts: Any) -> PointView:
    """Return a point of these values: done where there is a score, otherwise failed for good."""
    proposal = Proposal(values=values, overrides=tuple(f"{key}={value}" for key, value in values.items()), stage=stage)
    return settle(view(number, proposal), score, **facts)


def settle(planned: PointView, score: float | None, **facts: Any) -> PointView:
    """Return the point with a score, or failed for good where there is none."""
    if score is None:
        return replace(planned, state="failed", attempts=3, failures=3, final=True, error="the loss is not finite")
    return replace(planned, state="done", attempts=1, outcome={"score": score, **facts})
