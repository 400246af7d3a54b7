import re
from typing import Any

import pytest

from shared.report import wording


def entry(
    value: float | None, lo: float | None = None, hi: float | None = None, method: str = "bootstrap"
) -> dict[str, Any]:
    return {"value": value, "lo": lo, "hi": hi, "n_groups": 4, "method": method}


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [
        (0.8034, False, "0.803"),
        (0.1, True, "+0.100"),
        (-0.0004, True, "+0.000"),
        (-0.2, True, "-0.200"),
        (None, True, "n/a"),
    ],
)
def test_number(value: float | None, signed: bool, text: str) -> None:
    assert wording.number(value, signed) == text


def test_errors_have_a_fourth_decimal_and_shifts_one() -> None:
    difference = entry(-0.0004, -0.0007, -0.0002)
    assert wording.value_with_interval(difference, signed=True, metric="rmse") == "-0.0004 [-0.0007, -0.0002]"
    assert wording.number(12.34, metric="peak_shift") == "12.3"


def test_interval_or_the_reason_why_not() -> None:
    assert wording.value_with_interval(entry(0.5, 0.4, 0.6)) == "0.500 [0.400, 0.600]"
    assert wording.value_with_interval(entry(0.5, method="no interval: 4 groups")) == "0.500 (no interval: 4 groups)"
    assert wording.interval(entry(0.5, method="")) == "no interval: 4 groups"


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.21, "4.2 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text


def lines(report: dict[str, Any]) -> str:
    return "\n".join(f"{line.level}: {line.text}" for line in wording.verdicts(report))


@pytest.mark.parametrize(
    ("overall", "part", "expected"),
    [
        (
            entry(0.1, 0.05, 0.15),
            entry(0.0, -0.02, 0.02),
            "warn: y/z only: no difference seen.*comes from the other samples",
        ),
        (entry(0.1, 0.05, 0.15), entry(0.1, -0.02, 0.2), r"warn: y/z only: no difference seen.*not seen here\.(\n|$)"),
        (entry(0.1, 0.05, 0.15), entry(0.1, 0.05, 0.2), r"plain: y/z only: final beats image_only.*\](\n|\.)"),
        (entry(0.0, -0.1, 0.1), entry(-0.1, -0.2, -0.05), "plain: y/z only: image_only beats final"),
        (entry(0.1), entry(0.1), "plain: y/z only: final against image_only is open"),
    ],
)
def test_the_subset_s_verdict(report: dict[str, Any], overall: dict, part: dict, expected: str) -> None:
    report["baselines"][0]["diff_to_final"]["f1_macro"] = overall
    report["per_group"]["y/z only"]["diff_to_final"]["image_only"]["f1_macro"] = part
    assert re.search(expected, lines(report))


def test_a_leak_and_an_unfinished_run_come_before_the_result(report: dict[str, Any]) -> None:
    report["status"] = "interrupted"
    report["data"]["leakage"]["ok"] = False
    first = wording.verdicts(report)[:3]
    assert [line.level for line in first] == ["warn", "warn", "plain"]
    assert "interrupted" in first[0].text
    assert "no number below can be trusted" in first[1].text
    assert first[2].text.startswith("The final network reaches")


def test_every_crossover_decision_says_why_and_what_the_child_did_on_test(report: dict[str, Any]) -> None:
    report["models"].append(dict(report["models"][0], name="crossover"))
    difference = report["models"][0]["diff_to_best_single"]
    for decision, words in (("accepted", "good: Crossover accepted"), ("undecidable", "plain: Crossover undecidable")):
        report["crossover"]["decision"] = decision
        assert f"{words}" in lines(report)
        assert "no gain beyond noise on accept (n = 48 groups, cross-fitted)." in lines(report)
        f1, nll = (f"{difference[key]['value']:+.3f}" for key in ("f1_macro", "nll"))
        assert re.search(
            rf"as found against best_single: macro-F1 {re.escape(f1)} \[.*NLL {re.escape(nll)} ", lines(report)
        )


def test_calibration_says_before_and_after_or_why_not(report: dict[str, Any]) -> None:
    found = r"plain: Probabilities calibrated \(temperature\); on test: ECE 0\.\d+ \[.*before, 0\.\d+ .*NLL"
    assert re.search(found, lines(report))
    report["calibration"] |= {"method": "identity", "reason": "no method gains more than one standard error."}
    assert "plain: Probabilities left as they are: no method gains more than one standard error." in lines(report)


def test_the_shortcut_is_named(report: dict[str, Any]) -> None:
    assert "warn: Shortcut: axis alone separates" in lines(report)
    assert "brightness" not in lines(report)


def test_without_image_only_the_strongest_baseline_is_the_reference(report: dict[str, Any]) -> None:
    report["baselines"] = [row for row in report["baselines"] if row["name"] != "image_only"]
    reference = wording.reference_baseline(report)
    assert reference is not None
    assert reference["name"] == "fused_metadata_permuted"
    assert wording.reference_baseline(report | {"baselines": []}) is None
