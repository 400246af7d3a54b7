"""What the events of a point mean: a pure fold from events to the point's state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

STATES = ("planned", "running", "done", "failed", "interrupted")
KINDS = ("running", "opened", "done", "failed", "interrupted", "retry")
OF_A_LEASE = ("opened", "done", "failed", "interrupted")
"""Events that count only if they carry the number and token of the lease that is held."""


@dataclass(frozen=True)
class Limits:
    """How often a point is tried.

    Attributes:
        retries: Attempts after the first that an exception may end.
        max_interruptions: Interruptions in a row, without an epoch more than at any before, that are followed by
            another attempt.
    """

    retries: int = 2
    max_interruptions: int = 20

    def __post_init__(self) -> None:
        for name, value in (("retries", self.retries), ("max_interruptions", self.max_interruptions)):
            if value < 0:
                raise ValueError(f"{name} must be at least 0, found {value}.")


@dataclass(frozen=True)
class Event:
    """One file of the ledger.

    Attributes:
        point: Id of the point.
        n: Number among the events of the point, from 0.
        kind: One of `KINDS`.
        t: Seconds since 1970 by the writer's clock; for people, nothing is decided by it.
        host: Of the writer.
        pid: Of the writer.
        data: What belongs to the kind: `lease` and `token` of those in `OF_A_LEASE`; `outcome`, `error`, `reason`.
    """

    point: str
    n: int
    kind: str
    t: float
    host: str
    pid: int
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Lease:
    """Who has a point.

    Attributes:
        event: Number of the `running` event that took it.
        token: Of this lease alone.
        host: Name of the machine.
        machine: What tells a machine and its process numbers from another one of the same name.
        pid: Of the point process.
        born: When that process began, by the machine's own count; with the pid it names the process.
        job: What the launcher calls the job, None outside one.
        started_by: Who started the job, None where unknown.
        t: When it was taken, by the holder's clock.
    """

    event: int
    token: str
    host: str
    machine: str
    pid: int
    born: float
    job: str | None
    started_by: str | None
    t: float


@dataclass(frozen=True)
class Planned:
    """A point as a plan says it.

    Attributes:
        id: 12 hex digits.
        number: Order over all plans, from 0.
        stage: Of the search, from 0.
        generation: Of code and data, from 0.
        values: Swept keys and values.
        overrides: The same as Hydra overrides.
    """

    id: str
    number: int
    stage: int
    generation: int
    values: dict[str, Any]
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class PointView:
    """A point and what has become of it.

    Attributes:
        id, number, stage, generation, values, overrides: As planned.
        state: One of `STATES`.
        attempts: Leases taken so far.
        failures: Since the last retry.
        interruptions: In a row without an epoch more, since the last failure or retry.
        outcome: What a done point brought, None otherwise.
        error: Why the newest attempt failed or stopped, None while there is nothing to say.
        final: It failed and is not tried again.
        run: Run directory of the newest attempt that had one, to resume.
        lease: Of a running point, None otherwise.
        last_event: Greatest event number, -1 without events.
        history: All events in order.
        stale: Numbers of events that did not count, because their writer had lost the lease.
    """

    id: str
    number: int
    stage: int
    generation: int
    values: dict[str, Any]
    overrides: tuple[str, ...]
    state: str = "planned"
    attempts: int = 0
    failures: int = 0
    interruptions: int = 0
    outcome: dict[str, Any] | None = None
    error: str | None = None
    final: bool = False
    run: str | None = None
    lease: Lease | None = None
    last_event: int = -1
    history: tuple[Event, ...] = ()
    stale: tuple[int, ...] = ()

    @property
    def is_settled(self) -> bool:
        """Done, or failed for good."""
        return self.state == "done" or self.final

    @property
    def is_free(self) -> bool:
        """To be run and with nobody."""
        return self.state != "running" and not self.is_settled


@dataclass
class _Fold:
    """The running state of a fold; its fields are those of `PointView`."""

    limits: Limits
    state: str = "planned"
    attempts: int = 0
    failures: int = 0
    interruptions: int = 0
    farthest: int = -1
    outcome: dict[str, Any] | None = None
    error: str | None = None
    final: bool = False
    run: str | None = None
    lease: Lease | None = None
    stale: list[int] = field(default_factory=list)

    def take(self, event: Event, numbers: frozenset[int]) -> None:
        """Let one event count, or note that it does not."""
        if not self._counts(event, numbers):
            self.stale.append(event.n)
            return
        getattr(self, f"_{event.kind}")(event)

    def _counts(self, event: Event, numbers: frozenset[int]) -> bool:
        if self.state == "done":
            return False
        if event.kind == "running":
            return True  # whoever created it saw all events before, also one that is damaged now
        if event.kind == "retry":
            return self.state == "failed"
        lease = event.data["lease"]
        if self.lease is not None and lease == self.lease.event:
            return bool(event.data["token"] == self.lease.token)
        # The event that took this lease is damaged; what its holder wrote later is as good as ever.
        return lease not in numbers and (self.lease is None or lease > self.lease.event)

    def _running(self, event: Event) -> None:
        data = event.data
        self.lease = Lease(
            event.n, data["token"], event.host, data["machine"], event.pid, data["born"], data.get("job"),
            data.get("started_by"), event.t,
        )  # fmt: skip
        self.state, self.attempts, self.final, self.error = "running", self.attempts + 1, False, None

    def _opened(self, event: Event) -> None:
        self.run = event.data["run"]

    def _done(self, event: Event) -> None:
        self.state, self.lease, self.error, self.final = "done", None, None, False
        self.outcome = event.data["outcome"]

    def _failed(self, event: Event) -> None:
        self.state, self.lease, self.error = "failed", None, event.data["error"]
        self.failures, self.interruptions, self.farthest = self.failures + 1, 0, -1  # the next one may begin anew
        self.final = bool(event.data.get("final", False)) or self.failures > self.limits.retries

    def _interrupted(self, event: Event) -> None:
        epoch = event.data.get("epoch")
        further = isinstance(epoch, int) and epoch > self.farthest
        if isinstance(epoch, int):
            self.farthest = max(epoch, self.farthest)
        self.interruptions = 1 if further else self.interruptions + 1
        self.state, self.lease, self.error = "interrupted", None, event.data["reason"]
        if self.interruptions > self.limits.max_interruptions:
            self.state, self.final = "failed", True
            self.error = f"interrupted {self.interruptions} times without progress, at last: {event.data['reason']}"

    def _retry(self, event: Event) -> None:
        self.state, self.failures, self.interruptions, self.farthest = "planned", 0, 0, -1
        self.final, self.error = False, None


def fold(planned: Planned, events: Sequence[Event], limits: Limits) -> PointView:
    """Return the point as its events leave it.

    Nothing that is written after `done` counts, nor what a worker wrote that does not hold the lease. A gap in the
    numbers is an event that is damaged; those after it still count.

    Args:
        planned: The point.
        events: Its events in order of their numbers.
        limits: How often it is tried.

    Raises:
        ValueError: The events are not in order or of another point.
    """
    numbers = [event.n for event in events]
    if numbers != sorted(set(numbers)) or any(event.point != planned.id for event in events):
        raise ValueError(f"the events of point {planned.id} must be its own and in order, found numbers {numbers}.")
    state = _Fold(limits)
    known = frozenset(numbers)
    for event in events:
        state.take(event, known)
    return replace(
        view_of(planned),
        state=state.state, attempts=state.attempts, failures=state.failures, interruptions=state.interruptions,
        outcome=state.outcome, error=state.error, final=state.final, run=state.run, lease=state.lease,
        last_event=numbers[-1] if numbers else -1, history=tuple(events), stale=tuple(state.stale),
    )  # fmt: skip


def view_of(planned: Planned) -> PointView:
    """Return a planned point that nothing has happened to."""
    return PointView(planned.id, planned.number, planned.stage, planned.generation, planned.values, planned.overrides)
