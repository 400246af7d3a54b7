"""What a report is laid out from: sections of words, tables and figure names, before Markdown or HTML."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cell:
    """One cell of a table: what it says, and its interval or remark in smaller type."""

    text: str
    small: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose first column names the row; `note` says what all its intervals have in common."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A heading with what stands under it; `figures` are names, and those that were not drawn are left out."""

    title: str
    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: tuple[str, ...] = ()


def facts(pairs: Sequence[tuple[str, str]], columns: tuple[str, str] = ("what", "value")) -> Table:
    """A table of names and values."""
    return Table(columns, [(Cell(name), Cell(value)) for name, value in pairs])
