"""Cells and notes of tables, made from estimates of report.json."""

from collections.abc import Iterable, Mapping
from typing import Any

from shared.report import wording
from shared.report.layout import Cell, Table


def cell(estimate: Mapping[str, Any] | None, signed: bool = False, metric: str = "") -> Cell:
    """A value with its interval in smaller type; empty without an estimate."""
    if estimate is None:
        return Cell("")
    return Cell(wording.number(estimate["value"], signed, metric), wording.interval(estimate, signed, metric))


def interval_note(estimates: Iterable[Mapping[str, Any] | None]) -> str:
    """Say once what the intervals of a table rest on."""
    found = [entry for entry in estimates if entry is not None and entry["lo"] is not None]
    if not found:
        return "No intervals: too few groups."
    counts = sorted({entry["n_groups"] for entry in found})
    methods = sorted({entry["method"] for entry in found})
    span = wording.groups(counts[0]) if len(counts) == 1 else f"{counts[0]:,} to {wording.groups(counts[-1])}"
    return f"In brackets: 95 % interval over {span}, not over samples ({', '.join(methods)})."


def without_empty_columns(table: Table) -> Table:
    """The table without columns in which nothing stands; the first stays."""
    kept = [i for i in range(len(table.columns)) if i == 0 or any(row[i].text for row in table.rows)]
    rows = [tuple(row[i] for i in kept) for row in table.rows]
    return Table(tuple(table.columns[i] for i in kept), rows, table.note)
