"""The folders `plans/` and `contexts/` of a sweep: which points there should be, and of which generation."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.sweep import exclusive_files
from shared.sweep.canonical import ValueIndex, point_id
from shared.sweep.event_files import Notices, writing
from shared.sweep.states import Planned

SCHEMA = 1
_NAME = re.compile(r"(\d{4,})\.json")
_ID = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True)
class Proposal:
    """A point that a planner wants.

    Attributes:
        values: Swept keys and values.
        overrides: The same as Hydra overrides.
        stage: Of the search, from 0.
    """

    values: dict[str, Any]
    overrides: tuple[str, ...]
    stage: int = 0


@dataclass(frozen=True)
class Plan:
    """One file of `plans/`.

    Attributes:
        number: Its number, from 0.
        generation: Of its points.
        space: What the planner searched, in plain values.
        points: New points of this plan.
    """

    number: int
    generation: int
    space: dict[str, Any]
    points: tuple[Planned, ...]


class PlanFiles:
    """Reads and creates plans; keeps what it has read, since a plan never changes.

    Args:
        folder: Folder of the sweep.
        notices: Where oddities are told.
        read_only: A damaged file is told, and stays where it is.
    """

    def __init__(self, folder: Path, notices: Notices, read_only: bool = False) -> None:
        self._read_only = read_only
        self._plans = folder / "plans"
        self._copies = folder / "plans.copies"
        self._contexts = folder / "contexts"
        self._notices = notices
        self._read: dict[int, Plan] = {}
        self._points: dict[str, Planned] = {}
        self._modes: dict[int, str] = {}

    def plans(self) -> list[Plan]:
        """Return all plans in order, those that are new on the disk included."""
        for number in sorted({number for folder in (self._plans, self._copies) for number, _ in _numbered(folder)}):
            if number not in self._read:
                plan = self._read_plan(number)
                if plan is not None:
                    self._read[number] = plan
                    self._points |= {point.id: point for point in plan.points}
        return [self._read[number] for number in sorted(self._read)]

    def _read_plan(self, number: int) -> Plan | None:
        """Read a plan, or its copy where it is damaged: the events of its points would belong to nobody otherwise."""
        path, copy = (folder / f"{number:04d}.json" for folder in (self._plans, self._copies))
        content = exclusive_files.read(path) if path.is_file() else None
        plan = None if content is None else _parse(content, number)
        if plan is not None and content is not None:
            if not self._read_only and not copy.exists():  # of an older version, or its writer was killed
                with writing(copy):
                    exclusive_files.create(copy, content)
            return plan
        if path.is_file():
            self._set_aside(path, _has_points)
        content = exclusive_files.read(copy) if copy.is_file() else None
        plan = None if content is None else _parse(content, number)
        if plan is not None and content is not None and not self._read_only:
            with writing(path):
                exclusive_files.create(path, content)
            self._notices.tell(f"restored {path}", f"{path} is restored from {self._copies.name}/{copy.name}.")
        return plan

    def find(self, point: str) -> Planned | None:
        """Return a point by its id, None where no plan has it."""
        if point not in self._points:
            self.plans()
        return self._points.get(point)

    def generation(self) -> int:
        """Return how many times the points were begun anew, from 0: contexts with mode "rerun"."""
        for number, path in _numbered(self._contexts):
            if number not in self._modes:
                content = exclusive_files.read(path)
                if content is None or not _has_mode(content):
                    self._set_aside(path, _has_mode)
                else:
                    self._modes[number] = content["mode"]
        return sum(mode == "rerun" for mode in self._modes.values())

    def create(self, proposals: Sequence[Proposal], space: dict[str, Any], after: int) -> bool:
        """Write plan number `after` with the proposals that are no point yet; False where it was there.

        A plan that would add nothing and has the space of the one before is not written.
        """
        plans, generation = self.plans(), self.generation()
        if after != next_number(plans):
            return False
        known = [point for plan in plans for point in plan.points]
        number = max((point.number for point in known), default=-1) + 1
        taken = ValueIndex()
        for point in known:
            if point.generation == generation:
                taken.add(point.values)
        points: list[dict[str, Any]] = []
        for proposal in proposals:
            if proposal.values in taken:
                continue
            taken.add(proposal.values)
            points.append({
                "id": point_id(proposal.values, generation), "number": number + len(points), "stage": proposal.stage,
                "values": proposal.values, "overrides": list(proposal.overrides),
            })  # fmt: skip
        content = {"schema": SCHEMA, "generation": generation, "space": space, "points": points}
        if not points and plans and (plans[-1].generation, plans[-1].space) == (generation, space):
            return True
        path = self._plans / f"{after:04d}.json"
        with writing(path):
            created = exclusive_files.create(path, content)
            if created:
                exclusive_files.create(self._copies / path.name, content)
        return created

    def _set_aside(self, path: Path, is_whole: Callable[[dict[str, Any]], bool]) -> None:
        if self._read_only:
            self._notices.tell(f"damaged {path}", f"{path} is empty, truncated or of another shape and is ignored.")
            return
        with writing(path):
            aside = exclusive_files.set_aside(path, is_whole)
        if aside is not None:
            self._notices.tell(
                f"damaged {path}", f"{path} was empty, truncated or of another shape; it is kept as {aside.name}."
            )


def _has_points(content: dict[str, Any]) -> bool:
    return _parse(content, 0) is not None


def _has_mode(content: dict[str, Any]) -> bool:
    return isinstance(content.get("mode"), str)


def next_number(plans: Sequence[Plan]) -> int:
    """Number of the plan that would come after these."""
    return plans[-1].number + 1 if plans else 0


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    """Return the numbered files of a folder in order."""
    paths = folder.iterdir() if folder.is_dir() else iter(())
    found = ((match, path) for path in paths if (match := _NAME.fullmatch(path.name)))
    return sorted((int(match[1]), path) for match, path in found)


def _parse(content: dict[str, Any], number: int) -> Plan | None:
    """Return the plan that a file holds, None for any other shape."""
    try:
        generation = _whole(content["generation"])
        points = tuple(
            Planned(
                _id(point["id"]), _whole(point["number"]), _whole(point["stage"]), generation, dict(point["values"]),
                tuple(map(str, point["overrides"])),
            )
            for point in content["points"]
        )  # fmt: skip
        return Plan(number, generation, dict(content["space"]), points)
    except (KeyError, TypeError, ValueError):
        return None


def _id(value: object) -> str:
    """An id is a part of file names, so nothing else may pass for one."""
    if not isinstance(value, str) or _ID.fullmatch(value) is None:
        raise ValueError(f"the id of a point must be 12 hex digits, found {value!r}.")
    return value


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"a whole number from 0 on is needed, found {value!r}.")
    return value
