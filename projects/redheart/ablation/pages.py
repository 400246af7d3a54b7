"""The result of an ablation: ablation.json, ablation.csv, a figure, and the table in the terminal."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from projects.redheart.ablation.compare import HARMFUL, UNCHANGED, WORTH
from shared.atomic import write_bytes, write_json, write_text
from shared.report.figure_style import BLUE, GREY, VERMILION, draw_interval, dress, name_rows, new_figure, png_bytes

COLUMNS = (
    "way", "module", "metric", "with", "without", "worth", "lo", "hi", "n_groups", "verdict", "smallest_detectable",
    "p_value", "p_holm", "verdict_holm",
)  # fmt: skip
WAYS = {"switched_off": "switched off in the trained network", "retrained": "retrained without it"}


def write_ablation(folder: Path, content: Mapping[str, Any]) -> dict[str, Path]:
    """Write the files; each appears complete or not at all, the numbers first.

    Args:
        folder: `ablation/` of the run.
        content: {schema, run, final_sha256, seed, draws, note, <way>: {comparisons, rows, sentences}}.

    Returns:
        Name -> path.
    """
    paths = {name: folder / name for name in ("ablation.json", "ablation.csv", "ablation.png")}
    write_json(paths["ablation.json"], content)
    write_text(paths["ablation.csv"], table_csv(content))
    write_bytes(paths["ablation.png"], png_bytes(ablation_figure(content)))
    return paths


def table_csv(content: Mapping[str, Any]) -> str:
    """All rows of both ways, numbers in full."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for way in present(content):
        for row in content[way]["rows"]:
            worth = row["worth"] or {"value": 0.0, "lo": None, "hi": None, "n_groups": row["with"]["n_groups"]}
            numbers = [row["with"]["value"], row["without"]["value"], worth["value"], worth["lo"], worth["hi"]]
            judged = [row[name] for name in COLUMNS[9:]]
            writer.writerow([way, row["module"], row["metric"], *map(_cell, [*numbers, worth["n_groups"], *judged])])
    return table.getvalue()


def _cell(value: Any) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def present(content: Mapping[str, Any]) -> list[str]:
    """The ways that were gone, in order."""
    return [way for way in WAYS if way in content]


def ablation_figure(content: Mapping[str, Any]) -> Figure:
    """One panel a metric: the worth of each module with its interval; a row of panels for each way."""
    ways = present(content)
    rows = {way: content[way]["rows"] for way in ways}
    metrics = list(dict.fromkeys(row["metric"] for way in ways for row in rows[way]))
    modules = list(dict.fromkeys(row["module"] for way in ways for row in rows[way]))
    figure = new_figure(2.4 + 2.3 * len(metrics), (0.9 + 0.3 * len(modules)) * len(ways))
    panels = figure.subplots(len(ways), len(metrics), squeeze=False)
    colours = {WORTH: BLUE, HARMFUL: VERMILION}
    for line, way in enumerate(ways):
        for column, metric in enumerate(metrics):
            axes = panels[line][column]
            for row in (row for row in rows[way] if row["metric"] == metric):
                position = modules.index(row["module"])
                if row["verdict"] == UNCHANGED:
                    axes.plot([0.0], [position], marker="|", color=GREY)
                    continue
                draw_interval(axes, position, row["worth"], colours.get(row["verdict_holm"], GREY))
            axes.axvline(0.0, color=GREY, lw=0.8)
            dress(axes, metric, f"worth, {WAYS[way]}" if column == 0 else "worth", "", grid="x")
            name_rows(axes, modules if column == 0 else [""] * len(modules))
    return figure


def print_ablation(content: Mapping[str, Any], console: Console) -> None:
    """The table in the terminal: a line for each module and score that it changes, then a sentence a module."""
    for way in present(content):
        part = content[way]
        title = f"worth of each module, {WAYS[way]} (above 0: it helps)"
        table = Table(title=title, box=None, padding=(0, 2, 0, 0))
        shown = [row for row in part["rows"] if row["worth"] is not None]
        for heading, key in (("module", "module"), ("score", "metric")):  # names stay whole at any width
            longest = max((len(row[key]) for row in shown), default=0)
            table.add_column(heading, no_wrap=True, min_width=longest)
        for heading in ("worth", "95 %", "p (Holm)"):
            table.add_column(heading, justify="right")
        for row in shown:
            table.add_row(row["module"], row["metric"], *_shown(row))
        console.print(table)
        counted = f"* holds after Holm's correction for the {part['comparisons']} comparisons of this way"
        console.print(counted, markup=False)
        for sentence in part["sentences"]:
            console.print(f"  {sentence}", markup=False)


def _shown(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Worth, interval and adjusted p-value of a row as text."""
    worth, star = row["worth"], "*" if row["verdict_holm"] in (WORTH, HARMFUL) else ""
    value = "undefined" if worth["value"] is None else f"{worth['value']:+.4f}{star}"
    if worth["lo"] is None:
        return value, "none", ""
    p_holm = "not tested" if row["p_holm"] is None else f"{row['p_holm']:.3g}"
    return value, f"{worth['lo']:+.4f} to {worth['hi']:+.4f}", p_holm
