"""Cut a data set into folds by capture: `python -m projects.pillsnap.split DATASET`."""

import argparse
import sys
from pathlib import Path

from projects.pillsnap.chain.files import SPLITS
from projects.pillsnap.chain.splitting import DEFAULT_SHARES, SplitSummary, split
from shared.errors import ConfigError, UserError
from shared.folds import FOLDS

_DEFAULT = "/".join(f"{100 * DEFAULT_SHARES[name]:g}" for name in FOLDS)
NAMES_SHOWN = 8


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="python -m projects.pillsnap.split", description=__doc__)
    parser.add_argument("dataset", type=Path, help="folder of the data set, after integrate")
    parser.add_argument("--seed", type=int, default=0, help="which of the equally good splits is drawn (%(default)s)")
    parser.add_argument("--shares", default=_DEFAULT, help=f"percent of the groups for {'/'.join(FOLDS)} (%(default)s)")
    return parser


def parse_shares(text: str) -> dict[str, float]:
    """Read percentages of the five folds.

    Raises:
        ConfigError: They are not five numbers.

    Example:
        >>> parse_shares("80/5/3/2/10")["test"]
        0.1
    """
    try:
        percent = [float(part) for part in text.split("/")]
    except ValueError:
        percent = []
    if len(percent) != len(FOLDS):
        raise ConfigError(f"the shares are {text!r}; allowed are {len(FOLDS)} percentages such as {_DEFAULT}.")
    return {name: value / 100 for name, value in zip(FOLDS, percent, strict=True)}


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = build_parser().parse_args(argv)
    try:
        if args.seed < 0:
            raise ConfigError(f"seed is {args.seed}; allowed is 0 or more.")
        summary = split(args.dataset, seed=args.seed, shares=parse_shares(args.shares))
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"{args.dataset} cannot be written ({error}).", file=sys.stderr)
        return 1
    _tell(summary)
    print(f"dataset: {args.dataset}")
    return 0


def _tell(summary: SplitSummary) -> None:
    """Print groups and photos of each fold, and the classes that a fold lacks."""
    for name in FOLDS:
        count = summary.counts[name]
        print(
            f"{name}: {count['groups']:,} groups, {count['images']:,} photos "
            f"({count['studio']:,} studio, {count['real']:,} real)"
        )
    for name in FOLDS:
        if absent := summary.absent[name]:
            more = ", ..." if len(absent) > NAMES_SHOWN else ""
            print(f"absent from {name}: {len(absent)} classes: {', '.join(absent[:NAMES_SHOWN])}{more}")
    for part, count in summary.others.items():
        print(f"others, {part}: {count['classes']:,} classes, {count['images']:,} photos")
    print(f"stratified by {summary.splits.stratified_by}")
    print(f"{SPLITS}: written; run manifest next" if summary.changed else f"{SPLITS}: nothing to do")


if __name__ == "__main__":
    sys.exit(main())
