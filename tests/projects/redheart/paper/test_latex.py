import csv
import io

import pytest
from pylatexenc.latex2text import LatexNodes2Text
from pylatexenc.latexwalker import LatexWalker

from projects.redheart.paper.latex import ESTIMATE, NUMBER, Column, Table, escape, shown, table_csv, table_latex

NASTY = "50 % of a_b & c# {d} $e$ ~f \\h"


def strictly(text):
    nodes, _, _ = LatexWalker(text, tolerant_parsing=False).get_latex_nodes()
    return LatexNodes2Text(keep_comments=False).nodelist_to_text(nodes)


def test_every_special_character_comes_back_as_it_was():
    assert strictly(escape(NASTY)) == NASTY
    assert escape('^g <i> |j| "k"') == (
        r"\textasciicircum{}g \textless{}i\textgreater{} \textbar{}j\textbar{} \textquotedbl{}k\textquotedbl{}"
    )
    assert escape("50 % of a_b") == r"50 \% of a\_b"
    assert escape("two\nlines\t and  blanks") == "two lines and blanks"
    assert escape("\u03b1 \u2265 0.8 \u2026 caf\u00e9") == r"$\alpha$ $\geq$ 0.8 \ldots{} caf\u00e9".replace(
        "\\u00e9", "\u00e9"
    )
    assert escape("\u6f22\u0007") == "[U+6F22][U+0007]"


def table(**more):
    columns = (Column("row_name"), Column("n", NUMBER), Column("f1", ESTIMATE))
    rows = [
        ["best_single", 1234, {"value": 0.51234, "lo": 0.4, "hi": 0.6}],
        ["[x] & y", None, {"value": None, "lo": None, "hi": None}],
        ["last", 0.5, None],
        ["no interval", 2, {"value": 0.25, "lo": None, "hi": None}],
    ]
    return Table("t", "100 % of it", columns, rows, **more)


def test_a_table_is_valid_latex_with_booktabs():
    text = table_latex(table(wide=True), "a-t")
    assert strictly(text)
    lines = text.splitlines()
    assert r"\begin{tabular}{lrr}" in lines
    assert r"row\_name & n & f1 \\" in lines
    assert r"best\_single & 1,234 & 0.512 [0.400, 0.600] \\" in lines
    assert r"{}[x] \& y & -- & -- \\" in lines
    assert r"no interval & 2 & 0.250 \\" in lines
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 1
    assert text.count("{") == text.count("}")
    assert r"\resizebox" not in table_latex(table(), "a-t")


def test_the_csv_has_the_numbers_in_full():
    rows = list(csv.reader(io.StringIO(table_csv(table()))))
    assert rows[0] == ["row_name", "n", "f1", "f1 lo", "f1 hi"]
    assert rows[1] == ["best_single", "1234", "0.51234", "0.4", "0.6"]
    assert rows[2] == ["[x] & y", "", "", "", ""]
    assert rows[4] == ["no interval", "2", "0.25", "", ""]


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="a row of t has 1 cells; 2 are needed"):
        Table("t", "c", (Column("a"), Column("b")), [["x"]])
    assert shown(None) == "--"
