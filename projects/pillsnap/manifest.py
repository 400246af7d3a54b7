"""Hash and describe a finished data set: `python -m projects.pillsnap.manifest DATASET`."""

import argparse
import sys
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from projects.pillsnap.chain.files import MANIFEST
from projects.pillsnap.chain.manifest import DEFAULT_AUGMENTATION, read_settings, write_manifest
from shared.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="python -m projects.pillsnap.manifest", description=__doc__)
    parser.add_argument("dataset", type=Path, help="folder of the data set, after split")
    pixels = parser.add_mutually_exclusive_group()
    pixels.add_argument(
        "--preprocessing", type=Path, help="JSON of UnifiedPreprocessor.get_config(); else its defaults"
    )
    pixels.add_argument("--size-px", type=int, help="side of the square that networks read, the rest as by default")
    parser.add_argument("--augmentation", type=Path, help="JSON object to note; else the published recipe")
    parser.add_argument("--name", default="pillsnap", help="of the data set (%(default)s)")
    parser.add_argument("--data-version", default="1.0.0", help="of the data set, for people (%(default)s)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = build_parser().parse_args(argv)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, transient=True) as progress:
            task = progress.add_task("hashing", total=None)
            outcome = write_manifest(
                args.dataset,
                preprocessing=None if args.preprocessing is None else read_settings(args.preprocessing),
                size_px=args.size_px,
                augmentation=DEFAULT_AUGMENTATION if args.augmentation is None else read_settings(args.augmentation),
                name=args.name,
                version=args.data_version,
                on_progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"{args.dataset} cannot be written ({error}).", file=sys.stderr)
        return 1
    found = outcome.manifest
    num_others = sum(part["images"] for part in found["others"].values())
    print(f"hashed: {found['total_images']:,} photos of {found['num_classes']} classes, {num_others:,} of other drugs")
    print(f"preprocessing: {found['preprocessing']['size_px']} px, digest {found['preprocessing_digest'][:12]}")
    print(f"{MANIFEST}: {', '.join(outcome.changed) or 'nothing to do'}")
    print(f"dataset: {args.dataset}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
