"""What the projects' `make_standin` commands share: a progress bar, one sentence on what went wrong, an exit code."""

import sys
from collections.abc import Callable
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from shared.errors import UserError


def make_in(out: Path, what: str, generate: Callable[[Callable[[int, int], None]], object]) -> int:
    """Fill a folder and say where it is.

    Args:
        out: Folder to fill.
        what: What is counted, for the progress bar.
        generate: Makes the data, given the function to tell (done, total).

    Returns:
        Exit code: 0, or that of the `UserError` that was raised; 1 if the folder cannot be written.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, transient=True) as progress:
            task = progress.add_task(what, total=None)
            generate(lambda done, total: progress.update(task, completed=done, total=total))
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except OSError as error:  # a full disk, no permission: what is written stays and the same command resumes
        print(f"{out} cannot be written ({error}).", file=sys.stderr)
        return 1
    print(f"data: {out}")
    return 0
