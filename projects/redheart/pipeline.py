"""`python -m projects.redheart.pipeline [--out NAME] [overrides]`: from stories to paper tables with one command.

Steps: data (or, with --input, their preparation), learning-rate sweep, main fit with all its stages, ablation, paper.
Each is skipped when its result is there for the same inputs, so the same command goes on where it was stopped.
"""

import argparse
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.entry import exit_codes

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from rich.console import Console

    from projects.redheart.sweep.steps import Steps
    from shared.config import Settings

STATE_FILE = "pipeline.json"
WHOLE_RANGE = (0.0, 1.0)
SWEEP = {"epochs": 5, "num_stories": 1000}


def main(argv: list[str] | None = None) -> None:
    """Run the command; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m projects.redheart.pipeline", description=__doc__)
    parser.add_argument("overrides", nargs="*", help="as for train, for example model=redheart_base")
    parser.add_argument("--out", default="default", help="name below outputs/redheart/pipeline (%(default)s)")
    parser.add_argument("--input", type=Path, default=None, help="stories.json to prepare (the configured data set)")
    parser.add_argument("--subjects", type=Path, help="with --input: CSV of ratings, as for prepare_data")
    parser.add_argument(
        "--bentham-range", type=float, nargs=2, default=WHOLE_RANGE, metavar=("LOW", "HIGH"),
        help="with --input: lowest and highest Bentham score in the file, as for prepare_data",
    )  # fmt: skip
    parser.add_argument("--sweep-epochs", type=int, default=SWEEP["epochs"], help="of each rate (%(default)s)")
    parser.add_argument("--sweep-stories", type=int, default=SWEEP["num_stories"], help="of the subset (%(default)s)")
    parser.add_argument(
        "--on-change", choices=("refuse", "keep", "rerun"), default="refuse",
        help="where the code has changed in the middle of the sweep: keep results, or rerun all rates (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--retrain-epochs", type=int, default=None, help="also ablate by retraining, so many epochs")
    given = parser.parse_intermixed_args(argv)
    with exit_codes():
        print(f"paper: {run_pipeline(given)}", flush=True)


def run_pipeline(given: argparse.Namespace, quiet: bool = False) -> Path:
    """Do what is not done yet.

    Args:
        given: Parsed arguments.
        quiet: Show no progress.

    Returns:
        Folder of the paper.

    Raises:
        RunInterrupted: A signal stopped it; the message says how to go on.
        UserError: What a step raises.
    """
    from rich.console import Console

    from projects.redheart.sweep.engine_runs import composed
    from projects.redheart.sweep.steps import Steps
    from shared.callbacks.interruption import interruptible
    from shared.config import check_config
    from shared.errors import ConfigError, RunInterrupted

    if Path(given.out).name != given.out or not given.out:
        raise ConfigError(f"--out is {given.out!r}, allowed: a plain folder name")
    if given.input is None and (given.subjects is not None or tuple(given.bentham_range) != WHOLE_RANGE):
        raise ConfigError("--subjects and --bentham-range are given without --input; they say how its file is prepared")
    console = Console(stderr=True, quiet=quiet)
    again = command(given)
    base = check_config(composed(given.overrides))
    folder = base.outputs / base.project / "pipeline" / given.out
    try:
        with interruptible():
            return _steps(given, Steps(folder / STATE_FILE), folder, console, again)
    except RunInterrupted as error:
        raise RunInterrupted(error.signum, f"stopped; go on with: {again}") from error


def command(given: argparse.Namespace) -> str:
    """The command that goes on."""
    parts = ["python", "-m", "projects.redheart.pipeline", "--out", given.out]
    if given.input is not None:
        parts += ["--input", str(given.input), "--bentham-range", *map(str, given.bentham_range)]
    if given.subjects is not None:
        parts += ["--subjects", str(given.subjects)]
    parts += ["--sweep-epochs", str(given.sweep_epochs), "--sweep-stories", str(given.sweep_stories)]
    if given.on_change != "refuse":
        parts += ["--on-change", given.on_change]
    if given.retrain_epochs is not None:
        parts += ["--retrain-epochs", str(given.retrain_epochs)]
    return shlex.join([*parts, *given.overrides])


def _steps(given: argparse.Namespace, steps: "Steps", folder: Path, console: "Console", again: str) -> Path:
    from projects.redheart.sweep.engine_runs import composed, plain_of
    from shared.config import check_config

    def say(sentence: str) -> None:
        console.print(sentence, markup=False)

    overrides = [*given.overrides, *_prepared(given, steps, folder / "stories", console, say)]
    config = composed(overrides)
    settings = check_config(config)
    data = steps.run(
        "data", {"data": plain_of(config)["data"], "files": _files(config)}, lambda: _data(settings, console),
        lambda _: True, say,
    )  # fmt: skip
    say(f"  {data['source']}, train {data['train']:,} stories, test {data['test']:,}")
    # Configurations name a folder, not what is in it: every later step depends on its content as well.
    seen = {"fingerprint": data["fingerprint"]}
    inputs = {"config": _counted(config), "epochs": given.sweep_epochs, "stories": given.sweep_stories} | seen
    swept = steps.run(
        "sweep", inputs, lambda: _sweep(given, overrides, sweep_name(given.out, inputs), console),
        lambda result: Path(result["folder"], "optimal_lr.json").is_file(), say,
    )  # fmt: skip
    # The sweep and not its rate, so that the run's config.yaml says where the rate came from.
    fit_overrides = [*overrides, override("optimizer.lr_from", swept["folder"])]
    fitted_config = composed(fit_overrides)
    say("  " + estimate(fitted_config, data["train"], swept["seconds_per_sample"]))
    fitted = steps.run(
        "fit", {"config": _counted(fitted_config), "lr": swept["lr"]} | seen,
        lambda: _fit(fitted_config, fit_overrides, console, again),
        lambda result: Path(result["run"], "report.json").is_file(), say,
    )  # fmt: skip
    say(f"  run: {fitted['run']}")
    return _after_fit(given, steps, folder, (data, swept, fitted), console, again)


def _prepared(
    given: argparse.Namespace, steps: "Steps", root: Path, console: "Console", say: Callable[[str], None]
) -> list[str]:
    """Overrides that name the stories of --input, prepared; none without it."""
    if given.input is None:
        return []
    subjects = None if given.subjects is None else _stamp(given.subjects, "--subjects")
    stamp = _stamp(given.input, "--input")
    inputs = {"input": stamp, "subjects": subjects, "bentham_range": list(given.bentham_range)}
    prepared = steps.run(
        "prepare", inputs, lambda: _prepare(given, root, console),
        lambda result: Path(result["root"], "quality.json").is_file(), say,
    )  # fmt: skip
    return ["data=redheart_stories", override("data.root", prepared["root"])]


def override(key: str, value: str) -> str:
    """An override whose value Hydra reads as this text, whatever signs are in it.

    Example:
        >>> override("data.root", "my stories (2)")
        "data.root='my stories (2)'"
    """
    return f"{key}='" + value.replace("'", "\\'") + "'"


def _after_fit(
    given: argparse.Namespace, steps: "Steps", folder: Path, results: tuple[dict[str, Any], ...],
    console: "Console", again: str,
) -> Path:  # fmt: skip
    """Ablation and paper of the fitted run."""

    def say(sentence: str) -> None:
        console.print(sentence, markup=False)

    data, swept, fitted = results
    seen = {"run": fitted, "retrain": given.retrain_epochs, "fingerprint": data["fingerprint"]}
    run = Path(fitted["run"])
    steps.run(
        "ablate", seen,
        lambda: _ablate(run, given.retrain_epochs, console, again),
        lambda result: Path(result["file"]).is_file(), say,
    )  # fmt: skip
    paper = steps.run(
        "paper", seen | {"sweep": swept},
        lambda: _paper(run, Path(swept["folder"]), folder / "paper"),
        lambda result: Path(result["folder"], "main.tex").is_file(), say,
    )  # fmt: skip
    return Path(paper["folder"])


def _stamp(path: Path, option: str) -> dict[str, Any]:
    """What tells one state of an input file from another."""
    import hashlib

    from shared.errors import DataError

    try:
        return {"path": str(path.resolve()), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    except OSError as error:
        raise DataError(f"{option} {path} cannot be read ({error})") from error


def _files(config: "DictConfig") -> dict[str, str]:
    """What is in the data folder now; stand-in stories follow from the configuration."""
    from projects.redheart.data.fingerprint import stamps

    root = config.data.get("root")
    return {} if root is None else stamps(Path(root))


def _counted(config: "DictConfig") -> dict[str, Any]:
    """The configuration without what changes no result."""
    from projects.redheart.sweep.engine_runs import plain_of

    return {key: value for key, value in plain_of(config).items() if key not in ("paths", "resume", "logger")}


def _prepare(given: argparse.Namespace, root: Path, console: "Console") -> dict[str, Any]:
    """Near-duplicates leave and the folds are cut; the step `data` embeds."""
    from projects.redheart.data.prepared import PrepareOptions, prepare
    from shared.session import progress_bars

    with progress_bars(console) as advance:
        options = PrepareOptions(bentham_range=tuple(given.bentham_range))
        prepare(given.input, root, options, subjects=given.subjects, on_progress=advance)
    return {"root": str(root)}


def _data(settings: "Settings", console: "Console") -> dict[str, Any]:
    """Make or read the data, so that later steps find stand-in and embeddings there."""
    from shared.instantiate import instantiate
    from shared.session import progress_bars

    datamodule = instantiate(settings.plain["data"], "data", seed=settings.seed, cache_folder=settings.paths.cache)
    with progress_bars(console) as datamodule.progress:
        described = datamodule.describe()
    folds = described["folds"]
    counts = {fold: folds[fold]["n"] for fold in ("train", "test")}
    return {"source": described["source"], **counts, "fingerprint": described["fingerprint"]}


def sweep_name(out: str, inputs: Mapping[str, Any]) -> str:
    """Name of the sweep's folder: another one for other inputs, since the points of two searches share no folder."""
    from projects.redheart.sweep.steps import hash_of

    return f"{out}-{hash_of(inputs)[:6]}"


