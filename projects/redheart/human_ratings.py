"""`python -m projects.redheart.human_ratings export|agreement`: test stories for people to rate, and what came back."""

import argparse
from pathlib import Path

from shared.entry import exit_codes


def main(argv: list[str] | None = None) -> None:
    """Run the command; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m projects.redheart.human_ratings", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="write a blinded sheet of test stories and its key")
    export.add_argument("run", type=Path, help="finished run")
    export.add_argument("--out", type=Path, required=True, help=".csv to write; the key stands beside it")
    export.add_argument("--n", type=int, default=100, help="stories, each emotion with its share (%(default)s)")
    export.add_argument("--seed", type=int, default=0, help="of the draw (%(default)s)")
    agree = commands.add_parser("agreement", help="agreement of the sheets that came back")
    agree.add_argument("key", type=Path, help="the .key.json of the export")
    agree.add_argument("ratings", type=Path, nargs="+", help="filled sheets, one a rater, two or more")
    agree.add_argument("--out", type=Path, default=None, help=".json to write (beside the key)")
    given = parser.parse_args(argv)
    with exit_codes():
        _export(given) if given.command == "export" else _agreement(given)


def _export(given: argparse.Namespace) -> None:
    from projects.redheart.people.export import export
    from projects.redheart.people.predictions import read_predictions
    from projects.redheart.people.texts import texts_of_run
    from shared.errors import DataError
    from shared.run_dir import RunDirectory

    run = RunDirectory.open(given.run.resolve())
    predictions = read_predictions(run.path)
    try:
        key, count = export(
            given.out, predictions, texts_of_run(run), num=given.n, seed=given.seed, facts={"run": run.path.name}
        )
    except OSError as error:
        raise DataError(f"{given.out} cannot be written ({error})") from error
    if count < given.n:
        print(f"the test fold has {count} stories, so the sheet holds all of them")
    print(f"sheet for the raters, {count} stories: {given.out}")
    print(f"key, which raters must not see: {key}", flush=True)


def _agreement(given: argparse.Namespace) -> None:
    from rich.console import Console

    from projects.redheart.people.agreement import agreement
    from projects.redheart.people.pages import print_agreement
    from projects.redheart.people.ratings import read_key, read_ratings
    from shared.atomic import write_json

    key = read_key(given.key)
    content = {"schema": 1, "run": key["run"], **agreement(read_ratings(given.ratings, key), key)}
    name = given.key.name.removesuffix(".json").removesuffix(".key")
    out = given.out or given.key.with_name(f"{name}.agreement.json")
    write_json(out, content)
    print_agreement(content, Console())
    print(f"agreement: {out}", flush=True)


if __name__ == "__main__":
    main()
