"""The whole cross-validation: rounds, floor, comparison, and the directory that holds the result.

`outputs/<project>/cross_validation/<experiment>/<YYYYmmdd-HHMMSS>-<6 hex>/`: config.yaml, status.json (its parents are
the rounds' runs), cross_validation.json, cross_validation.md, predictions.csv, figures/roc.png.

cross_validation.json:

    {schema: 1, project, experiment, run, seed, config_hash, data_hash, n, classes,
     rows: {row: {auroc, accuracy, f1_macro, f1_positive, auroc_within_rounds: estimate}},
     differences: {row: {the same metrics: estimate of final minus row, paired}},
     rounds: [{round, run, commit, trained, tested, rows: {row: {auroc, accuracy: number}}}],
     kinds: {kind: {n, positive, rows: {row: {auroc, accuracy: estimate}}, differences: {floor: {auroc: estimate}}}},
     floor: {size_px, trees, trained_on}, literature: [{name, accuracy, source}], protocol_differences: [sentence],
     interval_note, warnings: [sentence]}

A row is a network of the rounds ("final", "last", "image_only", ...) or a floor ("floor_..."); an estimate is
{value, lo, hi, n_groups, method} as in report.json.
"""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.console import Console

from projects.battery.cross_validation import pages
from projects.battery.cross_validation.comparison import LITERATURE, compare, protocol_differences
from projects.battery.cross_validation.figure import roc_figure
from projects.battery.data.datamodule import ElpvDataModule
from projects.battery.floor import NUM_TREES, SIZE_PX, fit_floor, floor_pixels, with_metadata
from shared.atomic import replacing, write_bytes, write_json, write_text
from shared.callbacks.interruption import interruptible
from shared.config import Settings, check_config
from shared.cross_validation.pooling import Pooled, pool_rounds
from shared.cross_validation.rounds import as_yaml, check_usage, run_rounds
from shared.folds import FOLDS
from shared.instantiate import instantiate
from shared.report.figure_style import png_bytes
from shared.report.outputs import TestOutputs
from shared.run_dir import RunDirectory
from shared.sample_index import SampleIndex
from shared.session import progress_bars
from shared.stages.report import config_hash

SCHEMA = 1
FLOOR_PART = "all that the round does not test (train, val, accept, calibrate): the forest chooses nothing"
INTERVAL_NOTE = (
    "Intervals (95 %) draw images, since the set does not say which module a cell is from; cells of one module are "
    "alike, so the truth is wider. They hold for these trained networks; another seed would add its own spread."
)


def cross_validate(config: DictConfig, overrides: tuple[str, ...] = (), quiet: bool = False) -> Path:
    """Run what is missing of the rounds, pool them, fit the floor on the same folds, and write the result.

    Args:
        config: Composed configuration of one experiment.
        overrides: Command-line overrides, kept with each round.
        quiet: Show no progress and no table.

    Returns:
        The directory of the result.

    Raises:
        UserError: One sentence on what must change; no result is written then.
    """
    settings = check_config(config)
    check_usage(settings, "data=battery_elpv or +experiment=elpv_late_fusion")
    console = Console(file=sys.stderr, quiet=quiet)
    runs = run_rounds(config, overrides, lambda sentence: console.print(sentence, markup=False), quiet)
    plain = settings.plain["data"] | {"cross_validation_fold": 0}
    datamodule: ElpvDataModule = instantiate(plain, "data", seed=settings.seed, cache_folder=settings.paths.cache)
    pooled = pool_rounds(datamodule.index, runs, TestOutputs)
    with interruptible():
        floors = fit_floors(datamodule, pooled, settings.seed, console)
        content = build_content(settings, datamodule.index, pooled, floors, runs)
        result = write_result(settings, config, content, datamodule.index, pooled, floors, runs)
    if not quiet:
        pages.print_summary(content, Console())
    return result


