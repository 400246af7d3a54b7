"""`python -m projects.pillsnap.evaluate RUN [overrides]`: a finished run's test in detail, or on another data set."""

import argparse
from pathlib import Path

from rich.console import Console

from projects.pillsnap.evaluation.pages import verdicts
from projects.pillsnap.evaluation.procedure import EvaluationSettings, evaluate_run
from shared.entry import exit_codes
from shared.errors import ConfigError
from shared.evaluate import evaluate

_OPTIONS = {
    "base_rate": (float, "share of photos of no class that the probability of 'none of these' is stated for"),
    "accept_known": (float, "share of photos of the classes that must still be answered"),
    "batch_size": (int, "photos in one pass of the network"),
    "device": (str, "auto, cpu or cuda"),
    "draws": (int, "bootstrap draws"),
}


def main(argv: list[str] | None = None) -> None:
    """Run the command; see `--help`."""
    defaults = EvaluationSettings()
    parser = argparse.ArgumentParser(
        prog="python -m projects.pillsnap.evaluate",
        description="Without overrides: the run's own test fold in detail (domains, weak classes, stress table, open "
        "set, retrieval), written to RUN/evaluation/; a killed call goes on where it stopped. With overrides: the "
        "run's network tested on another data set, in a run directory of its own; samples that the run has used are "
        "refused.",
    )
    parser.add_argument("run", type=Path, help="run directory, for example outputs/pillsnap/latest")
    parser.add_argument("overrides", nargs="*", help="another data set, for example data.root=FOLDER")
    for name, (kind, words) in _OPTIONS.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=kind, help=f"{words} (default {getattr(defaults, name)}; own test fold only)")
    given = parser.parse_args(argv)
    options = {name: getattr(given, name) for name in _OPTIONS if getattr(given, name) is not None}
    with exit_codes():
        if given.overrides:
            if options:
                named = ", ".join(f"--{name.replace('_', '-')}" for name in options)
                raise ConfigError(
                    f"{named} are for the run's own test fold; leave them out beside {given.overrides[0]}"
                )
            print(f"run: {evaluate('pillsnap', given.run, given.overrides)}", flush=True)
            return
        folder, content = evaluate_run(given.run, EvaluationSettings(**options), Console(stderr=True))
    for sentence in verdicts(content):
        print(sentence)
    print(f"evaluation: {folder}", flush=True)


if __name__ == "__main__":
    main()
