"""`python -m projects.redheart.ablate RUN [--retrain --epochs N]`: what each module of a finished run is worth.

Each analyzer is switched off in the trained network and its answers on the run's own test fold are compared, story by
story, with those of the whole network; with --retrain it is also trained anew without each.
"""

import argparse
import shlex
from pathlib import Path

from shared.entry import exit_codes

DEFAULT_EPOCHS = 10


def main(argv: list[str] | None = None) -> None:
    """Run the command; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m projects.redheart.ablate", description=__doc__)
    parser.add_argument("run", type=Path, help="run directory, for example outputs/redheart/latest")
    parser.add_argument("--retrain", action="store_true", help="also train without each module; found again if stopped")
    parser.add_argument("--epochs", type=int, default=None, help=f"of each retrained network ({DEFAULT_EPOCHS})")
    parser.add_argument("--draws", type=int, default=2000, help="of the bootstrap (%(default)s)")
    given = parser.parse_args(argv)
    with exit_codes():
        _ablate(given)


def _ablate(given: argparse.Namespace) -> None:
    from projects.redheart.ablation.procedure import ablate
    from shared.callbacks.interruption import interruptible
    from shared.errors import ConfigError, RunInterrupted

    if given.epochs is not None and not given.retrain:
        raise ConfigError(f"--epochs is {given.epochs} without --retrain; it is the budget of what is retrained")
    if given.draws < 100:
        raise ConfigError(f"--draws is {given.draws}, allowed: 100 or more")
    epochs = (given.epochs or DEFAULT_EPOCHS) if given.retrain else None
    if given.epochs == 0:
        raise ConfigError("--epochs is 0, allowed: 1 or more")
    again = command(given.run, epochs, given.draws)
    try:
        with interruptible():
            ablate(given.run, epochs=epochs, draws=given.draws, again=again)
    except RunInterrupted as error:
        raise RunInterrupted(error.signum, f"stopped; go on with: {again}") from error


def command(run: Path, epochs: int | None, draws: int) -> str:
    """The command that goes on; what is retrained is found again.

    Args:
        run: As given.
        epochs: Of each retrained network, None to retrain none.
        draws: Of the bootstrap.
    """
    parts = ["python", "-m", "projects.redheart.ablate", str(run), "--draws", str(draws)]
    return shlex.join([*parts, *(["--retrain", "--epochs", str(epochs)] if epochs else [])])


if __name__ == "__main__":
    main()
