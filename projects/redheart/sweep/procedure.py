"""The flat sweep: a grid over the learning rate in a ledger, its points run one after the other by this process."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console

from projects.redheart.sweep.engine_runs import PRIMARY, DataNow, composed
from projects.redheart.sweep.results import read_results, refuse_older, write_results
from shared.config import Settings, check_config
from shared.entry import CONFIG_FOLDER
from shared.errors import ConfigError, TrainingError
from shared.sweep import exclusive_files
from shared.sweep.ending import finish
from shared.sweep.grid import GridPlanner
from shared.sweep.jobs import in_turn
from shared.sweep.loop import SweepLoop
from shared.sweep.refusals import fixed_config
from shared.sweep.scoring import RATE_KEY, score_of
from shared.sweep.search import Search, cut_to_subset
from shared.sweep.settings import GridSettings, SweepSettings, read_settings

RATES = (1e-5, 5e-5, 1e-4, 2e-4, 5e-4)
NUM_EPOCHS = 5
NUM_STORIES = 1000
SUBSET_KEY = "data.num_stories"
OURS = {
    "hydra.sweeper.on_change=": "--on-change ",
    " or =rerun": " or rerun",
    "hydra.sweeper.name": "--name",
}
"""What the commands without Hydra call the sweepers' settings."""


@dataclass(frozen=True)
class FlatSweep:
    """What is asked for.

    Attributes:
        overrides: As for `train`.
        name: Of the folder; the points are runs of the experiment `sweep-<name>`.
        rates: Learning rates.
        epochs: Length of each fit.
        num_stories: Size of the subset, None for all stories.
        on_change: What is done where the code has changed since the sweep began, see `SweepSettings`.
    """

    overrides: Sequence[str]
    name: str
    rates: Sequence[float] = RATES
    epochs: int = NUM_EPOCHS
    num_stories: int | None = NUM_STORIES
    on_change: str = "refuse"


def run_sweep(asked: FlatSweep, console: Console) -> tuple[Path, dict[str, Any]]:
    """Train every rate that is not there yet and write the sweep's files.

    Args:
        asked: What is asked for.
        console: Where progress and the table go.

    Returns:
        The sweep's folder `outputs/<project>/sweeps/<name>`, and of the best rate what lr_sweep_results.json says.

    Raises:
        RunInterrupted: A signal stopped a point; the same call goes on with it.
        ConfigError: The folder holds another search, or its code or data were others.
        TrainingError: A rate failed for good, other than by a loss that is not finite; or no rate has a score.
    """
    planner = GridPlanner({RATE_KEY: {f"{RATE_KEY}={rate!r}": rate for rate in check_rates(asked.rates)}})
    with _in_our_words():
        search = _opened(asked, planner, console)
    facts = {
        "name": asked.name, "num_epochs": asked.epochs, "num_stories": asked.num_stories,
        "overrides": list(asked.overrides),
    }  # fmt: skip
    try:
        finish(SweepLoop(search, planner, in_turn(search), "this command", console), console)
    except TrainingError:  # a rate without a score is a line of the results as well
        write_results(search.folder, _counting(search, planner), facts)
        raise
    write_results(search.folder, _counting(search, planner), facts)
    return search.folder, read_results(search.folder)["points"][0]


def check_rates(rates: Sequence[float]) -> list[float]:
    """Return the rates in ascending order.

    Raises:
        ConfigError: If there is none, one is not above 0, or one stands twice.
    """
    if not rates or any(not 0 < rate < 1 for rate in rates) or len(set(rates)) < len(rates):
        shown = ", ".join(f"{rate:g}" for rate in rates) or "none"
        raise ConfigError(f"--rates are {shown}; allowed are distinct numbers above 0 and below 1")
    return sorted(rates)


def _opened(asked: FlatSweep, planner: GridPlanner, console: Console) -> Search:
    checked, fixed = fixed_config(PRIMARY, tuple(asked.overrides), planner)
    folder = (checked.sweeps / asked.name).resolve()
    refuse_older(folder)
    direction, score_name = score_of(planner.space(), checked.runtime.monitor, checked.runtime.monitor_mode)
    data = DataNow(_settings_of_points(asked))
    search = Search.open_or_create(
        folder,
        sweeper="grid",
        primary=PRIMARY,
        overrides=fixed,
        settings=_sweep_settings(asked),
        direction=direction,
        score_name=score_name,
        config=checked.plain,
        say=lambda sentence: console.print(f"note: {sentence}", markup=False, soft_wrap=True),
    )
    _refuse_other_data(search, data)
    return search


def _settings_of_points(asked: FlatSweep) -> Settings:
    """Checked settings with the data that all points read."""
    config = composed(asked.overrides)
    if asked.num_stories is not None and not cut_to_subset(config, asked.num_stories, SUBSET_KEY):
        raise ConfigError(f"the data have no {SUBSET_KEY} and cannot be cut to a subset; give --num-stories all")
    return check_config(config)


def _sweep_settings(asked: FlatSweep) -> SweepSettings:
    """Those of a grid, but for what is asked for."""
    given = OmegaConf.to_container(OmegaConf.load(Path(CONFIG_FOLDER, "hydra", "sweeper", "grid.yaml")))
    assert isinstance(given, dict)
    own = {"epochs": asked.epochs, "num_samples": asked.num_stories, "on_change": asked.on_change}
    return read_settings(GridSettings, {str(key): given[key] for key in given if key != "_target_"} | own)


def _refuse_other_data(search: Search, data: DataNow) -> None:
    """Compare the data with those of the first point: where all points are done, no point would.

    Raises:
        ConfigError: They have changed.
    """
    path = search.folder / f"data.{search.generation}.json"
    there = (exclusive_files.read(path) or {}) if path.is_file() else {}
    changed = data.differs_in(there)
    if changed and search.settings["on_change"] != "keep":
        raise ConfigError(
            f"the data are not those that {path} tells of ({', '.join(changed)} differ): give another --name"
        )


def _counting(search: Search, planner: GridPlanner) -> list[Any]:
    return [view for view in search.ledger().points() if planner.contains(view.values)]


@contextmanager
def _in_our_words() -> Iterator[None]:
    """Name the options of our commands where a sentence names those of Hydra's sweepers."""
    try:
        yield
    except ConfigError as error:
        said = str(error)
        for theirs, ours in OURS.items():
            said = said.replace(theirs, ours)
        raise ConfigError(said) from error