def _sweep(given: argparse.Namespace, overrides: list[str], name: str, console: "Console") -> dict[str, Any]:
    from projects.redheart.sweep.procedure import FlatSweep, run_sweep
    from projects.redheart.sweep.results import seconds_per_sample

    asked = FlatSweep(
        overrides, name, epochs=given.sweep_epochs, num_stories=given.sweep_stories, on_change=given.on_change
    )
    folder, best = run_sweep(asked, console)
    seconds = seconds_per_sample(folder)
    return {"folder": str(folder), "lr": best["lr"], "score": best["score"], "seconds_per_sample": seconds}


def estimate(config: "DictConfig", num_train: int, seconds_per_sample: float | None) -> str:
    """How long the main fit will take, by the sweep's own times.

    Args:
        config: Of the main fit.
        num_train: Stories of the train fold: steps count these, not all stories.
        seconds_per_sample: What the sweep took for one with its share of validation, None where it was not timed.
    """
    from projects.redheart.sweep.steps import duration

    batch, rows = int(config.data.batch_size), int(config.model.micro_batch)
    steps, epochs = max(1, num_train // batch), int(config.trainer.max_epochs)
    passes = steps * -(-batch // rows)
    counted = (
        f"main fit: {epochs} epochs of {steps} steps, {passes} micro-batches of {rows} each (train fold: {num_train:,})"
    )
    if seconds_per_sample is None:
        return f"{counted}; no time could be measured"
    seconds = epochs * steps * batch * seconds_per_sample
    return f"{counted}; about {duration(seconds)} by the sweep's {1000 * seconds_per_sample:.3g} ms a story"


def _fit(config: "DictConfig", overrides: list[str], console: "Console", again: str) -> dict[str, Any]:
    from projects.redheart.sweep.engine_runs import run_once
    from shared.errors import TrainingError

    made = run_once(config, overrides, quiet=console.quiet, again=again)
    if made.failure is not None:
        raise TrainingError(made.failure)
    return {"run": str(made.run.path)}


def _ablate(run: Path, retrain_epochs: int | None, console: "Console", again: str) -> dict[str, Any]:
    from projects.redheart.ablation.procedure import FOLDER, ablate

    ablate(run, epochs=retrain_epochs, quiet=console.quiet, again=again)
    return {"file": str(run / FOLDER / "ablation.json")}


def _paper(run: Path, sweep: Path, out: Path) -> dict[str, Any]:
    from projects.redheart.paper.sources import read_sources
    from projects.redheart.paper.write import write_paper

    write_paper(out, read_sources([run], sweep))
    return {"folder": str(out)}


if __name__ == "__main__":
    main()
