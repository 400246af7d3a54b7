"""The report shows what the files beside it say, and says nothing where a file is not there."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.report.details import add_details, read_details
from shared.report.layout import Section
from shared.report.write import render_html, render_markdown
from shared.sweet_spots import choose

CROSSED = {
    "sources": {"body": 4, "head": 4},
    "child_sources": {"body": 4, "head": 6},
    "soups": {"greedy": {"members": [4, 6], "loss": 0.5123, "batch_norm": {"used": "fresh"}}},
    "variants": [{"shift": -2, "epochs": {"body": 2, "head": 4}, "loss": 0.77}],
    "best_single_loss": 0.6,
    "barriers": [{"from": 4, "to": 6, "height": -0.0123, "at": 0.5}],
    "cost": {"search": {"equivalent_passes": 7.01, "passes": 31, "seconds": 10.02}, "seconds": 91.0},
}
ESTIMATE = {"value": 0.2, "lo": 0.1, "hi": 0.3, "n_groups": 9, "method": "t"}
CALIBRATED = {
    "cv": {"identity": {"nll": 0.4, "gain": 0.0, "se": 0.0}, "platt": {"nll": 0.41, "gain": -0.0104, "se": 0.02}},
    "abstained": {"isotonic": "class 2 has 3 samples"},
    "before": {"ece": ESTIMATE},
    "after": {"ece": ESTIMATE | {"value": 0.15}},
    "difference": {"ece": ESTIMATE | {"value": -0.05, "lo": -0.09, "hi": -0.01}},
}


@pytest.fixture
def details() -> dict[str, Any]:
    rows = [{"epoch": epoch, "step": epoch, "metrics": {"val/loss": 1.0 / (1 + epoch)}} for epoch in range(8)]
    spots = choose(rows, ["body", "head"]).as_dict() | {"recommendations": ["try the ensemble"]}
    return {"sweet_spots": spots, "crossover": CROSSED, "calibration": CALIBRATED}


def test_votes_sources_averages_barriers_and_cost_are_in_the_pages(
    report: dict[str, Any], details: dict[str, Any]
) -> None:
    markdown, html = render_markdown(report, {}, details), render_html(report, {}, details)
    lines = markdown.splitlines()
    assert "| greedy | 4, 6 | 0.512 | fresh |" in lines
    assert "| -2 | body 2, head 4 | 0.770 |" in lines
    assert "| best single |  | 0.600 |" in lines
    assert "| epoch 4 to 6 | -0.0123 | 0.5 |" in lines
    assert "| search | 7.0 | 31 | 10.0 |" in lines
    assert "| platt | 0.410 | -0.0104 | 0.0200 |" in lines
    assert "| ece | 0.200 [0.100, 0.300] | 0.150 [0.100, 0.300] | -0.050 [-0.090, -0.010] |" in lines
    assert "isotonic abstains: class 2 has 3 samples" in markdown
    (head,) = (line for line in lines if line.startswith("| head |"))
    assert head.endswith("| 6 | 4 |")  # the child's epoch, then final's
    assert details["sweet_spots"]["choices"]["head"]["reason"] in html
    assert "try the ensemble" in html


def test_without_the_files_the_report_is_as_it_was(report: dict[str, Any]) -> None:
    assert render_markdown(report, {}, {}) == render_markdown(report, {})
    assert add_details(Section("Curves"), {"crossover": CROSSED}).tables == []


def test_files_are_read_where_they_are(tmp_path: Path) -> None:
    assert read_details(tmp_path) == {}
    (tmp_path / "crossover.json").write_text(json.dumps(CROSSED))
    assert read_details(tmp_path) == {"crossover": CROSSED}
