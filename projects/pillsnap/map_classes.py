"""Write class_mapping.json from a list of drugs: `python -m projects.pillsnap.map_classes DRUGS.json --out DATASET`."""

import argparse
import sys
from pathlib import Path

from projects.pillsnap.chain.class_mapping import map_classes
from projects.pillsnap.chain.files import MAPPING
from shared.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="python -m projects.pillsnap.map_classes", description=__doc__)
    parser.add_argument("drugs", type=Path, help="JSON list of objects with kcode, name, manufacturer, form, weight")
    parser.add_argument("--out", type=Path, required=True, help="folder of the data set; made where missing")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = build_parser().parse_args(argv)
    try:
        mapping = map_classes(args.drugs, args.out)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"{args.out} cannot be written ({error}).", file=sys.stderr)
        return 1
    did = "; ".join(mapping.changes) or "nothing to do"
    print(f"{MAPPING}: {len(mapping.classes)} classes, {mapping.classes[0]} to {mapping.classes[-1]}: {did}")
    print(f"dataset: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
