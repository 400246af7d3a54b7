"""Bring studio and real photos together: `python -m projects.pillsnap.integrate DATASET --studio ROOT --real ROOT`.

Photos of one capture (one pill, one sitting) stay together in the splits. A capture is told by the file's name;
captures of one name in two classes are two captures, unless --shared-captures says that they are one sitting.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from projects.pillsnap.chain.integration import (
    IntegrationPlan,
    IntegrationSettings,
    Roots,
    plan_integration,
    shortfall_sentence,
    write_plan,
)
from projects.pillsnap.chain.materialise import Outcome
from projects.pillsnap.chain.selection import Ratio
from shared.errors import DataError, UserError

ROWS_SHOWN = 30


def build_parser() -> argparse.ArgumentParser:
    """Return the command line; defaults are those of `IntegrationSettings`."""
    default = IntegrationSettings()
    parser = argparse.ArgumentParser(prog="python -m projects.pillsnap.integrate", description=__doc__)
    parser.add_argument("dataset", type=Path, help="folder with class_mapping.json; a half-made one is completed")
    parser.add_argument(
        "--studio", type=Path, required=True, help="root of the studio photos, a folder a K-code; linked"
    )
    parser.add_argument("--real", type=Path, required=True, help="root of the real photos, a folder a K-code; copied")
    parser.add_argument("--others", type=Path, help="root of photos of drugs that are none of the classes; copied")
    parser.add_argument("--ratio", default=str(default.ratio), help="studio:real in each class (%(default)s)")
    parser.add_argument("--min-images", type=int, default=default.min_images, help="fewest a class (%(default)s)")
    parser.add_argument("--seed", type=int, default=default.seed, help="draws the captures (%(default)s)")
    parser.add_argument(
        "--capture-pattern",
        default=default.capture_pattern,
        help="regular expression on a file's name without suffix; its part 'capture' names the sitting (%(default)s)",
    )
    parser.add_argument(
        "--shared-captures",
        action="store_true",
        help="a capture's name means one sitting for all classes of a domain, whose photos then stay together",
    )
    parser.add_argument("--strict", action="store_true", help="write nothing if a class falls short (exit code 1)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = build_parser().parse_args(argv)
    try:
        settings = IntegrationSettings(
            ratio=Ratio.parse(args.ratio),
            min_images=args.min_images,
            seed=args.seed,
            capture_pattern=args.capture_pattern,
            shared_captures=args.shared_captures,
        )
        plan, outcome = _run(args.dataset, Roots(args.studio, args.real, args.others), settings, args.strict)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except OSError as error:  # a full disk, no permission: what is written stays and the same command goes on
        print(f"{args.dataset} cannot be written ({error}).", file=sys.stderr)
        return 1
    _tell(plan, outcome)
    print(f"dataset: {args.dataset}")
    return 0


def _run(dataset: Path, roots: Roots, settings: IntegrationSettings, strict: bool) -> tuple[IntegrationPlan, Outcome]:
    """Plan, then write, under a progress bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        plan = plan_integration(dataset, roots, settings, on_progress=show)
        if not (strict and plan.shortfalls):
            return plan, write_plan(plan, show)
    _shortfall_table(plan)
    raise DataError(shortfall_sentence(plan))


def _tell(plan: IntegrationPlan, outcome: Outcome) -> None:
    """Print what the data set holds, what was done, what was left out and what falls short."""
    stats = plan.stats
    for domain in ("studio", "real", "other"):
        print(f"{domain}: {stats['images'][domain]:,} photos in {stats['groups'][domain]:,} groups")
    if count := stats["photos_without_capture"]:
        print(f"captures: {count:,} file names tell no capture; each of these photos is a group by itself")
    if count := stats["byte_identical"]["photos"]:
        joined = stats["byte_identical"]["captures_joined"]
        print(f"same bytes: {count:,} photos repeat another of their class; {joined:,} captures were joined")
    for domain, skipped in stats["skipped"].items():
        for why, count in skipped["counts"].items():
            print(f"skipped in {domain}: {count:,} {why}")
        if folders := skipped["unknown_folders"]:
            print(f"unknown in {domain}: {len(folders):,} folders are no class, first {folders[0]}")
    if plan.shortfalls:
        _shortfall_table(plan)
    if outcome.nothing_to_do:
        print("nothing to do: all photos and tables are as they should be")
        return
    print(f"wrote {outcome.written:,} photos, removed {outcome.removed:,}: {'; '.join(outcome.changes) or 'restored'}")
    if outcome.changes:
        print("next: python -m projects.pillsnap.split, then manifest (made before this, they are out of date)")


def _shortfall_table(plan: IntegrationPlan) -> None:
    """Print the classes that fall short of ratio or minimum, as many as fit a screen."""
    settings = plan.stats["settings"]
    table = Table(title=f"classes short of {settings['ratio']} or of {settings['min_images']} photos")
    for column in ("class", "studio used/there", "real used/there", "photos", "short of"):
        table.add_column(column)
    for entry in plan.shortfalls[:ROWS_SHOWN]:
        used, there = entry["used"], entry["available"]
        pairs = [f"{used[domain]}/{there[domain]}" for domain in ("studio", "real")]
        table.add_row(entry["kcode"], *pairs, str(sum(used.values())), ", ".join(entry["short_of"]))
    console = Console(width=100)
    console.print(table)
    if hidden := len(plan.shortfalls) - ROWS_SHOWN:
        console.print(f"and {hidden} more, in integration_stats.json") if hidden > 0 else None


if __name__ == "__main__":
    sys.exit(main())
