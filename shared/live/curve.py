"""The steps of a run as a curve of bounded size: neighbours are put together, their mean, lowest and highest kept."""

from typing import Any

MAX_POINTS = 2000


class Curve:
    """Steps in buckets of equal width, which doubles whenever there are more than `max_points`.

    Args:
        max_points: Buckets at most.

    Attributes:
        width: Steps that a bucket spans.
        count: Step events in the curve.
    """

    def __init__(self, max_points: int = MAX_POINTS) -> None:
        if max_points < 2:
            raise ValueError(f"max_points must be at least 2, got {max_points}")
        self.max_points = max_points
        self.width = 1
        self.count = 0
        self._buckets: list[_Bucket] = []

    def __len__(self) -> int:
        return len(self._buckets)

    def add(self, step: int, epoch: int, loss: float | None, rate: float | None, stamp: int) -> None:
        """Append one step event.

        Args:
            step: Optimiser steps done; one below the last belongs to the last bucket.
            epoch: Epoch.
            loss: Training loss, None where it was not finite.
            rate: Learning rate, None where there is none.
            stamp: Version of the history with this event; `changes` compares with it.
        """
        self.count += 1
        last = self._buckets[-1] if self._buckets else None
        if last is None or step // self.width > last.step // self.width:
            last = _Bucket(step)
            self._buckets.append(last)
        last.add(max(step, last.step), epoch, loss, rate, stamp)
        while len(self._buckets) > self.max_points:
            self._halve(stamp)

    def truncate(self, step: int) -> None:
        """Drop what lies past `step`; a bucket that spans it goes as a whole, since its points are no longer apart."""
        while self._buckets and self._buckets[-1].step > step:
            self.count -= self._buckets.pop().count

    def changes(self, since: int) -> dict[str, Any]:
        """Buckets that are newer than a stamp.

        Returns:
            {"from": first changed row, "rows": [[step, epoch, mean, low, high, rate, events], ...], "count"}: whoever
            has the rows as they were at `since` cuts them at "from" and appends "rows".
        """
        first = len(self._buckets)
        while first and self._buckets[first - 1].stamp > since:
            first -= 1
        return {"from": first, "rows": [bucket.row() for bucket in self._buckets[first:]], "count": self.count}

    def _halve(self, stamp: int) -> None:
        self.width *= 2
        merged: list[_Bucket] = []
        for bucket in self._buckets:
            if merged and merged[-1].step // self.width == bucket.step // self.width:
                merged[-1].join(bucket)
            else:
                merged.append(bucket)
            merged[-1].stamp = stamp
        self._buckets = merged


class _Bucket:
    """Neighbouring steps."""

    __slots__ = ("count", "epoch", "finite", "high", "low", "rate", "stamp", "step", "total")

    def __init__(self, step: int) -> None:
        self.step, self.epoch, self.count, self.finite, self.stamp = step, 0, 0, 0, 0
        self.total, self.low, self.high = 0.0, 0.0, 0.0
        self.rate: float | None = None

    def add(self, step: int, epoch: int, loss: float | None, rate: float | None, stamp: int) -> None:
        self.step, self.epoch, self.rate, self.stamp = step, epoch, rate, stamp
        self.count += 1
        if loss is not None:
            self._widen(loss, loss)
            self.total += loss
            self.finite += 1

    def join(self, later: "_Bucket") -> None:
        self.step, self.epoch, self.rate = later.step, later.epoch, later.rate
        self.count += later.count
        if later.finite:
            self._widen(later.low, later.high)
            self.total += later.total
            self.finite += later.finite

    def row(self) -> list[float | None]:
        if not self.finite:
            return [self.step, self.epoch, None, None, None, self.rate, self.count]
        mean = _short(self.total / self.finite)
        return [self.step, self.epoch, mean, _short(self.low), _short(self.high), self.rate, self.count]

    def _widen(self, low: float, high: float) -> None:
        self.low = min(low, self.low) if self.finite else low
        self.high = max(high, self.high) if self.finite else high


def _short(value: float) -> float:
    """Six significant digits: more than a screen can show."""
    return float(f"{value:.6g}")
