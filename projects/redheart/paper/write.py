"""The paper's folder: tables/<run>/*.{tex,csv}, figures/<run>/*.{pdf,png}, limitations, abstract and main.tex."""

from pathlib import Path

from projects.redheart.paper.figures import figures_of, pdf_bytes
from projects.redheart.paper.latex import Table, escape, table_csv, table_latex
from projects.redheart.paper.sources import Source
from projects.redheart.paper.tables import comparison, tables_of
from projects.redheart.paper.text import abstract, limitations
from shared.atomic import write_bytes
from shared.report.figure_style import png_bytes

HEAD = r"""\documentclass[11pt]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage[margin=2.5cm]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\usepackage{longtable}
\title{[Title]}
\author{[Authors]}
\date{}
\begin{document}
\maketitle
"""
TAIL = "\\end{document}\n"

CAPTIONS = {
    "rows": "Macro-F1 of every row on the test fold, with 95 % intervals by group.",
    "curves": "Loss and scores over the epochs.",
    "groups": "Loss of each module group on val over the epochs.",
    "ablation": "What each module is worth, with 95 % intervals by group.",
}


def write_paper(out: Path, sources: list[Source]) -> list[Path]:
    """Write everything; equal runs give equal bytes, main.tex comes last.

    Args:
        out: Folder; files of the same names are replaced, others stay.
        sources: The runs, at least one. Abstract and limitations are of the first.

    Returns:
        The files, in the order in which they were written.

    Raises:
        OSError: What the file system says.
    """
    written: dict[Path, bytes] = {}
    body: list[str] = [r"\input{abstract.tex}"]
    for source in sources:
        body.append(rf"\section{{Run {escape(source.label)}}}")
        for table in tables_of(source):
            body.append(_table(written, table, source.label))
        for name, figure in figures_of(source).items():
            stem = f"figures/{source.label}/{name}"
            written[Path(f"{stem}.pdf")] = pdf_bytes(figure)
            written[Path(f"{stem}.png")] = png_bytes(figure)
            figure.clear()
            body.append(_figure(stem, CAPTIONS[name], f"{source.label}-{name}"))
    if len(sources) > 1:
        body += [r"\section{All runs}", _table(written, comparison(sources), "all")]
    body.append(r"\input{limitations.tex}")
    written[Path("abstract.tex")] = abstract(sources[0]).encode()
    written[Path("limitations.tex")] = limitations(sources[0]).encode()
    # Floats of many tables in a row would fill LaTeX's store of them.
    written[Path("main.tex")] = (HEAD + "\n\\clearpage\n".join(body) + "\n" + TAIL).encode()
    for place, content in written.items():
        write_bytes(out / place, content)
    return [out / place for place in written]


def _table(written: dict[Path, bytes], table: Table, label: str) -> str:
    place = f"tables/{label}/{table.name}"
    written[Path(f"{place}.tex")] = table_latex(table, f"{label}-{table.name}").encode()
    written[Path(f"{place}.csv")] = table_csv(table).encode()
    return rf"\input{{{place}.tex}}"


def _figure(place: str, caption: str, label: str) -> str:
    return "\n".join(
        [
            r"\begin{figure}[htbp]",
            r"\centering",
            rf"\includegraphics[width=\linewidth]{{{place}.pdf}}",
            rf"\caption{{{escape(caption)}}}",
            rf"\label{{fig:{label}}}",
            r"\end{figure}",
        ]
    )
