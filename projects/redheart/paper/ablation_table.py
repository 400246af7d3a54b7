"""The table of an ablation: complete as CSV, and in print the comparisons that have a value."""

from typing import Any

from projects.redheart.ablation.compare import HARMFUL, NOTHING, UNMOVED, WORTH
from projects.redheart.paper.latex import ESTIMATE, INTERVALS, NUMBER, Cell, Column, Table
from projects.redheart.paper.sources import Source

WAYS = {"switched_off": "switched off", "retrained": "retrained"}
_SHORT = {WORTH: "helps", HARMFUL: "harmful", NOTHING: "not shown", UNMOVED: "no story changed"}


def ablation(source: Source) -> Table | None:
    """Worth of each module, both ways."""
    content = source.ablation
    if content is None:
        return None
    ways = [way for way in WAYS if way in content]
    full = [(WAYS[way], row) for way in ways for row in content[way]["rows"]]
    rows: list[list[Cell]] = [
        [words, row["module"], row["metric"], row["worth"], _holm(row), row["verdict_holm"]] for words, row in full
    ]
    columns = (
        Column("way"), Column("module"), Column("metric"), Column("worth", ESTIMATE, 4), Column("p (Holm)", NUMBER),
        Column("verdict"),
    )  # fmt: skip
    caption = _caption(content, ways)
    return Table("ablation", caption, columns, rows, printed=_printed(full, columns, caption, len(ways) > 1))


def _caption(content: dict[str, Any], ways: list[str]) -> str:
    """The correction is made within each way, and the caption says over how many comparisons."""
    corrected = ", ".join(f"{WAYS[way]}: {content[way]['comparisons']}" for way in ways)
    only = " Backbone and heads are only switched off, never retrained without." if "retrained" in ways else ""
    return (
        f"What each module is worth on the test fold (above 0: it helps). {INTERVALS} Verdicts hold after Holm's "
        f"correction, made within each way by itself over its comparisons ({corrected}).{only}"
    )


def _printed(
    full: list[tuple[str, dict[str, Any]]], columns: tuple[Column, ...], caption: str, both_ways: bool
) -> Table:
    """Without what a module says nothing to; the way only where there are two."""
    shown = [(words, row) for words, row in full if row["worth"] is not None]
    left = 0 if both_ways else 1
    rows: list[list[Cell]] = [
        [
            words, row["module"], row["metric"], row["worth"], _holm(row),
            _SHORT.get(row["verdict_holm"], row["verdict_holm"]),
        ][left:]
        for words, row in shown
    ]  # fmt: skip
    gone = len(full) - len(shown)
    more = f" {gone} pairs of module and score without any changed answer are left out." if gone else ""
    return Table("ablation", caption + more, columns[left:], rows, long=True)


def _holm(row: dict[str, Any]) -> str | None:
    return None if row["p_holm"] is None else f"{row['p_holm']:.3g}"
