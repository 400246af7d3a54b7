"""`python -m projects.redheart.lr_sweep [overrides]`: the flat sweep over learning rates, before the main fit.

Every rate is a short fit from the same initial weights on the same subset. The sweep is a folder with a ledger, as
docs/sweeps.md tells: given again, the command goes on where it was. `optimizer.lr_from=latest` then gives the best rate
to `train`.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shared.entry import exit_codes

if TYPE_CHECKING:
    from rich.console import Console

EPOCHS = 5
RATES = "1e-5,5e-5,1e-4,2e-4,5e-4"


def main(argv: list[str] | None = None) -> None:
    """Run the command; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m projects.redheart.lr_sweep", description=__doc__)
    parser.add_argument("overrides", nargs="*", help="as for train, for example model=redheart_base")
    parser.add_argument("--name", default="flat", help="folder below outputs/redheart/sweeps (%(default)s)")
    parser.add_argument("--rates", default=RATES, help="separated by commas (%(default)s)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of each fit (%(default)s)")
    parser.add_argument("--num-stories", default="1000", help="size of the subset, or all (%(default)s)")
    parser.add_argument(
        "--on-change", choices=("refuse", "keep", "rerun"), default="refuse",
        help="where the code has changed since the sweep began: keep results, or rerun all rates (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--runs", type=Path, nargs="+", default=None,
        help="train nothing: take these finished runs, for example what train -m optimizer.lr=1e-5,1e-4 left",
    )  # fmt: skip
    given = parser.parse_intermixed_args(argv)
    with exit_codes():
        from shared.sweep.point_process import stoppable

        with stoppable():  # also before the first point and behind the last
            _sweep(given)


def _sweep(given: argparse.Namespace) -> None:
    import sys

    from rich.console import Console

    from projects.redheart.sweep.procedure import FlatSweep, run_sweep
    from shared.errors import ConfigError

    if Path(given.name).name != given.name or not given.name:
        raise ConfigError(f"--name is {given.name!r}, allowed: a plain folder name")
    if given.epochs < 1:
        raise ConfigError(f"--epochs is {given.epochs}, allowed: 1 or more")
    console = Console(file=sys.stderr)
    if given.runs is not None:
        _collect(given, console)
        return
    asked = FlatSweep(
        given.overrides, given.name, _rates(given.rates), given.epochs, _stories(given.num_stories), given.on_change
    )
    run_sweep(asked, console)


def _collect(given: argparse.Namespace, console: "Console") -> None:
    """The sweep of --runs."""
    from projects.redheart.sweep.collected import collect_runs
    from projects.redheart.sweep.engine_runs import composed
    from shared.config import check_config

    folder = check_config(composed(given.overrides)).sweeps / given.name
    best = collect_runs(given.runs, folder, console)
    values = " ".join(f"{key}={value:g}" for key, value in best.values.items())
    print(f"best: {values} score {best.score:.6g}")
    print(f"sweep: {folder}", flush=True)


def _rates(text: str) -> list[float]:
    from shared.errors import ConfigError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--rates is {text!r}, allowed: numbers separated by commas, as {RATES}") from error


def _stories(text: str) -> int | None:
    from shared.errors import ConfigError

    if text == "all":
        return None
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"--num-stories is {text!r}, allowed: all, or a whole number from 1 on")
    return int(text)


if __name__ == "__main__":
    main()
