"""Make a stand-in set of patterns and spectra: `python -m projects.spectra.make_standin OUT --samples 100000`."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from projects.spectra.standin import StandinConfig, generate_standin
from shared.standin_command import make_in

MEANINGS = {
    "num_samples": "rows over all files",
    "side_px": "height and width of a pattern",
    "sigma_px": "smoothing of the noise, in pixels",
    "thickness_um": "height of the material",
    "index_a": "refractive index at infinite wavelength",
    "index_b_um2": "dispersion: n = a + b / wavelength^2, in square micrometres",
    "distance_um": "from the mask to the plane of the pixels",
    "pitch_um": "period in x and y",
    "padding_share": "share of rows without a spectrum",
    "num_files": "pairs of files",
    "seed": "seed of everything random",
}


def build_parser() -> argparse.ArgumentParser:
    """Return the command line: one option for each field of `StandinConfig`, with its default."""
    parser = argparse.ArgumentParser(prog="python -m projects.spectra.make_standin", description=__doc__)
    parser.add_argument("out", type=Path, help="folder to fill; a half-made one is resumed")
    for field in fields(StandinConfig):
        option = "--" + field.name.removeprefix("num_").replace("_", "-")
        kind = type(field.default)
        help_text = f"{MEANINGS[field.name]} (%(default)s)"
        parser.add_argument(option, dest=field.name, type=kind, default=field.default, help=help_text)
    parser.add_argument("--workers", type=int, default=2, help="processes; the files do not depend on it (%(default)s)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = build_parser().parse_args(argv)

    def generate(on_progress: Callable[[int, int], None]) -> None:
        config = StandinConfig(**{field.name: getattr(args, field.name) for field in fields(StandinConfig)})
        generate_standin(args.out, config, workers=args.workers, on_progress=on_progress)

    return make_in(args.out, "patterns", generate)


if __name__ == "__main__":
    sys.exit(main())
