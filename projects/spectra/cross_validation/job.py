"""The whole cross-validation: rounds, floors, comparison, and the directory that holds the result.

`outputs/spectra/cross_validation/<experiment>/<YYYYmmdd-HHMMSS>-<6 hex>/`: config.yaml, status.json (its parents are
the rounds' runs), cross_validation.json, cross_validation.md, predictions.npz, and in figures/ per_point.png,
samples.png and agreement.png.

cross_validation.json:

    {schema: 1, project, experiment, run, seed, config_hash, data_hash, source, n, groups, channels, axis, init_from,
     rows: {row: {r2, r2_uniform, rmse, mae, pearson, peak_shift: estimate}},
     differences: {row: {the same metrics: estimate of final minus row, paired}}, same_as_final: [row],
     per_channel: {channel: {row: estimate of r2}}, per_point: {axis, rmse: {row: [estimate]}},
     rounds: [{round, run, commit, trained, tested, fit: {epochs, steps, seconds, samples},
               rows: {row: {metric: number}}}],
     floors: {rows, trained_on, trees}, partial_rows: [row], interval_note, warnings: [sentence]}

A row is a network or baseline of the rounds ("final", "last", "nearest neighbour", ...), a floor ("floor: ..."), or
"init_as_it_is"; an estimate is {value, lo, hi, n_groups, method} as in report.json.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.console import Console

from projects.spectra.cross_validation import pages
from projects.spectra.cross_validation.comparison import compare
from projects.spectra.cross_validation.first_weights import INIT_ROW, init_as_it_is, with_fixed_origin
from projects.spectra.cross_validation.floors import NUM_TREES, TRAINED_ON, TREES_PIXELS, fit_floors
from projects.spectra.data.datamodule import CurveDataModule
from shared.atomic import write_bytes, write_json, write_text
from shared.callbacks.interruption import interruptible
from shared.config import Settings, check_config
from shared.cross_validation.pooling import Pooled, pool_rounds
from shared.cross_validation.rounds import as_yaml, check_usage, run_rounds, save_rows
from shared.errors import DataError
from shared.folds import FOLDS
from shared.instantiate import instantiate
from shared.report.evaluation import FINAL
from shared.report.figure_style import png_bytes
from shared.report.figures_curves import EXAMPLES, agreement_figure, example_rows, per_point_figure, samples_figure
from shared.report.outputs import CurveOutputs
from shared.run_dir import RunDirectory
from shared.session import progress_bars
from shared.stages.report import config_hash

SCHEMA = 1
PREDICTIONS = "predictions.npz"
EXPERIMENTS = "+experiment=deepnano, rcwa_scratch or rcwa_finetune"
INTERVAL_NOTE = (
    "Intervals (95 %) draw groups: patterns that are variants of each other, or share a geometry or image. They hold "
    "for these trained networks; another seed would add its own spread."
)


def cross_validate(config: DictConfig, overrides: tuple[str, ...] = (), quiet: bool = False) -> Path:
    """Run what is missing of the rounds, pool them, fit the floors on the same folds, and write the result.

    Args:
        config: Composed configuration of one experiment.
        overrides: Command-line overrides, kept with each round.
        quiet: Show no progress and no table.

    Returns:
        The directory of the result.

    Raises:
        UserError: One sentence on what must change; no result is written then.
    """
    check_usage(check_config(config), EXPERIMENTS)
    config = with_fixed_origin(config)
    settings = check_config(config)
    console = Console(file=sys.stderr, quiet=quiet)
    origin = _origin(settings)  # a wrong one is refused before anything is made
    runs = run_rounds(config, overrides, lambda sentence: console.print(sentence, markup=False), quiet)
    plain = settings.plain["data"] | {"cross_validation_fold": 0}
    datamodule: CurveDataModule = instantiate(plain, "data", seed=settings.seed, cache_folder=settings.paths.cache)
    pooled = pool_rounds(datamodule.index, runs, CurveOutputs, leave_out_partial=True)
    with interruptible():
        _refuse_other_target(datamodule, pooled.outputs)
        with progress_bars(console) as advance:
            floors = fit_floors(
                datamodule, pooled.round_of, settings.seed, lambda done, total: advance("floors", done, total)
            )
        if origin is not None:
            floors[INIT_ROW] = init_as_it_is(origin, datamodule)
        outputs = _with_floors(pooled.outputs, floors)
        content = build_content(settings, datamodule, pooled, outputs, runs, list(floors))
        result = write_result(settings, config, content, datamodule, pooled, outputs, runs)
    if not quiet:
        pages.print_summary(content, Console())
    return result


def _origin(settings: Settings) -> Path | None:
    origin = settings.plain["model"].get("init_from")
    return None if origin is None else RunDirectory.open(Path(str(origin))).path


def _refuse_other_target(datamodule: CurveDataModule, outputs: CurveOutputs) -> None:
    """The hash of the data is over patterns and groups: the curves are compared themselves."""
    target = np.asarray(datamodule.store.target, dtype=np.float64).reshape(outputs.target.shape)
    wrong = np.flatnonzero((target != outputs.target).any(axis=(1, 2)))
    if len(wrong):
        raise DataError(
            f"the rounds were tested on other curves than the data set has now for {len(wrong)} of {len(target)} "
            f"samples, first {datamodule.index.ids[int(wrong[0])]}; remove the rounds' runs to make them anew"
        )


def _with_floors(outputs: CurveOutputs, floors: dict[str, NDArray[np.float64]]) -> CurveOutputs:
    """The rounds' rows and the floors as one table."""
    shaped = {name: values.reshape(outputs.target.shape) for name, values in floors.items()}
    return CurveOutputs(outputs.predictions | shaped, outputs.target, outputs.rows, outputs.axes, outputs.sample_shape)


