"""What the page needs to know of one run, from its events, in bounded memory.

Everything carries the version at which it last changed, so whoever has seen version v is brought up to date by
`changes(v)`, and whoever has seen nothing by `changes(0)`: a reload, a reconnection, a slow viewer and a new hub are
one and the same case, and nothing is lost by leaving frames out.
"""

from collections import deque
from typing import Any

from shared.live import checked
from shared.live.curve import Curve

MAX_EPOCH_ROWS = 5000
MAX_WARNINGS = 100
MAX_STAGES = 50
MAX_SAMPLES = 16
RECENT_STEPS = 50


class History:
    """Applies events in the order of their seq; those that a later `start` supersedes are taken back.

    Attributes:
        version: Grows with each event applied.
        next_seq: Seq that comes next; events below it have been seen.
        ignored: Events that were not of the agreed form.
        missing: Events that the file should have and has not.
        last_time: When the newest event was written, seconds since the epoch.
    """

    def __init__(self) -> None:
        self.version = 0
        self.next_seq = 0
        self.ignored = 0
        self.missing = 0
        self.last_time = 0.0
        self.steps = Curve()
        self._rows: list[tuple[int, int, int, dict[str, float | None]]] = []  # stamp, step, epoch, metrics
        self._samples: dict[int, tuple[int, int, dict[str, Any]]] = {}  # stamp, step, sample
        self._samples_cut = 0  # version at which samples were last taken back
        self._warnings: list[tuple[int, str]] = []  # step, sentence
        self._stages: list[tuple[int, str, str, float]] = []  # step, stage, state, time
        self._facts: dict[str, Any] = {}
        self._end: dict[str, Any] | None = None
        self._stamps = dict.fromkeys(("facts", "warnings", "stages", "end"), 0)
        self._place = _Place()

    def apply(self, event: dict[str, Any]) -> bool:
        """Take one event in.

        Returns:
            Whether anything changed; an event seen before changes nothing.
        """
        if not checked.is_event(event):
            self.ignored += 1
            return False
        if event["seq"] < self.next_seq:
            return False
        self.missing += event["seq"] - self.next_seq
        self.next_seq = event["seq"] + 1
        self.last_time = float(event["t"])
        self.version += 1
        getattr(self, f"_on_{event['kind']}")(event["step"], event["epoch"], event["data"])
        return True

    def changes(self, since: int) -> dict[str, Any]:
        """What has changed since a version, as plain data.

        Args:
            since: Version that the receiver has; 0 for one that has nothing.
        """
        found: dict[str, Any] = {
            "since": since, "version": self.version, "seq": self.next_seq, "steps": self.steps.changes(since),
            "epochs": self._epochs_since(since), "place": self._place.as_dict(self._facts),
        }  # fmt: skip
        parts = {"facts": self._facts, "end": self._end, "warnings": [text for _, text in self._warnings],
                 "stages": [stage[1:] for stage in self._stages]}  # fmt: skip
        found |= {name: part for name, part in parts.items() if self._stamps[name] > since}
        if self._samples_cut > since:
            found["samples_kept"] = list(self._samples)
        samples = [{"step": step, **one} for stamp, step, one in self._samples.values() if stamp > since]
        return found | ({"samples": samples} if samples else {})

    def _epochs_since(self, since: int) -> dict[str, Any]:
        first = len(self._rows)
        while first and self._rows[first - 1][0] > since:
            first -= 1
        return {"from": first, "rows": [[step, epoch, values] for _, step, epoch, values in self._rows[first:]]}

    def _on_start(self, step: int, epoch: int, data: dict[str, Any]) -> None:
        self.steps.truncate(step)
        self._rows = [row for row in self._rows if row[1] <= step]
        self._samples = {index: one for index, one in self._samples.items() if one[1] <= step}
        self._warnings = [one for one in self._warnings if one[0] <= step]
        self._stages = [one for one in self._stages if one[0] <= step]
        self._facts, self._end, self._samples_cut = checked.facts(data), None, self.version
        self._stamps = dict.fromkeys(self._stamps, self.version)
        self._place = _Place()

    def _on_step(self, step: int, epoch: int, data: dict[str, Any]) -> None:
        self.steps.add(step, epoch, checked.number(data.get("loss")), checked.number(data.get("lr")), self.version)
        batch = checked.number(data.get("batch"))
        self._place.move(self._facts, self.last_time, step, epoch, -1 if batch is None else int(batch))

    def _on_epoch(self, step: int, epoch: int, data: dict[str, Any]) -> None:
        self._rows.append((self.version, step, epoch, checked.metrics(data)))
        self._place.move(self._facts, self.last_time, step, epoch + 1, -1)
        if len(self._rows) > MAX_EPOCH_ROWS:  # every second of the older half goes; all rows are new to a viewer then
            half = MAX_EPOCH_ROWS // 2
            self._rows = [(self.version, *row[1:]) for row in self._rows[:half:2] + self._rows[half:]]

    def _on_sample(self, step: int, epoch: int, data: dict[str, Any]) -> None:
        found = checked.sample(data)
        if found is None or (found["index"] not in self._samples and len(self._samples) >= MAX_SAMPLES):
            self.ignored += 1
            return
        self._samples[found["index"]] = (self.version, step, {"epoch": epoch, **found})

    def _on_stage(self, step: int, epoch: int, data: dict[str, Any]) -> None:
        name = checked.text(data.get("stage"), checked.MAX_NAME)
        stage = (step, name, checked.text(data.get("state"), checked.MAX_NAME), self.last_time)
        known = [k for k, one in enumerate(self._stages) if one[1] == name]
        if known:
            self._stages[known[0]] = stage
        elif len(self._stages) < MAX_STAGES:
            self._stages.append(stage)
        self._stamps["stages"] = self.version
        if self._end is not None:  # a resumed run whose fit was complete goes on without a `start`
            self._end, self._stamps["end"] = None, self.version

    def _on_heartbeat(self, step: int, epoch: int, data: dict[str, Any]) -> None:
        """Its time is all that it tells."""

    def _on_warning(self, step: int, epoch: int, data: dict[str, Any]) -> None:
        self._warnings = [*self._warnings, (step, checked.text(data.get("sentence", "")))][-MAX_WARNINGS:]
        self._stamps["warnings"] = self.version

    def _on_end(self, step: int, epoch: int, data: dict[str, Any]) -> None:
        self._end = {"state": checked.text(data.get("state", "done"), checked.MAX_NAME), "t": self.last_time}
        self._stamps["end"] = self.version


