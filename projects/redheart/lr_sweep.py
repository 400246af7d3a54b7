"""`python -m projects.redheart.lr_sweep [overrides]`: the flat sweep over learning rates, before the main fit.

Every rate is a short fit from the same initial weights on the same subset; what is there already is not trained again.
`optimizer.lr_from=latest` then gives the best rate to `train`.
"""

import argparse
from pathlib import Path

from shared.entry import exit_codes

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
        "--runs", type=Path, nargs="+", default=None,
        help="train nothing: take these finished runs, for example what train -m optimizer.lr=1e-5,1e-4 left",
    )  # fmt: skip
    given = parser.parse_intermixed_args(argv)
    with exit_codes():
        from shared.callbacks.interruption import interruptible

        with interruptible():  # also between two fits, which have their own
            _sweep(given)


def _sweep(given: argparse.Namespace) -> None:
    import sys

    from rich.console import Console

    from projects.redheart.sweep import procedure
    from projects.redheart.sweep.engine_runs import composed
    from shared.config import check_config
    from shared.errors import ConfigError

    if Path(given.name).name != given.name or not given.name:
        raise ConfigError(f"--name is {given.name!r}, allowed: a plain folder name")
    if given.epochs < 1:
        raise ConfigError(f"--epochs is {given.epochs}, allowed: 1 or more")
    console = Console(file=sys.stderr)
    if given.runs is not None:
        settings = check_config(composed(given.overrides))
        folder = settings.outputs / settings.project / "sweeps" / given.name
        best = procedure.collect_runs(given.runs, folder, console)
    else:
        folder, best = procedure.run_sweep(
            given.overrides, name=given.name, rates=_rates(given.rates), epochs=given.epochs,
            num_stories=_stories(given.num_stories), console=console,
        )  # fmt: skip
    print(f"best lr: {best.lr:g} (score {best.score:.4f})")
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