def fit_floors(
    datamodule: ElpvDataModule, pooled: Pooled[TestOutputs], seed: int, console: Console
) -> dict[str, NDArray[np.float64]]:
    """Fit the forest in every round, on pixels and on pixels with the type; return out-of-fold probabilities (N, 2)."""
    index = datamodule.index
    with progress_bars(console) as advance:
        pixels = floor_pixels(index, datamodule.reader, lambda done, total: advance("floor: pixels", done, total))
        inputs: dict[str, NDArray[Any]] = {
            "floor_pixels": pixels,
            "floor_pixels_kind": with_metadata(pixels, index, "kind"),
        }
        floors = {name: np.full((len(index), len(index.classes)), np.nan) for name in inputs}
        for number in range(len(pooled.folds)):
            test = pooled.tested(number)
            for name, features in inputs.items():
                floors[name][test] = fit_floor(features, index.label, ~test, test, seed)
            advance("floor: forests", number + 1, len(pooled.folds))
    return floors


def build_content(
    settings: Settings,
    index: SampleIndex,
    pooled: Pooled[TestOutputs],
    floors: dict[str, NDArray[np.float64]],
    runs: list[RunDirectory],
) -> dict[str, Any]:
    """Content of cross_validation.json but for its run's name."""
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "project": settings.project,
        "experiment": settings.experiment,
        "seed": settings.seed,
        "config_hash": config_hash(settings.plain),
        "data_hash": index.data_hash(),
        "n": len(index),
        "classes": list(index.classes),
        **compare(index, pooled, floors, seed=settings.seed),
        "floor": {"size_px": SIZE_PX, "trees": NUM_TREES, "trained_on": FLOOR_PART},
        "literature": list(LITERATURE),
        "protocol_differences": protocol_differences(index),
        "interval_note": INTERVAL_NOTE,
    }
    train = FOLDS.index("train")
    for part, run, fold in zip(content["rounds"], runs, pooled.folds, strict=True):
        part |= {"run": str(run.path), "commit": _commit(run), "trained": int((fold == train).sum())}
    commits = {json.dumps(part["commit"]) for part in content["rounds"]}
    content["warnings"] = (
        ["The rounds were made by different states of the code; remove their runs to make them anew."]
        if len(commits) > 1
        else []
    )
    return content


def write_result(
    settings: Settings,
    config: DictConfig,
    content: dict[str, Any],
    index: SampleIndex,
    pooled: Pooled[TestOutputs],
    floors: dict[str, NDArray[np.float64]],
    runs: list[RunDirectory],
) -> Path:
    """Write the directory of the result; it is called done when everything stands in it."""
    outputs = settings.outputs / settings.project
    result = RunDirectory.create(outputs, "cross_validation", settings.experiment, [run.path for run in runs])
    content["run"] = result.path.name
    result.write_file("config.yaml", as_yaml(config))
    _write_predictions(result.path / "predictions.csv", index, pooled, floors)
    names = [name for name in ("final", "floor_pixels", "image_only") if name in content["rows"]]
    figure = roc_figure(pooled, floors, content["rows"], names)
    write_bytes(result.path / "figures" / "roc.png", png_bytes(figure))
    write_text(result.path / "cross_validation.md", pages.markdown(content, "figures/roc.png"))
    write_json(result.path / "cross_validation.json", content)
    result.finish()
    return result.path


def _write_predictions(
    path: Path, index: SampleIndex, pooled: Pooled[TestOutputs], floors: dict[str, NDArray[np.float64]]
) -> None:
    """One line a sample: sample_id, round, kind, label, and each row's probability of class 1 as prob_<row>."""
    probs = {**pooled.outputs.probs, **floors}
    kinds = index.meta_names["kind"]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["sample_id", "round", "kind", "label", *(f"prob_{name}" for name in probs)])
        for row, sample_id in enumerate(index.ids.to_list()):
            # 17 digits bring back the same double.
            numbers = [f"{values[row, 1]:.17g}" for values in probs.values()]
            kind = kinds[index.meta["kind"][row]]
            writer.writerow([sample_id, pooled.round_of[row], kind, index.classes[index.label[row]], *numbers])


def _commit(run: RunDirectory) -> dict[str, Any]:
    """State of the code that made a run."""
    environment = json.loads((run.path / "env.json").read_text(encoding="utf-8"))
    return dict(environment["git"])
