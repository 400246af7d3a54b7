"""Hydra's side of the sweeps: three sweepers that go through a ledger, for any launcher."""

import importlib
import sys
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from shared.errors import ConfigError

if TYPE_CHECKING:
    from shared.sweep.planner import Planner
    from shared.sweep.settings import SweepSettings

HYDRA_PACKAGE = "hydra_plugins.sweetspot"
"""Hydra instantiates only plugins whose class says that it stands below hydra_plugins."""

GRID_SAYS = (
    "each point only fits, and its score on val decides; for whole runs with select, test and report give "
    "hydra/sweeper=basic"
)


class LedgerSweeper(Sweeper):
    """What the three have in common: settings, refusals before anything is run, and the loop.

    Args:
        given: The keys of `hydra.sweeper`; checked when the sweep begins, where an error can be told as one sentence.
    """

    kind: ClassVar[str]
    hydra_context: HydraContext
    task_function: TaskFunction
    config: DictConfig

    def __init__(self, **given: Any) -> None:
        self.given = given

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives; the launcher is made once the sweep's folder is known."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> None:
        """Run the sweep to its end.

        Args:
            arguments: Overrides as typed, without Hydra's own.

        Raises:
            SystemExit: With the exit code of an error, after its sentence is on standard error.
        """
        from shared.entry import exit_codes

        getattr(self.task_function, "begun", lambda: None)()
        with exit_codes():
            if getattr(self.task_function, "is_other_command", False):
                raise ConfigError(
                    "a sweep with a ledger trains points, which this command does not; give hydra/sweeper=basic"
                )
            self._run(arguments)

    @abstractmethod
    def parse(self, arguments: list[str], settings: Any) -> "tuple[tuple[str, ...], Planner]":
        """Split the arguments into those that are the same for every point and the planner of the rest.

        Raises:
            ConfigError: If they cannot be searched.
        """

    @abstractmethod
    def settings_type(self) -> "type[SweepSettings]":
        """The dataclass of the sweeper's settings."""

    def _run(self, arguments: list[str]) -> None:
        from rich.console import Console

        from shared.sweep.ending import finish
        from shared.sweep.loop import SweepLoop
        from shared.sweep.refusals import fixed_config, refuse_objective, refuse_points
        from shared.sweep.scoring import score_of
        from shared.sweep.search import Search
        from shared.sweep.settings import read_settings

        plain = OmegaConf.to_container(OmegaConf.create(self.given), resolve=True)
        assert isinstance(plain, dict)
        settings = read_settings(self.settings_type(), {str(key): value for key, value in plain.items()})
        refuse_objective(settings.objective)
        fixed, planner = self.parse(arguments, settings)
        primary = str(self.config.hydra.job.config_name)
        checked, fixed = fixed_config(primary, fixed, planner)
        name = settings.name or self.default_name(primary, fixed, planner)
        choices = refuse_points(primary, fixed, planner, settings)
        folder = (checked.sweeps / name).resolve()
        console = Console(stderr=True)
        direction, score_name = score_of(planner.space(), checked.runtime.monitor, checked.runtime.monitor_mode)
        search = Search.open_or_create(
            folder,
            sweeper=self.kind,
            primary=primary,
            overrides=fixed,
            settings=settings,
            direction=direction,
            score_name=score_name,
            config=checked.plain,
            say=lambda sentence: console.print(f"note: {sentence}", markup=False, soft_wrap=True),
            choices=choices,
        )
        if self.kind == "grid":
            console.print(GRID_SAYS, markup=False, soft_wrap=True)
        launcher = self._launcher(folder)
        loop = SweepLoop(search, planner, launcher.launch, type(launcher).__name__, console)
        finish(loop, console)

    def default_name(self, primary: str, fixed: tuple[str, ...], planner: "Planner") -> str:
        """Name of the folder where none is given: the same for the same search, also with more values."""
        from shared.sweep.settings import default_name

        axes: Mapping[str, Any] = getattr(planner, "axes", {})
        return default_name(self.kind, {"primary": primary, "fixed": sorted(fixed), "keys": sorted(axes)})

    def _launcher(self, folder: Path) -> Any:
        """The launcher, which keeps its own logs in the sweep's folder."""
        self.config.hydra.sweep.dir = str(folder)
        self.config.hydra.sweep.subdir = "."
        return Plugins.instance().instantiate_launcher(
            hydra_context=self.hydra_context, task_function=self.task_function, config=self.config
        )


