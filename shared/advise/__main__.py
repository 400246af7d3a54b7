"""`python -m shared.advise RUN_OR_FOLDER... [--json FILE] [--start]`: what past runs say about the next one."""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from shared.advise.compare import compare
from shared.advise.records import find_records
from shared.advise.show import as_json, command_line, print_advice
from shared.advise.suggest import Suggestion, suggest
from shared.advise.verdict import judge
from shared.atomic import write_json
from shared.entry import exit_codes
from shared.errors import ConfigError


def main(arguments: Sequence[str] | None = None) -> int:
    """Give advice and, on the user's word, start the first suggestion; returns the exit code."""
    given = _parser().parse_args(arguments)
    console = Console()
    records, passed = find_records(given.runs)
    verdicts = [judge(record) for record in records]
    comparisons = compare(records)
    with Console(stderr=True).status("checking suggestions"):
        advice = suggest(verdicts, comparisons)
    print_advice(verdicts, comparisons, advice, passed, console)
    if given.json is not None:
        write_json(given.json, as_json(verdicts, comparisons, advice, passed))
    startable = next((suggestion for suggestion in advice.suggestions if suggestion.command is not None), None)
    if startable is None:
        if given.start:
            raise ConfigError("--start: there is no suggestion that can be started")
        return 0
    console.print(Text("to start the first:"))
    print(command_line(startable), flush=True)  # unwrapped, so that it can be copied
    return _start(startable) if given.start or _asked() else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m shared.advise",
        description="Judge finished, failed or running runs from their files and suggest the next ones. Reads only; "
        "nothing is started without --start or a typed y.",
    )
    parser.add_argument("runs", nargs="+", type=Path, help="run directories, folders that hold runs, or train logs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything to this file")
    parser.add_argument("--start", action="store_true", help="start the first suggestion after showing it")
    return parser


def _asked() -> bool:
    """Whether somebody at a terminal types y; nobody is asked where input or output is not one."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    try:
        return input("start it now? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _start(suggestion: Suggestion) -> int:
    """Run a suggestion in a process of its own; its exit code is ours."""
    assert suggestion.command is not None
    code = subprocess.run([sys.executable, *suggestion.command.arguments()], check=False).returncode
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    with exit_codes():
        raise SystemExit(main())
