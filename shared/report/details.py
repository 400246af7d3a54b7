"""What the files beside report.json say more: votes, barriers, averages, cost, the methods of the calibration."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.report import wording
from shared.report.layout import Cell, Section, Table

Details = Mapping[str, Mapping[str, Any]]
"""Name of a file without its suffix ("sweet_spots", "crossover", "calibration") to its content."""

FILES = ("sweet_spots", "crossover", "calibration")
CROSSOVER, CALIBRATION = "Sweet spots and crossover", "Calibration"
"""Titles of the sections that get more."""


def read_details(run: Path) -> dict[str, dict[str, Any]]:
    """Content of the files that a run directory has."""
    paths = {name: run / f"{name}.json" for name in FILES}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.is_file()}


def add_details(section: Section, details: Details) -> Section:
    """Return a section with the tables and sentences that the files add to it."""
    if section.title == CROSSOVER:
        spots, crossed = details.get("sweet_spots", {}), details.get("crossover", {})
        text = [*section.text, *map(str, spots.get("recommendations", []))]
        tables = [_groups(spots, crossed), _averages(crossed), _variants(crossed), _barriers(crossed), _cost(crossed)]
    elif section.title == CALIBRATION:
        found = details.get("calibration", {})
        text, tables = section.text, [_methods(found), _held_out(found)]
    else:
        return section
    return Section(section.title, text, [*section.tables, *(table for table in tables if table.rows)], section.figures)


def _groups(spots: Mapping[str, Any], crossed: Mapping[str, Any]) -> Table:
    """Each module group: its sweet spot, why, and the epochs that the child and final took it from."""
    choices, epochs = spots.get("choices", {}), spots.get("epochs", {})
    child, final = crossed.get("child_sources", {}), crossed.get("sources", {})
    rows = [
        (
            Cell(group), Cell(str(epoch)),
            Cell(_votes(choices.get(group, {})), str(choices.get(group, {}).get("reason", ""))),
            Cell(_known(child.get(group))), Cell(_known(final.get(group))),
        )
        for group, epoch in epochs.items()
    ]  # fmt: skip
    note = "Epochs count from 0. The crossover as found is the row of that name, whether it was accepted or not."
    return Table(("module group", "sweet spot", "votes near it", "crossover as found", "final"), rows, note)


def _votes(choice: Mapping[str, Any]) -> str:
    return f"{choice['agreement']} of {choice['voted']}" if "agreement" in choice else wording.NO_VALUE


def _known(epoch: int | None) -> str:
    return wording.NO_VALUE if epoch is None else str(epoch)


def _averages(crossed: Mapping[str, Any]) -> Table:
    rows = [
        (
            Cell(name), Cell(", ".join(map(str, soup["members"]))), Cell(wording.number(soup["loss"])),
            Cell(str(soup["batch_norm"]["used"])),
        )
        for name, soup in crossed.get("soups", {}).items()
    ]  # fmt: skip
    note = "Losses are means over the groups of val. A greedy soup of one snapshot: any other made it worse."
    return Table(("average", "snapshots (epochs)", "loss on val", "batch norm"), rows, note)


def _variants(crossed: Mapping[str, Any]) -> Table:
    rows = [
        (
            Cell(f"{variant['shift']:+d}"), Cell(", ".join(f"{g} {e}" for g, e in variant["epochs"].items())),
            Cell(wording.number(variant["loss"])),
        )
        for variant in crossed.get("variants", [])
    ]  # fmt: skip
    if rows:
        best = Cell(wording.number(crossed.get("best_single_loss")))
        rows = [(Cell("best single"), Cell(""), best), *rows]
    return Table(("all sweet spots shifted by", "epochs", "loss on val"), rows)


def _barriers(crossed: Mapping[str, Any]) -> Table:
    rows = [
        (
            Cell(f"epoch {barrier['from']} to {barrier['to']}"),
            Cell(f"{barrier['height']:+.4f}"),
            Cell(f"{barrier['at']:g}"),
        )
        for barrier in crossed.get("barriers", [])
    ]
    note = "How far the loss on val rises above the straight line between two networks; below zero there is no barrier."
    return Table(("loss barrier", "height", "at"), rows, note)


def _cost(crossed: Mapping[str, Any]) -> Table:
    parts = {name: part for name, part in crossed.get("cost", {}).items() if isinstance(part, Mapping)}
    rows = [
        (
            Cell(name),
            Cell(f"{part['equivalent_passes']:.1f}"),
            Cell(f"{part['passes']:,}"),
            Cell(f"{part['seconds']:.1f}"),
        )
        for name, part in parts.items()
        if {"equivalent_passes", "passes", "seconds"} <= set(part)
    ]
    columns = ("cost of", "validation passes it was worth", "networks looked at", "seconds")
    return Table(columns, rows)


def _methods(found: Mapping[str, Any]) -> Table:
    rows = [
        (Cell(name), Cell(wording.number(row["nll"])), Cell(f"{row['gain']:+.4f}"), Cell(f"{row['se']:.4f}"))
        for name, row in found.get("cv", {}).items()
    ]
    abstained = "; ".join(f"{name} abstains: {why}" for name, why in found.get("abstained", {}).items())
    note = "On groups held out of each fit; a method is taken only if its gain exceeds one standard error."
    return Table(("method", "NLL", "gain over identity", "standard error"), rows, f"{note} {abstained}".strip())


def _held_out(found: Mapping[str, Any]) -> Table:
    """Scores before and after on held-out groups of the calibrate fold, with the paired difference."""
    parts = [found.get(part, {}) for part in ("before", "after", "difference")]
    rows = [
        (Cell(name.replace("_", " ")), *(_estimate(part.get(name), part is parts[2]) for part in parts))
        for name in parts[0]
        if all(name in part for part in parts)
    ]
    return Table(("on the calibrate fold, held out", "before", "after", "after minus before, paired"), rows)


def _estimate(entry: Mapping[str, Any] | None, signed: bool) -> Cell:
    if entry is None:
        return Cell(wording.NO_VALUE)
    return Cell(wording.number(entry["value"], signed), wording.interval(entry, signed))
