"""Make the stand-in CT data set: `python -m projects.battery.make_standin OUT --slices 4000`."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from projects.battery.standin import StandinConfig, generate_standin
from shared.standin_command import make_in


def build_parser() -> argparse.ArgumentParser:
    """Return the command line; defaults are those of `StandinConfig`."""
    default = StandinConfig()
    parser = argparse.ArgumentParser(prog="python -m projects.battery.make_standin", description=__doc__)
    parser.add_argument("out", type=Path, help="folder to fill; a half-made one is resumed")
    parser.add_argument("--slices", type=int, default=default.num_slices, help="images in all (%(default)s)")
    parser.add_argument("--batteries", type=int, default=default.num_batteries, help="batteries in all (%(default)s)")
    parser.add_argument("--size-px", type=int, default=default.size_px, help="height and width (%(default)s)")
    parser.add_argument("--seed", type=int, default=default.seed, help="seed of everything random (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes; the files do not depend on it (%(default)s)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = build_parser().parse_args(argv)

    def generate(on_progress: Callable[[int, int], None]) -> None:
        config = StandinConfig(
            num_batteries=args.batteries, num_slices=args.slices, size_px=args.size_px, seed=args.seed
        )
        generate_standin(args.out, config, workers=args.workers, on_progress=on_progress)

    return make_in(args.out, "slices", generate)


if __name__ == "__main__":
    sys.exit(main())
