"""Make the stand-in stories: `python -m projects.redheart.make_standin OUT --stories 1500`."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from projects.redheart.standin import StandinConfig, generate_standin
from shared.standin_command import make_in


def build_parser() -> argparse.ArgumentParser:
    """Return the command line; defaults are those of `StandinConfig`."""
    default = StandinConfig()
    parser = argparse.ArgumentParser(prog="python -m projects.redheart.make_standin", description=__doc__)
    parser.add_argument("out", type=Path, help="folder to fill")
    parser.add_argument("--stories", type=int, default=default.num_stories, help="stories in all (%(default)s)")
    parser.add_argument(
        "--near-duplicates", type=float, default=default.near_duplicate_share, help="share of copies (%(default)s)"
    )
    parser.add_argument(
        "--label-noise", type=float, default=default.label_noise, help="share of labels drawn at random (%(default)s)"
    )
    parser.add_argument(
        "--subjects", type=int, default=default.num_subjects, help="people with ratings; 0: none (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=default.seed, help="seed of everything random (%(default)s)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = build_parser().parse_args(argv)

    def generate(on_progress: Callable[[int, int], None]) -> None:
        config = StandinConfig(
            num_stories=args.stories,
            seed=args.seed,
            near_duplicate_share=args.near_duplicates,
            label_noise=args.label_noise,
            num_subjects=args.subjects,
        )
        generate_standin(args.out, config, on_progress=on_progress)

    return make_in(args.out, "stories", generate)


if __name__ == "__main__":
    sys.exit(main())
