"""The network trained anew without each module, with the same budget and seed, and the reference with all of them."""

from collections.abc import Callable, Iterator, Sequence

from omegaconf import DictConfig, OmegaConf

from projects.redheart.ablation.answers import StoryAnswers
from projects.redheart.ablation.opened_run import answer_test, open_run
from projects.redheart.sweep.engine_runs import run_once
from shared.base_data import Progress
from shared.errors import ConfigError
from shared.loading import LoadedRun

ALL = "all"
KEPT_CALLBACKS = ("progress",)

Say = Callable[[str], None]


def retrain_config(loaded: LoadedRun, without: str | None, epochs: int) -> DictConfig:
    """The run's own configuration without one module, at another budget.

    Early stopping, snapshots and averages are off: every network gets the same number of steps, and the best epoch on
    val is tested.

    Args:
        loaded: The run.
        without: Module to leave out, None for none.
        epochs: Budget of each fit.

    Raises:
        ConfigError: If the run's model has no `without`, or is itself without a module.
    """
    plain = loaded.settings.plain
    model = plain["model"]
    if model.get("without", None) is None:
        raise ConfigError(f"the model of {loaded.run.path} has no list model.without; --retrain needs it")
    if model["without"]:
        raise ConfigError(
            f"model.without of {loaded.run.path} is {', '.join(model['without'])}; ablate a run with all modules"
        )
    experiment = f"{plain['experiment']}-ablation{epochs}-" + (f"without-{without}" if without else ALL)
    optimizer = dict(plain["optimizer"])
    if "lr_from" in optimizer:  # the rate itself was written down when the run began
        optimizer["lr_from"] = None
    return OmegaConf.create(
        plain
        | {
            "experiment": experiment,
            "stages": ["fit", "test"],
            "resume": None,
            "model": model | {"without": [without] if without else []},
            "optimizer": optimizer,
            "trainer": plain["trainer"] | {"max_epochs": epochs},
            "callbacks": {name: node for name, node in plain["callbacks"].items() if name in KEPT_CALLBACKS},
        }
    )


def retrained_answers(
    loaded: LoadedRun, modules: Sequence[str], epochs: int, say: Say, progress: Progress, *, quiet: bool, again: str
) -> Iterator[tuple[str, str, StoryAnswers]]:
    """Train what is not there yet and yield (module or "all", run directory, answers on the test fold), "all" first.

    Args:
        loaded: The run whose configuration is taken.
        modules: To leave out, one at a time.
        epochs: Budget of each fit.
        say: Told what begins.
        progress: Shown while a test fold is read.
        quiet: Show nothing of the fits.
        again: How the command is given again.

    Raises:
        RunInterrupted: A signal stopped a fit; the same call goes on with it.
        UserError: What a run raises; ConfigError where a fit diverged.
    """
    for number, name in enumerate([ALL, *modules]):
        say(f"retraining {number + 1} of {len(modules) + 1}: " + ("all modules" if name == ALL else f"without {name}"))
        config = retrain_config(loaded, None if name == ALL else name, epochs)
        made = run_once(config, [f"model.without=[{'' if name == ALL else name}]"], quiet=quiet, again=again)
        if made.failure is not None:
            raise ConfigError(f"the fit in {made.run.path} failed: {made.failure}")
        say(f"  {'done before' if made.found else 'done'}: {made.run.path}")
        yield name, str(made.run.path), answer_test(open_run(made.run.path, progress))
