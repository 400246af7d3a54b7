"""What a set of patterns and curves looks like, in numbers and pictures; of cells of a colour router it tells more."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from projects.spectra.data.npy_file import open_npy
from projects.spectra.data.store import CurveStore
from projects.spectra.spectrum import CELL_CHANNELS
from shared.curve_scores import CurveAxes
from shared.digests import equal_runs
from shared.report.figure_style import BLUE, GREEN, GREY, SERIES, VERMILION, dress, new_figure
from shared.sample_index import SampleIndex

_CHUNK = 4096
_CELL_COLOURS = {"B": BLUE, "G upper right": GREEN, "R": VERMILION}


@dataclass(frozen=True)
class DataSummary:
    """Numbers over all samples that are no padding.

    Attributes:
        axes: Channels and axis of the curves.
        fill: (N,) share of a pattern's pixels that are set.
        energy: (N, C) mean of each curve over the axis.
        cell_energy: (N, L) power in the four quadrants together, B + 2 G + R; None where the curves are no cells.
        lowest: (C,) smallest value of each channel.
        highest: (C,) largest value of each channel.
        num_identical: Samples whose pattern occurs again, pixel for pixel.
        num_grouped: Samples that share their group with another; of cells: another one is a variant, or identical.
        num_groups: Groups of samples that stay in one fold.
        num_symmetric: Patterns that are symmetric about the main diagonal.
    """

    axes: CurveAxes
    fill: NDArray[np.float64]
    energy: NDArray[np.float64]
    cell_energy: NDArray[np.float64] | None
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]
    num_identical: int
    num_grouped: int
    num_groups: int
    num_symmetric: int


def summarise(store: CurveStore, index: SampleIndex, axes: CurveAxes) -> DataSummary:
    """Measure a store, in chunks."""
    num, num_channels = len(store), len(axes.channels)
    fill, energy = np.empty(num), np.empty((num, num_channels))
    cell_energy = np.empty((num, len(axes.values))) if axes.channels == CELL_CHANNELS else None
    lowest, highest, num_symmetric = np.full(num_channels, np.inf), np.full(num_channels, -np.inf), 0
    for start in range(0, num, _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, num))
        patterns, curves = store.pictures(rows), _curves(store, rows, axes)
        fill[rows] = patterns.mean(axis=(1, 2))
        energy[rows] = curves.mean(axis=2)
        if cell_energy is not None:
            cell_energy[rows] = curves.sum(axis=1)
        lowest, highest = np.minimum(lowest, curves.min(axis=(0, 2))), np.maximum(highest, curves.max(axis=(0, 2)))
        num_symmetric += int((patterns == patterns.swapaxes(1, 2)).all(axis=(1, 2)).sum())
    _, start_of_run = equal_runs(index.digest)
    sizes = np.diff(np.append(start_of_run, num))
    per_group = np.bincount(index.group)
    return DataSummary(
        axes=axes,
        fill=fill,
        energy=energy,
        cell_energy=cell_energy,
        lowest=lowest,
        highest=highest,
        num_identical=int(sizes[sizes > 1].sum()),
        num_grouped=int(per_group[per_group > 1].sum()),
        num_groups=int((per_group > 0).sum()),
        num_symmetric=num_symmetric,
    )


def summary_markdown(summary: DataSummary, store: CurveStore, findings: Sequence[str], pictures: Sequence[str]) -> str:
    """Write the summary as a page; `pictures` are file names beside it."""
    lines = ["# Data summary", "", "| file | shape | dtype | MB |", "|---|---|---|---|"]
    lines += [_file_row(path) for path in _source_files(store)]
    lines += ["", "| samples without padding | |", "|---|---|"]
    facts = {"number": f"{len(summary.fill):,}", "fill share": _spread(summary.fill)}
    facts |= _facts_of_curves(summary) if summary.cell_energy is None else _facts_of_cells(summary, summary.cell_energy)
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    if summary.cell_energy is None:
        lines += ["", f"| channel | lowest | highest | mean over the {summary.axes.name} |", "|---|---|---|---|"]
        for channel, low, high, energy in zip(
            summary.axes.channels, summary.lowest, summary.highest, summary.energy.T, strict=True
        ):
            lines.append(f"| {channel} | {low:.4g} | {high:.4g} | {_spread(energy)} |")
    else:
        lines += ["", "Power is shown positive, as it is trained on; B + 2G + R above 1 would be energy from nowhere."]
    lines += ["", "## Findings", "", *([f"- {sentence}" for sentence in findings] or ["- none"]), ""]
    for name in pictures:
        lines += [f"![{Path(name).stem}]({name})", ""]
    return "\n".join(lines)


def _facts_of_cells(summary: DataSummary, energy: NDArray[np.float64]) -> dict[str, str]:
    return {
        "symmetric about the main diagonal": f"{summary.num_symmetric:,} of {len(energy):,}",
        "identical to another pattern": f"{summary.num_identical:,}",
        "identical to another or a variant of it (of 32)": f"{summary.num_grouped:,}",
        "power in a quadrant, share of the incident": f"{summary.lowest.min():.4g} to {summary.highest.max():.4g}",
        "B + 2G + R, mean over the wavelengths": _spread(energy.mean(axis=1)),
        "B + 2G + R, largest": f"{energy.max():.4g}",
        "samples with B + 2G + R above 1": f"{int((energy > 1).any(axis=1).sum()):,}",
    }


def _facts_of_curves(summary: DataSummary) -> dict[str, str]:
    values, unit = summary.axes.values, f" {summary.axes.unit}".rstrip()
    return {
        "identical to another pattern": f"{summary.num_identical:,}",
        "groups that stay in one fold": f"{summary.num_groups:,}",
        summary.axes.name: f"{len(values)} points, {values[0]:g} to {values[-1]:g}{unit}",
    }


def sample_figure(store: CurveStore, rows: NDArray[np.int64], names: Sequence[str], axes: CurveAxes) -> Figure:
    """Draw patterns with their curves, one column a sample."""
    figure = new_figure(2.3 * len(rows), 4.4)
    places = figure.subplots(2, len(rows), squeeze=False, height_ratios=(1.25, 1))
    patterns, curves = store.pictures(rows), _curves(store, rows, axes)
    low, high = min(0.0, float(curves.min())), max(0.0, float(curves.max()))
    for column in range(len(rows)):
        _draw_pattern(places[0, column], patterns[column], names[column], with_quadrants=axes.channels == CELL_CHANNELS)
        below = places[1, column]
        for channel, label, colour in _drawn(axes):
            below.plot(axes.values, curves[column, channel], color=colour, linewidth=1.6, label=label)
        dress(below, "", _axis_label(axes), _value_label(axes) if column == 0 else "")
        below.set_ylim(low, high + 0.08 * (high - low))
    figure.legend(
        *places[1, 0].get_legend_handles_labels(), fontsize=8, frameon=False, ncols=6, loc="outside lower left"
    )
    return figure


def _draw_pattern(axes: Any, pattern: NDArray[np.uint8], name: str, with_quadrants: bool) -> None:
    side = len(pattern)
    axes.imshow(pattern, cmap="Greys", vmin=0, vmax=1.6, interpolation="nearest", extent=(0, side, side, 0))
    if with_quadrants:
        axes.axhline(side / 2, color=VERMILION, linewidth=0.6)
        axes.axvline(side / 2, color=VERMILION, linewidth=0.6)
        quadrants = zip(("B", "G", "G", "R"), ((0, 0), (1, 0), (0, 1), (1, 1)), strict=True)
        for letter, (x, y) in quadrants:
            place = (x + 0.04) * side / 2, (y + 0.16) * side / 2
            axes.text(*place, letter, color=VERMILION, fontsize=9, weight="bold")
    dress(axes, name, "", "", grid="none")
    axes.set_xticks([])
    axes.set_yticks([])


def distribution_figure(summary: DataSummary, store: CurveStore) -> Figure:
    """Draw how fill and energy are spread, and mean and spread of each channel over the axis."""
    figure, axes = new_figure(11.0, 3.2), summary.axes
    fill_axes, energy_axes, mean_axes = figure.subplots(1, 3)
    fill_axes.hist(summary.fill, bins=40, color=GREY)
    dress(fill_axes, "fill share", "share of pixels set", "samples", grid="y")
    drawn = _drawn(axes)
    if summary.cell_energy is not None:
        energy_axes.hist(summary.cell_energy.mean(axis=1), bins=40, color=GREY)
        dress(energy_axes, "B + 2G + R, mean over wavelengths", "share of the incident power", "samples", grid="y")
    else:
        bins = np.histogram_bin_edges(summary.energy, bins=40)
        for channel, label, colour in drawn:
            energy_axes.hist(
                summary.energy[:, channel], bins, histtype="step", color=colour, linewidth=1.5, label=label
            )
        dress(energy_axes, f"energy: mean of a curve over the {axes.name}", _value_label(axes), "samples", grid="y")
    # Some thousand samples show mean and spread as well as all of them.
    rows = np.arange(0, len(store), max(1, len(store) // 5000))
    sample = _curves(store, rows, axes)
    for channel, label, colour in drawn:
        curves = sample[:, channel]
        low, high = np.quantile(curves, (0.1, 0.9), axis=0)
        mean_axes.plot(axes.values, curves.mean(axis=0), color=colour, linewidth=1.8, label=label)
        mean_axes.fill_between(axes.values, low, high, color=colour, alpha=0.13, linewidth=0)
    dress(mean_axes, "mean, and 10 to 90 % of the samples", _axis_label(axes), _value_label(axes))
    mean_axes.legend(fontsize=8, frameon=False, ncols=3)
    return figure


def _curves(store: CurveStore, rows: NDArray[np.int64], axes: CurveAxes) -> NDArray[np.float64]:
    """Curves of some rows, (K, C, L)."""
    return np.asarray(store.target[rows], dtype=np.float64).reshape(len(rows), len(axes.channels), len(axes.values))


def _drawn(axes: CurveAxes) -> list[tuple[int, str, str]]:
    """Channel, label and colour of each curve that is drawn; of the two G of a cell, which are equal, one."""
    if axes.channels == CELL_CHANNELS:
        return [(CELL_CHANNELS.index(name), name[0], colour) for name, colour in _CELL_COLOURS.items()]
    return [(k, name, SERIES[k % len(SERIES)]) for k, name in enumerate(axes.channels)]


def _axis_label(axes: CurveAxes) -> str:
    return f"{axes.name}, {axes.unit}" if axes.unit else axes.name


def _value_label(axes: CurveAxes) -> str:
    return "power, share of the incident" if axes.channels == CELL_CHANNELS else "value"


def _source_files(store: CurveStore) -> list[Path]:
    """Files that a store was made of; pairs stay together."""
    key = json.loads((store.folder / "facts.json").read_text(encoding="utf-8"))["key"]
    if "files" in key:
        return [Path(stamp[0]) for stamp in key["files"]]
    return [Path(stamp[0]) for pair in zip(key["structures"], key["spectra"], strict=True) for stamp in pair]


def _file_row(path: Path) -> str:
    """Row of the table of files; shape and type are those of one array, which an archive or a table is not."""
    shape, dtype = "", ""
    if path.suffix == ".npy":
        file = open_npy(path)
        shape, dtype = str(file.shape), str(file.dtype)
    return f"| {path} | {shape} | {dtype} | {path.stat().st_size / 1e6:,.1f} |"


def _spread(values: NDArray[np.float64]) -> str:
    low, middle, high = np.quantile(values, (0.0, 0.5, 1.0))
    return f"{low:.3f} to {high:.3f}, median {middle:.3f}"