def build_content(
    settings: Settings,
    datamodule: CurveDataModule,
    pooled: Pooled[CurveOutputs],
    outputs: CurveOutputs,
    runs: list[RunDirectory],
    floors: list[str],
) -> dict[str, Any]:
    """Content of cross_validation.json but for its run's name.

    Args:
        settings: Of the command.
        datamodule: The data set.
        pooled: The rounds.
        outputs: Their rows and the floors.
        runs: The rounds' runs.
        floors: Names of the rows that are not of the rounds.
    """
    index, origin = datamodule.index, _origin(settings)
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "project": settings.project,
        "experiment": settings.experiment,
        "seed": settings.seed,
        "config_hash": config_hash(settings.plain),
        "data_hash": index.data_hash(),
        "source": index.source,
        "n": len(index),
        "groups": len(np.unique(index.group)),
        "channels": list(outputs.axes.channels),
        "axis": outputs.axes.axis_dict(),
        "init_from": None if origin is None else str(origin),
        **compare(
            outputs.predictions, outputs.target, index.group, pooled.round_of, outputs.axes, detailed=floors,
            seed=settings.seed,
        ),
        "floors": {"rows": floors, "trained_on": TRAINED_ON, "trees": NUM_TREES if TREES_PIXELS in floors else None},
        "partial_rows": list(pooled.partial),
        "interval_note": INTERVAL_NOTE,
    }  # fmt: skip
    train = FOLDS.index("train")
    for part, run, fold in zip(content["rounds"], runs, pooled.folds, strict=True):
        part |= {"run": str(run.path), "commit": _commit(run), "trained": int((fold == train).sum())}
        part["fit"] = run.done("fit")
    content["warnings"] = _warnings(content)
    return content


def _warnings(content: dict[str, Any]) -> list[str]:
    found = []
    if len({json.dumps(part["commit"]) for part in content["rounds"]}) > 1:
        found.append("The rounds were made by different states of the code; remove their runs to make them anew.")
    if content["source"] == "stand-in":
        found.append("Stand-in data: the numbers show that the machinery works and say nothing about real samples.")
    return found


def write_result(
    settings: Settings,
    config: DictConfig,
    content: dict[str, Any],
    datamodule: CurveDataModule,
    pooled: Pooled[CurveOutputs],
    outputs: CurveOutputs,
    runs: list[RunDirectory],
) -> Path:
    """Write the directory of the result; it is called done when everything stands in it."""
    folder = settings.outputs / settings.project
    result = RunDirectory.create(folder, "cross_validation", settings.experiment, [run.path for run in runs])
    content["run"] = result.path.name
    result.write_file("config.yaml", as_yaml(config))
    index = datamodule.index
    save_rows(
        result.path / PREDICTIONS, outputs,
        sample_id=np.array(index.ids.to_list()), group=index.group, round=pooled.round_of, folds=pooled.folds,
    )  # fmt: skip
    figures = _write_figures(result.path, content, datamodule, outputs)
    write_text(result.path / "cross_validation.md", pages.markdown(content, figures))
    write_json(result.path / "cross_validation.json", content)
    result.finish()
    return result.path


def _write_figures(
    folder: Path, content: dict[str, Any], datamodule: CurveDataModule, outputs: CurveOutputs
) -> dict[str, str]:
    """Draw the error along the axis, three samples and the agreement; return title -> path below the folder."""
    final, target = outputs.row(FINAL), outputs.target
    chosen = example_rows(final, target)
    pictures = datamodule.pictures(np.array(chosen))
    drawn = {
        "per_point": ("Error along the axis", per_point_figure(content["per_point"])),
        "samples": (
            "Samples with the smallest, the median and the largest error",
            samples_figure(final[chosen], target[chosen], outputs.axes, EXAMPLES, pictures),
        ),
        "agreement": ("Predicted against true", agreement_figure(final, target, outputs.axes.channels)),
    }
    paths = {}
    for name, (title, figure) in drawn.items():
        paths[title] = f"figures/{name}.png"
        write_bytes(folder / paths[title], png_bytes(figure))
    return paths


def _commit(run: RunDirectory) -> dict[str, Any]:
    """State of the code that made a run."""
    environment = json.loads((run.path / "env.json").read_text(encoding="utf-8"))
    return dict(environment["git"])