class _Place:
    """Where the fit is and how fast it goes; a (re)start begins a new one."""

    def __init__(self) -> None:
        self.step, self.epoch, self.batch, self.time = 0, 0, -1, 0.0
        self._origin: tuple[float, float] | None = None
        self._recent: deque[tuple[float, int]] = deque(maxlen=RECENT_STEPS)

    def move(self, facts: dict[str, Any], time: float, step: int, epoch: int, batch: int) -> None:
        if epoch != self.epoch:
            self._recent.clear()
        self.step, self.epoch, self.batch, self.time = step, epoch, batch, time
        if batch >= 0:
            self._recent.append((time, batch))
        if self._origin is None:
            self._origin = (time, self._done(facts))

    def as_dict(self, facts: dict[str, Any]) -> dict[str, Any]:
        """{"step", "epoch" (those done), "batch" (0-based, -1: none), "left_s" of the fit, "epoch_left_s"}."""
        found: dict[str, Any] = {"step": self.step, "epoch": self.epoch, "batch": self.batch, "t": self.time}
        done, total = self._done(facts), facts.get("max_epochs")
        if self._origin is not None and total and total > 0 and done > self._origin[1]:
            pace = (self.time - self._origin[0]) / (done - self._origin[1])
            found["left_s"] = round(max(0.0, pace * (total - done)), 1)
        batches = facts.get("batches_per_epoch")
        if len(self._recent) > 1 and batches and self._recent[-1][1] > self._recent[0][1]:
            (t0, b0), (t1, b1) = self._recent[0], self._recent[-1]
            found["epoch_left_s"] = round(max(0.0, (t1 - t0) / (b1 - b0) * (batches - 1 - self.batch)), 1)
        return found

    def _done(self, facts: dict[str, Any]) -> float:
        batches = facts.get("batches_per_epoch") or 0
        return self.epoch + ((self.batch + 1) / batches if batches > 0 else 0.0)
