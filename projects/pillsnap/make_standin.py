"""Make the stand-in set of rendered pills: `python -m projects.pillsnap.make_standin OUT --classes 100`."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from projects.pillsnap.standin import StandinConfig, generate_standin
from shared.standin_command import make_in

OPTIONS = {
    "classes": ("num_classes", "drugs to tell apart"),
    "unknown": ("num_unknown_classes", "further drugs, below others/"),
    "size-px": ("size_px", "height and width"),
    "studio-sittings": ("studio_sittings", "studio sittings of each drug"),
    "studio-per-sitting": ("studio_per_sitting", "photos of a studio sitting"),
    "real-sittings": ("real_sittings", "sittings of each drug in consumer scenes"),
    "real-per-sitting": ("real_per_sitting", "photos of such a sitting"),
    "look-alike-share": ("look_alike_share", "share of the drugs in pairs that differ in their imprint only"),
    "seed": ("seed", "seed of everything random"),
}


def build_parser() -> argparse.ArgumentParser:
    """Return the command line; defaults are those of `StandinConfig`."""
    default = StandinConfig().as_dict()
    parser = argparse.ArgumentParser(prog="python -m projects.pillsnap.make_standin", description=__doc__)
    parser.add_argument("out", type=Path, help="folder to fill; a half-made one is resumed")
    for option, (key, text) in OPTIONS.items():
        kind = type(default[key])
        parser.add_argument(f"--{option}", dest=key, type=kind, default=default[key], help=f"{text} (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes; the files do not depend on it (%(default)s)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = build_parser().parse_args(argv)

    def generate(on_progress: Callable[[int, int], None]) -> None:
        config = StandinConfig(**{key: getattr(args, key) for key, _ in OPTIONS.values()})
        generate_standin(args.out, config, workers=args.workers, on_progress=on_progress)

    return make_in(args.out, "photos", generate)


if __name__ == "__main__":
    sys.exit(main())
