"""report.json, report.md, report.html and figures/*.png of one run, from one dict and the figures."""

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from shared import atomic
from shared.errors import DataError
from shared.report import wording
from shared.report.details import Details
from shared.report.figure_style import png_bytes
from shared.report.schema import validate_report
from shared.report.sections import CAPTIONS, build_sections

_FIGURE_NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
# An underscore inside a word means nothing in Markdown; escaped, it would only hurt those who read the plain file.
_MARKDOWN_SPECIAL = re.compile(r"([\\`*{}\[\]<>#|!~&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
_ESCAPED_INTERVAL = re.compile(r"\\\[([-+]?[\d.]+, [-+]?[\d.]+)\\\](?![(:\\[])")


def write_report(
    run_dir: Path, report: dict[str, Any], figures: dict[str, Figure], details: Details | None = None
) -> dict[str, Path]:
    """Write the report of a run; each file appears complete or not at all, the numbers before their dress.

    Args:
        run_dir: The run directory.
        report: Content of report.json.
        figures: Figure name (lower case, digits, underscores; see `sections.CAPTIONS`) to figure. They are cleared once
            drawn, so that a long run does not keep them.
        details: Content of the files beside report.json that say more, see `shared.report.details`.

    Returns:
        Path below the run directory ("report.json", "figures/rows.png", …) to the path.

    Raises:
        DataError: If the report departs from the schema, or a figure's name is no plain file name.
    """
    validate_report(report)
    for name in figures:
        if not _FIGURE_NAME.fullmatch(name):
            raise DataError(f"figure {name!r} is no plain file name; allowed are lower case, digits and underscores.")
    written = {"report.json": run_dir / "report.json"}
    atomic.write_json(written["report.json"], report)
    images: dict[str, bytes] = {}
    for name, figure in figures.items():
        images[name] = png_bytes(figure)
        figure.clear()
        written[f"figures/{name}.png"] = run_dir / "figures" / f"{name}.png"
        atomic.write_bytes(written[f"figures/{name}.png"], images[name])
    pages = {"report.md": render_markdown(report, images, details), "report.html": render_html(report, images, details)}
    for name, text in pages.items():
        written[name] = run_dir / name
        atomic.write_text(written[name], text)
    return written


def render_html(report: Mapping[str, Any], images: Mapping[str, bytes], details: Details | None = None) -> str:
    """Return the report as one HTML file without script and without a request to anywhere.

    Args:
        report: A valid report; everything in it is escaped.
        images: Figure name to PNG bytes.
        details: As in `write_report`.
    """
    # The policy in the page forbids what escaping already prevents: two locks, since names come from file systems.
    environment = _environment(autoescape=True)
    encoded = {name: base64.b64encode(content).decode("ascii") for name, content in images.items()}
    return environment.get_template("report.html.j2").render(_content(report, images, details), images=encoded)


def render_markdown(report: Mapping[str, Any], images: Mapping[str, bytes], details: Details | None = None) -> str:
    """Return the report as Markdown that points to figures/<name>.png.

    Args:
        report: A valid report; characters with a meaning in Markdown or HTML are escaped.
        images: Figure name to PNG bytes.
        details: As in `write_report`.
    """
    # Escaping as `finalize` reaches every expression of the template: none can be forgotten.
    environment = _environment(autoescape=False, finalize=_escape_markdown)
    return environment.get_template("report.md.j2").render(_content(report, images, details))


def _environment(*, autoescape: bool, **settings: Any) -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **settings,
    )


def _content(report: Mapping[str, Any], images: Mapping[str, bytes], details: Details | None) -> dict[str, Any]:
    return {
        "report": report,
        "facts": _facts(report),
        "verdicts": wording.verdicts(report),
        "sections": build_sections(report, images, details),
        "captions": CAPTIONS,
    }


def _facts(report: Mapping[str, Any]) -> str:
    """Say in one line which run this is."""
    commit = report["git"]["commit"]
    code = f"commit {commit[:10]}{' with local changes' if report['git']['dirty'] else ''}" if commit else "no commit"
    return (
        f"run {report['run']} · {report['status']} · seed {report['seed']} · {code} · "
        f"{report['started']} to {report['finished']}"
    )


def _escape_markdown(value: object) -> str:
    """Escape what Markdown or an HTML viewer would act on; a line break would end a table row."""
    escaped = _MARKDOWN_SPECIAL.sub(r"\\\1", " ".join(str(value).split()))
    # Brackets around two numbers are an interval, never a link: they stay readable.
    return _ESCAPED_INTERVAL.sub(r"[\1]", escaped)
