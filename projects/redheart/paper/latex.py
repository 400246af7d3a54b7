"""Plain text and tables as LaTeX that needs only booktabs, graphicx and longtable, and the same tables as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "\u00b1": r"$\pm$", "\u2013": "--", "\u2014": "---",
    "\u00d7": r"$\times$", "\u2264": r"$\leq$", "\u2265": r"$\geq$", "\u00b7": r"$\cdot$", "\u2026": r"\ldots{}",
    "\u2019": "'", "\u2212": r"$-$", "\u03b1": r"$\alpha$", "\u03b4": r"$\delta$", "\u03bb": r"$\lambda$",
}  # fmt: skip

Cell = str | int | float | Mapping[str, Any] | None
"""Text, a number, an estimate {value, lo, hi, ...}, or None where there is nothing."""

TEXT, NUMBER, ESTIMATE = "text", "number", "estimate"
INTERVALS = "95 % intervals by group in brackets."


def escape(text: str) -> str:
    r"""Return text as LaTeX shows it; line breaks become spaces, a letter outside Latin-1 is named by its code point.

    Example:
        >>> escape("50 % of a_b")
        '50 \\\\% of a\\\\_b'
    """
    return "".join(_SPECIAL.get(letter) or _plain(letter) for letter in " ".join(text.split()))


def _plain(letter: str) -> str:
    if letter.isprintable() and ord(letter) < 256:  # what inputenc's utf8 knows with the T1 fonts
        return letter
    return f"[U+{ord(letter):04X}]"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: Heading.
        kind: TEXT, NUMBER or ESTIMATE.
        digits: Behind the point.
    """

    name: str
    kind: str = TEXT
    digits: int = 3


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: File name without ending: lower case, digits, underscores.
        caption: Plain text.
        columns: Its columns.
        rows: One cell for each column.
        wide: Whether it is scaled to the width of the line.
        printed: What LaTeX shows in place of it, where the table itself is too long to print; the CSV is of the table.
        long: Whether it may run over several pages; it is then not scaled.

    Raises:
        ValueError: If a row has another number of cells than there are columns, or a long table is wide.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: Sequence[Sequence[Cell]]
    wide: bool = False
    printed: "Table | None" = None
    long: bool = False

    def __post_init__(self) -> None:
        if self.long and self.wide:
            raise ValueError(f"{self.name} is long and wide; a table over several pages cannot be scaled")
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {self.name} has {len(row)} cells; {len(self.columns)} are needed")


def table_latex(table: Table, label: str) -> str:
    """The table with booktabs rules: as a float, or over several pages where it is long.

    Args:
        table: The table; what it says is `printed` is shown in its place.
        label: Its label behind "tab:".
    """
    table = table.printed or table
    alignment = "".join("l" if column.kind == TEXT else "r" for column in table.columns)
    head = " & ".join(escape(column.name) for column in table.columns) + r" \\"
    body = [
        " & ".join(_latex_cell(cell, column) for cell, column in zip(row, table.columns, strict=True)) + r" \\"
        for row in table.rows
    ]
    caption, mark = rf"\caption{{{escape(table.caption)}}}", rf"\label{{tab:{label}}}"
    lines = _over_pages(alignment, head, body, caption + mark) if table.long else [
        r"\begin{table}[htbp]", r"\centering", caption, mark, r"\small",
        *([r"\resizebox{\linewidth}{!}{%"] if table.wide else []),
        rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule",
        r"\end{tabular}" + ("}" if table.wide else ""),
        r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _over_pages(alignment: str, head: str, body: list[str], caption: str) -> list[str]:
    """Lines of a longtable whose heading comes again on each page."""
    return [
        r"\begingroup", r"\footnotesize", r"\setlength{\tabcolsep}{4pt}",
        rf"\begin{{longtable}}{{{alignment}}}", caption + r" \\",
        r"\toprule", head, r"\midrule", r"\endfirsthead", r"\toprule", head, r"\midrule", r"\endhead",
        r"\bottomrule", r"\endfoot", *body, r"\end{longtable}", r"\endgroup",
    ]  # fmt: skip


def _latex_cell(cell: Cell, column: Column) -> str:
    if isinstance(cell, str):
        # An opening bracket in the first cell would be read as the optional argument of the line break before it.
        return "{}" + escape(cell) if cell.startswith("[") else escape(cell)
    return escape(shown(cell, column.digits))


def shown(cell: Cell, digits: int = 3) -> str:
    """A cell as a reader sees it: a number with its digits, an estimate with its interval, "--" for nothing.

    Example:
        >>> shown({"value": 0.5, "lo": 0.41234, "hi": 0.6}), shown(1234567), shown(None)
        ('0.500 [0.412, 0.600]', '1,234,567', '--')
    """
    if cell is None:
        return "--"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Mapping):
        if cell["value"] is None:
            return "--"
        value = f"{cell['value']:.{digits}f}"
        return value if cell["lo"] is None else f"{value} [{cell['lo']:.{digits}f}, {cell['hi']:.{digits}f}]"
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:.{digits}f}"


def table_csv(table: Table) -> str:
    """The same table with numbers in full; an estimate takes three columns: value, lo, hi."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = [[column.name, f"{column.name} lo", f"{column.name} hi"][: _width(column)] for column in table.columns]
    writer.writerow([name for names in header for name in names])
    for row in table.rows:
        cells = [_csv_cells(cell, column) for cell, column in zip(row, table.columns, strict=True)]
        writer.writerow([cell for part in cells for cell in part])
    return text.getvalue()


def _width(column: Column) -> int:
    return 3 if column.kind == ESTIMATE else 1


def _csv_cells(cell: Cell, column: Column) -> list[str]:
    if column.kind == ESTIMATE:
        numbers = [cell[key] for key in ("value", "lo", "hi")] if isinstance(cell, Mapping) else [cell, None, None]
        return [
            "" if number is None else repr(number) if isinstance(number, float) else str(number) for number in numbers
        ]
    return ["" if cell is None else repr(cell) if isinstance(cell, float) else str(cell)]
