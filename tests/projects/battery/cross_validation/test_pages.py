import pytest
from rich.console import Console

from projects.battery.cross_validation import pages


def estimate(value, lo, hi):
    return {"value": value, "lo": lo, "hi": hi, "n_groups": 80, "method": "group bootstrap, 2000 draws"}


def content_with(lo, hi, middle=0.02):
    scores = dict.fromkeys(pages.HEADINGS, estimate(0.8, 0.7, 0.9))
    gap = dict.fromkeys(pages.HEADINGS, estimate(middle, lo, hi))
    names = ("final", "image_only", "floor_pixels")
    return {
        "project": "battery", "experiment": "tiny", "n": 80, "seed": 0, "interval_note": "Intervals draw images.",
        "rows": dict.fromkeys(names, scores), "differences": dict.fromkeys(names[1:], gap),
        "rounds": [{"round": 0, "trained": 50, "tested": 16, "rows": {name: {"auroc": 0.81} for name in names}}],
        "kinds": {"mono": {"n": 30, "positive": 12, "rows": dict.fromkeys(names, scores), "differences": {}}},
        "literature": [{"name": "SVM", "accuracy": 0.824, "source": "a paper"}],
        "protocol_differences": ["They have more cells."], "warnings": ["Look out."],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("lo", "hi", "words"),
    [
        (0.01, 0.03, "clears the floor on the same folds, AUROC +0.020 [+0.010, +0.030]"),
        (-0.01, 0.05, "does not clear the floor: no difference is seen"),
        (-0.05, -0.01, "stays below the floor"),
        (None, None, "is open"),
    ],
)
def test_the_verdict_says_what_the_interval_carries(lo, hi, words):
    assert words in pages.verdict(content_with(lo, hi))


def test_the_page_has_every_part_and_the_table_fits_its_width():
    content = content_with(0.01, 0.03)
    page = pages.markdown(content, "figures/roc.png")
    for words in (
        "| floor: forest on pixels | 0.800 [0.700, 0.900] |", "![ROC curves](figures/roc.png)",
        "| 0 | 50 | 16 | 0.810 | 0.810 | 0.810 |", "mono (n = 30, 12 defective)", "| SVM | 0.824 | a paper |",
        "- They have more cells.", "## Warnings\n\n- Look out.",
    ):  # fmt: skip
        assert words in page
    console = Console(width=100)
    with console.capture() as captured:
        pages.print_summary(content, console)
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[-1].startswith("The network clears the floor")
    assert any(line.split() == ["round", "0", "16", "0.810", "0.810", "0.810", "+0.000"] for line in lines)
    assert any(line.split() == ["mono", "30", "0.800", "0.800", "0.800"] for line in lines)
    assert any("literature: SVM" in line and "0.824" in line and "other protocol" in line for line in lines)
