import base64
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from shared.errors import DataError
from shared.report.figures import audit_figure
from shared.report.write import render_html, render_markdown, write_report

ATTACK = '<script>alert("1")</script>'
VOID = {"meta", "img", "link", "br", "hr"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def estimates(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict) and set(node) == {"value", "lo", "hi", "n_groups", "method"}:
        yield node
    elif isinstance(node, (dict, list)):
        for child in node.values() if isinstance(node, dict) else node:
            yield from estimates(child)


def poisoned(node: Any) -> Any:
    """Every text of the report becomes an attack, keys included, but those that the schema fixes."""
    if isinstance(node, dict):
        return {key: poisoned(value) for key, value in node.items()}
    if isinstance(node, list):
        return [poisoned(value) for value in node]
    return ATTACK if isinstance(node, str) else node


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def written(run_dir: Path, full_report: dict[str, Any]) -> dict[str, Path]:
    return write_report(run_dir, full_report, {"audit": audit_figure(full_report["audit"])})


def test_files(run_dir: Path, written: dict[str, Path], report: dict[str, Any]) -> None:
    assert set(written) == {"report.json", "report.md", "report.html", "figures/audit.png"}
    assert all(path == run_dir / name and path.is_file() for name, path in written.items())
    assert json.loads(written["report.json"].read_text()) == report
    assert len([path for path in run_dir.rglob("*") if path.is_file()]) == 4, "a temporary file was left"


def test_html_is_self_contained(written: dict[str, Path]) -> None:
    text = written["report.html"].read_text()
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "embed", "form", "a", "base"}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("src", "href", "srcset", "data"):
            assert attributes.get(name, "data:image/png;base64,").startswith("data:image/png;base64,")
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    assert "@import" not in text
    policy = next(attributes for tag, attributes in page.tags if attributes.get("http-equiv"))
    assert policy["content"].startswith("default-src 'none'")


def test_html_carries_the_figures(written: dict[str, Path]) -> None:
    sources = [attributes["src"] for tag, attributes in Page(written["report.html"].read_text()).tags if tag == "img"]
    contents = [base64.b64decode(source.split(",", 1)[1]) for source in sources]
    assert contents == [written["figures/audit.png"].read_bytes()]


def test_html_suits_phones_and_dark_rooms(written: dict[str, Path]) -> None:
    text = written["report.html"].read_text()
    assert 'name="viewport" content="width=device-width, initial-scale=1"' in text
    assert "@media (prefers-color-scheme: dark)" in text
    assert text.count('<div class="scroll" tabindex="0"><table>') == text.count("<table>") > 5


def test_html_escapes_every_text(report: dict[str, Any]) -> None:
    hostile = poisoned(report)
    hostile["data"]["source"] = "real"
    hostile["crossover"]["decision"] = "declined"
    hostile["audit"][1]["verdict"] = "shortcut"
    for part, key in (("per_class", "cell_normal"), ("per_group", "y/z only"), ("artifacts", "splits")):
        hostile[part][ATTACK] = hostile[part].pop(key)
    hostile["models"][-1]["name"] = "final"
    text = render_html(hostile, {})
    assert "<script" not in text
    page = Page(text)
    assert sum(ATTACK in words for words in page.words) > 20, "the attack must be there, as text"


def test_markdown_escapes_every_text(report: dict[str, Any]) -> None:
    hostile = poisoned(report) | {"warnings": ["a | b\n\n# c", "[x](http://y)", "[1.0, 2.0](http://y)"]}
    hostile["crossover"]["decision"] = "declined"
    text = render_markdown(hostile, {})
    assert not re.search(r"(?<!\\)<", text)
    assert r"a \| b \# c" in text
    assert r"\[x\](http://y)" in text
    assert r"\[1.0, 2.0\](http://y)" in text


def test_markdown_tables_are_rectangular(written: dict[str, Path]) -> None:
    blocks = re.split(r"\n\n", written["report.md"].read_text())
    tables = [block.strip().splitlines() for block in blocks if block.strip().startswith("|")]
    assert len(tables) > 8
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
        assert set(table[1]) == {"|", "-"}


def test_numbers_in_markdown_and_html_are_those_of_json(written: dict[str, Path], report: dict[str, Any]) -> None:
    markdown, html = written["report.md"].read_text(), written["report.html"].read_text()
    results = markdown.split("## Results on the test fold")[1].split("\n## ")[0]
    rows = {line.split(" |")[0].removeprefix("| "): line for line in results.splitlines() if line.startswith("| ")}
    for row in (*report["models"], *report["baselines"]):
        for entry in row["metrics"].values():
            assert f"| {entry['value']:.3f} [{entry['lo']:.3f}, {entry['hi']:.3f}] |" in rows[row["name"]]
    shown = [entry for part in ("per_class", "calibration") for entry in estimates(report[part])]
    assert len(shown) == 5 * 3 + 2 * 5
    for entry in shown:
        assert f"{entry['value']:.3f} [{entry['lo']:.3f}, {entry['hi']:.3f}]" in markdown
        assert f"{entry['value']:.3f} <small>[{entry['lo']:.3f}, {entry['hi']:.3f}]</small>" in html


def test_what_matters_comes_first(written: dict[str, Path]) -> None:
    page = Page(written["report.html"].read_text())
    text = " ".join(page.words)
    marks = [
        "The final network reaches macro-F1",
        "Results on the test fold",
        "Warning: axis alone gives the label away",
        "Parts of the test fold: y/z only",
        "Classes",
        "Calibration",
        "Cost",
        "Artifacts",
        "Warnings",
    ]
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)
    assert text.count("x slices are 99 % normal.") == 1


def test_parts_that_did_not_run_leave_no_heading(tmp_path: Path, report: dict[str, Any]) -> None:
    for part in (
        "audit",
        "models",
        "baselines",
        "crossover",
        "calibration",
        "per_class",
        "per_group",
        "risk_coverage",
        "tasks",
        "cost",
        "resume",
    ):
        del report[part]
    text = write_report(tmp_path, report, {})["report.md"].read_text()
    assert re.findall(r"^## (.*)$", text, flags=re.M) == ["Data", "Artifacts", "Warnings"]
    assert "No network was tested in this run." in text


def test_a_figure_without_a_section_is_shown_at_the_end(tmp_path: Path, report: dict[str, Any]) -> None:
    text = write_report(tmp_path, report, {"grad_cam": audit_figure(report["audit"])})["report.md"].read_text()
    assert text.rstrip().endswith("## More figures\n\n![grad_cam](figures/grad_cam.png)")


def test_figures_are_cleared(tmp_path: Path, report: dict[str, Any]) -> None:
    figure = audit_figure(report["audit"])
    write_report(tmp_path, report, {"audit": figure})
    assert not figure.axes


def test_nothing_is_written_of_an_invalid_report(tmp_path: Path, report: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="unknown key 'extra'"):
        write_report(tmp_path, report | {"extra": 1}, {})
    with pytest.raises(DataError, match=r"figure '\.\./x' is no plain file name"):
        write_report(tmp_path, report, {"../x": audit_figure(report["audit"])})
    assert list(tmp_path.iterdir()) == []
