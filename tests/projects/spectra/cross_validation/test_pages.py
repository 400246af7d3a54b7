import pytest
from rich.console import Console

from projects.spectra.cross_validation import pages


def estimate(value, lo, hi):
    return {"value": value, "lo": lo, "hi": hi, "n_groups": 80, "method": "group bootstrap, 2000 draws"}


def content_with(lo, hi, middle=0.02):
    scores = dict.fromkeys(pages.HEADINGS, estimate(0.8, 0.7, 0.9))
    gap = dict.fromkeys(pages.HEADINGS, estimate(middle, lo, hi))
    names = ("final", "last", "floor: ridge on Fourier orders", "floor: nearest neighbour", "init_as_it_is")
    number = dict.fromkeys(pages.HEADINGS, 0.81)
    part = {"round": 0, "trained": 50, "tested": 16, "fit": {"epochs": 40, "seconds": 61.0}}
    return {
        "project": "spectra", "experiment": "tiny", "n": 1080, "groups": 80, "seed": 0,
        "interval_note": "Intervals draw groups.", "axis": {"name": "wavelength", "unit": "nm", "values": [1.0, 2.0]},
        "rows": dict.fromkeys(names, scores), "differences": dict.fromkeys(names[1:], gap),
        "same_as_final": ["best_single"], "partial_rows": ["lawa"], "init_from": "outputs/x",
        "per_channel": {"B": dict.fromkeys((names[0], *names[2:]), estimate(0.6, 0.5, 0.7))},
        "rounds": [part | {"rows": dict.fromkeys(names, number)}],
        "floors": {"rows": list(names[2:]), "trained_on": "all else", "trees": 100}, "warnings": ["Look out."],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("lo", "hi", "words"),
    [
        (0.01, 0.03, "final beats floor: nearest neighbour on the same folds, R² +0.020 [+0.010, +0.030]."),
        (-0.01, 0.05, "No difference is seen between final and floor: nearest neighbour on the same folds"),
        (-0.05, -0.01, "floor: nearest neighbour beats final on the same folds"),
        (None, None, "Whether final beats floor: nearest neighbour is open"),
    ],
)
def test_each_verdict_says_what_the_interval_carries(lo, hi, words):
    found = pages.verdicts(content_with(lo, hi))
    assert len(found) == 3  # two floors and the first weights, not the other rows of the rounds
    assert found[1].startswith(words)


def test_the_page_has_every_part():
    page = pages.markdown(content_with(0.01, 0.03), {"Error": "figures/per_point.png"})
    for words in (
        "1,080 samples from 80 groups, each tested once in 1 rounds, seed 0. Intervals draw groups.",
        "| row | R² | R², mean over outputs | RMSE | MAE | Pearson | peak shift, nm |",
        "| floor: nearest neighbour | 0.800 [0.700, 0.900] |", "| last epoch instead of the chosen one | +0.020 [",
        "| B | 0.600 [0.500, 0.700] |", "| 0 | 50 | 16 | 40 | 1 min 01 s | 0.810 / 0.810 |",
        "![Error](figures/per_point.png)", "fitted on all else.", "100 trees", "the final weights of outputs/x",
        "so not shown: best single checkpoint.", "so not pooled: mean of the latest snapshots.",
        "## Warnings\n\n- Look out.",
    ):  # fmt: skip
        assert words in page


def test_the_tables_fit_a_terminal_and_the_verdicts_come_last():
    console = Console(width=100)
    with console.capture() as captured:
        pages.print_summary(content_with(0.01, 0.03), console)
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[-1].startswith("final beats first weights, no training here")
    assert any(line.split() == ["round", "0", "16", "0.810", "0.810", "0.810", "0.810"] for line in lines)
    assert "warning: Look out." in lines
