"""Measured values as a table on the screen and as rows of `history.csv`, which is kept with its history."""

import argparse
import csv
import io
import math
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from shared.atomic import write_text
from shared.environment import git_state
from shared.errors import DataError

HISTORY = Path(__file__).with_name("history.csv")
COLUMNS = ("date", "commit", "benchmark", "what", "value", "unit", "spread", "machine", "command")


@dataclass(frozen=True)
class Measurement:
    """One value.

    Attributes:
        what: What was measured, in words.
        value: The value, or the median of several.
        unit: Its unit; "ratio" for a quotient of two measurements of the same run.
        spread: Distance between the quartiles of the repeated measurements; None where it was measured once.
    """

    what: str
    value: float
    unit: str
    spread: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value) or (self.spread is not None and not math.isfinite(self.spread)):
            raise ValueError(f"{self.what!r} is {self.value} with spread {self.spread}; both must be finite")


class Record:
    """The measurements of one benchmark.

    Args:
        benchmark: Name of its module below `bench`, without the package.
        history: File that `append` extends.
    """

    def __init__(self, benchmark: str, history: Path = HISTORY) -> None:
        self.benchmark = benchmark
        self.history = history
        self.measurements: list[Measurement] = []
        self.machine = describe_machine()  # now, so that the load is that of the others and not the benchmark's own

    def add(self, what: str, value: float, unit: str) -> None:
        """Keep a value that was measured once."""
        self.measurements.append(Measurement(what, float(value), unit))

    def add_samples(self, what: str, values: Sequence[float], unit: str) -> None:
        """Keep the median of repeated measurements and the distance between their quartiles."""
        low, middle, high = np.percentile(np.asarray(values, dtype=np.float64), (25, 50, 75))
        self.measurements.append(Measurement(what, float(middle), unit, float(high - low)))

    def table(self) -> str:
        """The measurements as aligned text, under a line that names the benchmark, the machine and its load."""
        width = max((len(m.what) for m in self.measurements), default=0)
        lines = [f"{self.benchmark} on {self.machine}"]
        for m in self.measurements:
            spread = "" if m.spread is None else f"  (quartiles {plain_number(m.spread)} apart)"
            lines.append(f"  {m.what:<{width}}  {plain_number(m.value):>9} {m.unit}{spread}")
        return "\n".join(lines)

    def append(self) -> None:
        """Add one row for each measurement to the history.

        Raises:
            DataError: If the file's columns are others; it is then left alone.
        """
        header = ",".join(COLUMNS) + "\n"
        old = self.history.read_text(encoding="utf-8") if self.history.exists() else header
        if not old.startswith(header):
            found = old.splitlines()[0] if old else "an empty file"
            raise DataError(f"{self.history.name} begins with {found!r}; its columns must be {', '.join(COLUMNS)}")
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        date, commit = datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"), describe_commit()
        for m in self.measurements:
            spread = "" if m.spread is None else plain_number(m.spread)
            command = f"python -m bench.{self.benchmark}"
            writer.writerow(
                (date, commit, self.benchmark, m.what, plain_number(m.value), m.unit, spread, self.machine, command)
            )
        write_text(self.history, old + ("" if old.endswith("\n") else "\n") + text.getvalue())


def run_benchmark(
    benchmark: str, measure: Callable[[Record], None], arguments: Sequence[str] | None = None, history: Path = HISTORY
) -> Record:
    """Carry out one benchmark from the command line: measure, print, and append to the history.

    Args:
        benchmark: As for `Record`.
        measure: Fills the record.
        arguments: Command line; None: that of the process. `--no-record` only prints.
        history: As for `Record`.
    """
    parser = argparse.ArgumentParser(prog=f"python -m bench.{benchmark}")
    parser.add_argument("--no-record", action="store_true", help=f"print only, leave {history.name} alone")
    options = parser.parse_args(arguments)
    record = Record(benchmark, history)
    measure(record)
    print(record.table(), flush=True)
    if not options.no_record:
        record.append()
    return record


def describe_machine() -> str:
    """Cores, architecture and present load average; no names, since the history is public."""
    return f"{len(os.sched_getaffinity(0))} cores {platform.machine()}, load {os.getloadavg()[0]:.1f}"


def describe_commit() -> str:
    """Short hash of the commit, marked where tracked files differ from it; "none" outside a repository."""
    state = git_state(HISTORY.parent)
    if state["commit"] is None:
        return "none"
    return str(state["commit"])[:10] + (" with changes" if state["dirty"] else "")


def plain_number(value: float) -> str:
    """Four significant digits without an exponent.

    Example:
        >>> plain_number(123456.7), plain_number(0.0123456), plain_number(2.0)
        ('123500', '0.01235', '2')
    """
    return np.format_float_positional(value, precision=4, unique=False, fractional=False, trim="-")
