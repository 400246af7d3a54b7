import io
from typing import Any

import pytest
from rich.console import Console

from shared.report.terminal import print_summary


def printed(report: dict[str, Any], width: int = 80) -> str:
    stream = io.StringIO()
    print_summary(report, Console(file=stream, width=width, color_system=None))
    return stream.getvalue()


def line_of(text: str, start: str) -> list[str]:
    """All lines that begin with `start`, blanks squeezed."""
    return [" ".join(line.split()) for line in text.splitlines() if " ".join(line.split()).startswith(start)]


def test_each_number_stands_beside_its_name(report: dict[str, Any]) -> None:
    text = printed(report)
    for name, scores in report["per_class"].items():
        entry = scores["f1"]
        assert line_of(text, name) == [f"{name} {entry['value']:.3f} [{entry['lo']:.3f}, {entry['hi']:.3f}]"]
    final = next(row for row in report["models"] if row["name"] == "final")["metrics"]
    for key, words in (("f1_macro", "macro-F1 0"), ("auroc_macro", "macro-AUROC"), ("ece", "ECE")):
        assert f"{final[key]['value']:.3f} [{final[key]['lo']:.3f}, {final[key]['hi']:.3f}]" in line_of(text, words)[0]
    for row in report["baselines"]:
        difference = row["diff_to_final"]["f1_macro"]
        assert (
            f"{difference['value']:+.3f} [{difference['lo']:+.3f}, {difference['hi']:+.3f}]"
            in line_of(text, row["name"])[0]
        )


def test_fused_and_image_only_stand_together_on_all_and_on_the_subset(report: dict[str, Any]) -> None:
    text = printed(report)
    part = report["per_group"]["y/z only"]["rows"]["final"]["f1_macro"]
    assert line_of(text, "macro-F1, y/z only") == ["macro-F1, y/z only 36 groups"]
    assert line_of(text, "final 0")[1].startswith(f"final {part['value']:.3f}")
    assert len(line_of(text, "image_only")) == 2


def test_the_networks_of_a_fit_stand_together_with_their_paired_difference(report: dict[str, Any]) -> None:
    assert not line_of(printed(report), "macro-F1 by network")  # nothing was averaged or crossed
    soup = dict(next(row for row in report["models"] if row["name"] == "last"), name="uniform_soup")
    report["models"].insert(2, soup)
    text = printed(report)
    assert line_of(text, "macro-F1 by network") == ["macro-F1 by network row minus best_single"]
    difference = soup["diff_to_best_single"]["f1_macro"]
    assert line_of(text, "uniform_soup")[0].split()[1] == f"{soup['metrics']['f1_macro']['value']:.3f}"
    assert f"{difference['value']:+.3f}" in line_of(text, "uniform_soup")[0]


def test_groups_are_said_in_words_and_warnings_once(report: dict[str, Any]) -> None:
    text = printed(report)
    assert "648 samples from 36 groups" in text
    assert "Intervals count groups, not samples: 36 groups" in text
    assert text.count("warning: x slices are 99 % normal.") == 1
    assert len(line_of(text, "axis 0.781")) == 1


def test_missing_intervals_say_why(report: dict[str, Any]) -> None:
    report["per_class"]["cell_normal"]["f1"] |= {
        "lo": None,
        "hi": None,
        "method": "no interval: 4 groups",
        "n_groups": 4,
    }
    text = printed(report)
    assert line_of(text, "cell_normal")[0].endswith("no interval: 4") or "no interval: 4 groups" in text


@pytest.mark.parametrize("width", [80, 100])
def test_no_line_is_wider_than_the_terminal(report: dict[str, Any], width: int) -> None:
    for row in (report["baselines"][0], report["audit"][1]):
        row["name" if "name" in row else "feature"] = "a_very_long_name_that_nobody_would_choose_but_a_script"
    report["per_class"]["cell_normal"]["f1"] |= {
        "lo": None,
        "hi": None,
        "method": "no interval: undefined on 44 of 2000 draws",
    }
    text = printed(report, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text, "a number or name was cut"


def test_markup_in_names_is_plain_text(report: dict[str, Any]) -> None:
    report["warnings"] = ["[red]alarm[/red] [/nothing]"]
    report["experiment"] = "[bold]x"
    report["per_class"]["[italic]y"] = report["per_class"]["cell_normal"]
    text = printed(report)
    assert "warning: [red]alarm[/red] [/nothing]" in text
    assert "[bold]x" in text
    assert "[italic]y" in text


def test_a_run_without_a_test_says_so(report: dict[str, Any]) -> None:
    for part in ("audit", "models", "baselines", "per_class", "per_group"):
        del report[part]
    assert "No network was tested in this run." in printed(report)