class GridSweeper(LedgerSweeper):
    """All combinations of the values that are listed."""

    kind = "grid"

    def settings_type(self) -> "type[SweepSettings]":
        """Those that all have."""
        from shared.sweep.settings import GridSettings

        return GridSettings

    def parse(self, arguments: list[str], settings: Any) -> "tuple[tuple[str, ...], Planner]":
        """Overrides that list values are the grid."""
        from shared.sweep.grid import parse_grid

        return parse_grid(arguments, self.hydra_context.config_loader)


class HierarchicalRateSweeper(LedgerSweeper):
    """Learning rates in stages around the best so far."""

    kind = "hierarchical_lr"

    def settings_type(self) -> "type[SweepSettings]":
        """Range, points a stage, stages and key."""
        from shared.sweep.settings import RateSettings

        return RateSettings

    def default_name(self, primary: str, fixed: tuple[str, ...], planner: "Planner") -> str:
        """A project has one, unless it is named."""
        return "lr"

    def parse(self, arguments: list[str], settings: Any) -> "tuple[tuple[str, ...], Planner]":
        """No override may list values, nor set the rate itself."""
        from shared.sweep.grid import parse_grid
        from shared.sweep.lr_stages import HierarchicalRates

        fixed, grid = parse_grid(arguments, self.hydra_context.config_loader)
        if grid.axes:
            raise ConfigError(
                f"hydra/sweeper=hierarchical_lr sweeps {settings.key} alone, and {', '.join(grid.axes)} has several "
                "values; give one each, or take hydra/sweeper=grid"
            )
        if any(argument.split("=")[0].lstrip("+") == settings.key for argument in fixed):
            raise ConfigError(
                f"{settings.key} is what the sweep looks for; leave it out, or set hydra.sweeper.low and high"
            )
        planner = HierarchicalRates(
            settings.low, settings.high, settings.points_per_stage, settings.stages, settings.key
        )
        return fixed, planner


class OptunaSweeper(LedgerSweeper):
    """Points that one of Optuna's samplers proposes."""

    kind = "optuna"

    def settings_type(self) -> "type[SweepSettings]":
        """Total, batch, sampler and seed."""
        from shared.sweep.settings import OptunaSettings

        return OptunaSettings

    def parse(self, arguments: list[str], settings: Any) -> "tuple[tuple[str, ...], Planner]":
        """Overrides with intervals and choices are the space."""
        from shared.sweep.axes import parse_search
        from shared.sweep.optuna_search import OptunaPlanner

        fixed, axes = parse_search(arguments, self.hydra_context.config_loader)
        return fixed, OptunaPlanner(axes, settings.total, settings.batch, settings.sampler, settings.seed)


def register() -> None:
    """Make the sweepers known to Hydra in this process, under the package that it takes plugins from."""
    from shared.entry import CONFIG_FOLDER
    from shared.sweep.launchers import adopt_defaults

    package, _, name = HYDRA_PACKAGE.partition(".")
    sys.modules[HYDRA_PACKAGE] = sys.modules[__name__]
    setattr(importlib.import_module(package), name, sys.modules[__name__])
    for sweeper in (GridSweeper, HierarchicalRateSweeper, OptunaSweeper):
        sweeper.__module__ = HYDRA_PACKAGE
        Plugins.instance().register(sweeper)
    adopt_defaults(Path(CONFIG_FOLDER) / "launcher")
