"""`python -m shared.sweep status|table|retry|watch|work SWEEP`: look at a sweep, take failed points up again, help."""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from shared.errors import ConfigError, RunInterrupted, UserError
from shared.sweep import show
from shared.sweep.exports import drop_best
from shared.sweep.overview import SweepReader, read_facts
from shared.sweep.sweep_file import SWEEP_FILE

LATEST = "latest"
INTERVAL_S = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one of the five; returns the exit code."""
    given = _parser().parse_args(arguments)
    folder = find_sweep(given.sweep, given.outputs, given.project)
    commands = {"status": _status, "table": _table, "retry": _retry, "watch": _watch, "work": _work}
    return commands[given.command](folder, given)


def find_sweep(named: str, outputs: Path, project: str | None) -> Path:
    """The folder that is meant: a path, or `latest` for the sweep begun last.

    Args:
        named: What was typed.
        outputs: Where `latest` is looked for.
        project: The project whose sweeps count for `latest`; None for any.

    Raises:
        ConfigError: If there is no such sweep.
    """
    if named == LATEST:
        pattern = f"{project or '*'}/sweeps/*/{SWEEP_FILE}"
        found = sorted(outputs.glob(pattern), key=lambda path: (path.stat().st_mtime_ns, path))
        if not found:
            raise ConfigError(
                f"there is no sweep below {outputs} ({pattern}); start one, or give a folder or --outputs"
            )
        return found[-1].parent
    folder = Path(named)
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; name the folder of a sweep, or {LATEST}")
    return folder


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m shared.sweep", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("sweep", help=f"the sweep's folder, or {LATEST}")
    common.add_argument("--outputs", type=Path, default=Path("outputs"), help=f"where {LATEST} is looked for")
    common.add_argument("--project", help=f"whose sweeps count for {LATEST}; without it any project's")
    status = commands.add_parser("status", parents=[common], help="counts, then one line a point; changes nothing")
    status.add_argument("--json", action="store_true", help="the same as JSON (keys: docs/sweeps.md)")
    commands.add_parser("table", parents=[common], help="points by rank; rebuilds the exports from the ledger")
    retry = commands.add_parser("retry", parents=[common], help="points that failed for good may be tried again")
    retry.add_argument("points", nargs="*", help="their ids (or the first digits) or numbers")
    retry.add_argument("--all", action="store_true", help="all that failed for good")
    watch = commands.add_parser("watch", parents=[common], help="the same live, until all is settled or Ctrl-C")
    watch.add_argument("--every", type=float, default=INTERVAL_S, metavar="S", help="seconds between two looks")
    work = commands.add_parser("work", parents=[common], help="run points on this machine until none is to be had")
    work.add_argument("--max-points", type=int, metavar="N", help="stop after so many")
    work.add_argument("--wait", action="store_true", help="stay for points still to come, until the sweep is settled")
    return parser


def _status(folder: Path, given: argparse.Namespace) -> int:
    overview = SweepReader(folder).read()
    if given.json:
        print(json.dumps(overview, indent=2, allow_nan=False))
        return 0
    for line in show.lines(overview):
        print(line)
    return 0


def _table(folder: Path, given: argparse.Namespace) -> int:
    read_facts(folder)  # before matplotlib and TensorBoard are imported
    from shared.sweep.rebuild import rebuild_exports

    try:
        written = rebuild_exports(folder)
    except OSError as error:
        raise ConfigError(f"the exports cannot be written to {folder}: {error.strerror or error}") from error
    overview = SweepReader(folder).read()
    for line in show.ranking(overview):
        print(line)
    print(f"exports: {', '.join(show.nearest(str(path)) for path in written)}")
    return 0


def _retry(folder: Path, given: argparse.Namespace) -> int:
    if bool(given.points) == given.all:
        raise ConfigError("retry needs either the points to be tried again (ids or numbers) or --all")
    reader = SweepReader(folder, writes=True)
    ids = None if given.all else [_point_named(reader.read(), name) for name in given.points]
    count = reader.ledger.retry(ids)
    print(f"{count} {'point' if count == 1 else 'points'} may be tried again")
    if count:
        drop_best(folder)
        print(f"to go on: give the sweep's command again, or python -m shared.sweep work {folder}")
    return 0


def _point_named(overview: dict[str, Any], name: str) -> str:
    """The id of the point with that number, id or beginning of an id.

    Raises:
        ConfigError: If no point or several have it, or the point has not failed for good.
    """
    points = overview["points"]
    found = [point for point in points if name == str(point["number"])] or [
        point for point in points if len(name) >= 4 and point["id"].startswith(name)
    ]
    if len(found) != 1:
        raise ConfigError(
            f"{name!r} names {len(found) or 'no'} points; give a number of status, or an id's first digits"
        )
    lease = found[0]["lease"]
    if lease is not None and lease["void"] is not None:
        raise ConfigError(f"nobody runs point {name} any more ({lease['void']}): the sweep's command goes on with it")
    if not found[0]["final"]:
        raise ConfigError(f"point {name} is {found[0]['state']}; only points that failed for good are tried again")
    return str(found[0]["id"])


def _watch(folder: Path, given: argparse.Namespace) -> int:
    if given.every <= 0:
        raise ConfigError(f"--every is {given.every:g}; a number of seconds above 0 is needed")
    reader = SweepReader(folder)
    overview = reader.read()
    try:
        with Live(show.view(overview), console=Console(), auto_refresh=False) as live:
            while not overview["finished"]:
                time.sleep(given.every)
                overview = reader.read()
                live.update(show.view(overview), refresh=True)
    except KeyboardInterrupt:  # to stop looking is no failure
        return 0
    return 0


def _work(folder: Path, given: argparse.Namespace) -> int:
    from shared.sweep.work import work

    if given.max_points is not None and given.max_points < 1:
        raise ConfigError(f"--max-points is {given.max_points}; a number from 1 on is needed")
    try:
        ran = work(folder, max_points=given.max_points, wait=given.wait, say=lambda line: print(line, flush=True))
    except KeyboardInterrupt as stop:
        raise RunInterrupted(2, "stopped before the next point was begun") from stop
    print(f"{ran} {'point' if ran == 1 else 'points'} run here")
    return 0


if __name__ == "__main__":
    try:
        code = main()
        sys.stdout.flush()
        raise SystemExit(code)
    except BrokenPipeError:  # whoever read has seen enough; what is still to be flushed goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None
    except UserError as error:  # shared.entry does the same, but takes half a second to import
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from error
