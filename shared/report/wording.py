"""How numbers, intervals and verdicts are put into words; Markdown, HTML and the terminal all say it this way."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

METRIC_NAMES: dict[str, str] = {
    "f1_macro": "macro-F1",
    "auroc_macro": "macro-AUROC",
    "accuracy": "accuracy",
    "accuracy_top5": "top-5 accuracy",
    "ece": "ECE",
    "brier": "Brier",
    "nll": "NLL",
    "r2": "R²",
    "rmse": "RMSE",
    "mae": "MAE",
    "pearson": "Pearson",
    "peak_shift": "peak shift",
    "spearman": "Spearman",
}
"""Metric key to the words that readers see, in the order of the tables."""

MAIN_METRICS = ("f1_macro", "r2")
"""What rows are set against each other by: of classes, and of curves; more is better."""

NO_VALUE = "n/a"
FINAL_ROW = "final"

Estimate = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """One line at the top of a report.

    Attributes:
        level: "plain", "good" or "warn"; colour follows it, but the words alone must do.
        text: One or two sentences.
    """

    level: str
    text: str


DECIMALS = {"rmse": 4, "mae": 4, "peak_shift": 1}
"""Of metrics that are no shares: errors of a few hundredths need four, shifts along an axis one; all others three."""


def number(value: float | None, signed: bool = False, metric: str = "") -> str:
    """Return three decimals (or `DECIMALS`), with a sign for differences; "n/a" where the value is not defined."""
    if value is None:
        return NO_VALUE
    decimals = DECIMALS.get(metric, 3)
    # -0.0004 must not become "-0.000", which reads as a loss.
    rounded = round(value, decimals) + 0.0
    return f"{rounded:+.{decimals}f}" if signed else f"{rounded:.{decimals}f}"


def interval(estimate: Estimate, signed: bool = False, metric: str = "") -> str:
    """Return "[lo, hi]", or in words why there is no interval."""
    if estimate["lo"] is None or estimate["hi"] is None:
        method = str(estimate["method"])
        return method if method.startswith("no interval") else f"no interval: {groups(estimate['n_groups'])}"
    return f"[{number(estimate['lo'], signed, metric)}, {number(estimate['hi'], signed, metric)}]"


def value_with_interval(estimate: Estimate, signed: bool = False, metric: str = "") -> str:
    """Return value and interval in one piece of text."""
    text = interval(estimate, signed, metric)
    return f"{number(estimate['value'], signed, metric)} {text if text.startswith('[') else f'({text})'}"


def coverage_sentence(entry: Mapping[str, Any]) -> str:
    """Say how much final can answer at a given risk.

    Args:
        entry: {"risk", "coverage": estimate}, as in `risk_coverage.coverage_at_risk` of report.json.
    """
    risk, coverage = f"{100 * entry['risk']:g} %", entry["coverage"]
    if not coverage["value"]:
        return f"No threshold on the confidence brings the error rate to {risk} or less."
    ends = (coverage["lo"], coverage["hi"])
    span = f" [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]" if None not in ends else f" ({interval(coverage)})"
    return (
        f"With an error rate of at most {risk}, final can answer {100 * coverage['value']:.1f} %{span} of the samples, "
        "those that it is surest about; the threshold was found on these very samples."
    )


def groups(count: int) -> str:
    """Return "1 group" or "n groups"."""
    return f"{count:,} group{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a duration as people say it: 45 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def find_row(report: Mapping[str, Any], part: str, name: str) -> Mapping[str, Any] | None:
    """Return the row of that name in `report[part]` ("models" or "baselines"), or None."""
    return next((row for row in report.get(part, []) if row["name"] == name), None)


def main_metric(report: Mapping[str, Any]) -> str:
    """Return the metric that rows of this report are set against each other by."""
    rows = [*report.get("models", []), *report.get("baselines", [])]
    if any("accuracy_top5" in row["metrics"] for row in rows):  # many classes: a draw of groups nearly always lacks one
        return "accuracy"
    found = [key for key in MAIN_METRICS if any(key in row["metrics"] for row in rows)]
    return found[0] if found else MAIN_METRICS[0]


def metric_words(key: str, report: Mapping[str, Any]) -> str:
    """Return the words for a metric, with the unit where it has one of its own."""
    unit = report.get("per_point", {}).get("axis", {}).get("unit", "")
    return METRIC_NAMES.get(key, key) + (f", {unit}" if key == "peak_shift" and unit else "")


def named_subsets(report: Mapping[str, Any]) -> list[str]:
    """Return the parts of the test fold that were named by hand: neither all of it nor the values of a column."""
    return [name for name, part in report.get("per_group", {}).items() if name != "all" and "column" not in part]


def reference_baseline(report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the baseline that final is set against in words: image_only, else the one with the best main metric."""
    metric = main_metric(report)
    rows = [row for row in report.get("baselines", []) if row["metrics"].get(metric, {}).get("value") is not None]
    image_only = [row for row in rows if row["name"] == "image_only"]
    return max(image_only or rows, key=lambda row: row["metrics"][metric]["value"], default=None)


def unique_warnings(report: Mapping[str, Any]) -> list[str]:
    """Return each warning once, in order of first appearance."""
    return list(dict.fromkeys(report["warnings"]))


def verdicts(report: Mapping[str, Any]) -> list[Verdict]:
    """Say what a reader must know before any table, the result first."""
    parts = (_state, _headline, _source, _crossover, _calibration, _against_baseline, _checks, _shortcuts)
    return [verdict for part in parts for verdict in part(report)]


def _state(report: Mapping[str, Any]) -> Iterator[Verdict]:
    if report["status"] != "done":
        yield Verdict("warn", f"The run is {report['status']}: what follows is what it had measured by then.")
    if not report["data"]["leakage"]["ok"]:
        yield Verdict("warn", "The leak guard found samples in more than one fold: no number below can be trusted.")


def _source(report: Mapping[str, Any]) -> Iterator[Verdict]:
    if report["data"]["source"] == "stand-in":
        yield Verdict(
            "plain", "Stand-in data: the numbers show that the machinery works and say nothing about real samples."
        )


def _headline(report: Mapping[str, Any]) -> Iterator[Verdict]:
    final = find_row(report, "models", "final")
    if final is None:
        yield Verdict("plain", "No network was tested in this run.")
        return
    fold = report["data"]["folds"].get("test")
    where = f" on {fold['n']:,} test samples from {groups(fold['groups'])}" if fold else ""
    scores = [
        f"{metric_words(key, report)} {value_with_interval(final['metrics'][key], metric=key)}"
        for key in dict.fromkeys((main_metric(report), "accuracy_top5", "ece", "rmse", "peak_shift"))
        if key in final["metrics"]
    ]
    yield Verdict("plain", f"The final network reaches {', '.join(scores)}{where}.")


def _crossover(report: Mapping[str, Any]) -> Iterator[Verdict]:
    part = report.get("crossover")
    if part is None:
        return
    words = {
        "accepted": "Crossover accepted",
        "declined": "Crossover declined, so final is the best single checkpoint",
        "undecidable": "Crossover undecidable, so final is the best single checkpoint",
    }
    child = find_row(report, "models", "crossover") or {}
    changes = [
        f"{METRIC_NAMES[key]} {value_with_interval(difference, signed=True, metric=key)}"
        for key, difference in child.get("diff_to_best_single", {}).items()
    ]
    test = f" On test, the crossover as found against best_single: {', '.join(changes)}." if changes else ""
    level = "good" if part["decision"] == "accepted" else "plain"
    yield Verdict(level, f"{words[part['decision']]}: {part['reason'].rstrip('.')}.{test}")


def _calibration(report: Mapping[str, Any]) -> Iterator[Verdict]:
    part = report.get("calibration")
    if part is None:
        return
    if part["method"] == "identity":
        yield Verdict("plain", f"Probabilities left as they are: {part['reason'].rstrip('.')}.")
        return
    changes = [f"{METRIC_NAMES[key]} {value_with_interval(part['before'][key])} before, "
               f"{value_with_interval(part['after'][key])} after" for key in ("ece", "nll")]  # fmt: skip
    yield Verdict("plain", f"Probabilities calibrated ({part['method']}); on test: {'; '.join(changes)}.")


def _against_baseline(report: Mapping[str, Any]) -> Iterator[Verdict]:
    baseline = reference_baseline(report)
    metric = main_metric(report)
    if baseline is None or metric not in baseline.get("diff_to_final", {}):
        return
    name, overall = baseline["name"], baseline["diff_to_final"][metric]
    yield Verdict("plain", f"All test samples: {_compare(name, overall, metric)}.")
    for subset in named_subsets(report):
        difference = report["per_group"][subset].get("diff_to_final", {}).get(name, {}).get(metric)
        if difference is None:
            continue
        vanished = _above_zero(overall) and not _above_zero(difference)
        moral = " The gain over all samples is not seen here." if vanished else ""
        if vanished and difference["hi"] is not None and difference["hi"] < overall["value"]:
            moral = " The gain over all samples is not seen here: it comes from the other samples."
        yield Verdict("warn" if vanished else "plain", f"{subset}: {_compare(name, difference, metric)}.{moral}")


def _above_zero(difference: Estimate) -> bool:
    return difference["lo"] is not None and difference["lo"] > 0.0


def _compare(name: str, difference: Estimate, metric: str) -> str:
    """Say whether final is above or below a baseline, as far as the interval of final minus baseline carries."""
    amount = f"{METRIC_NAMES[metric]} {value_with_interval(difference, signed=True)}"
    if difference["value"] is None or difference["lo"] is None or difference["hi"] is None:
        return f"final against {name} is open, {amount}"
    if _above_zero(difference):
        return f"final beats {name}, {amount}"
    if difference["hi"] < 0.0:
        return f"{name} beats final, {amount}"
    return f"no difference seen between final and {name}, {amount}"


def _checks(report: Mapping[str, Any]) -> Iterator[Verdict]:
    for check in report.get("checks", []):
        if check["row"] == FINAL_ROW and check["violations"]:
            yield Verdict(
                "warn",
                f"{check['name']} does not hold for {check['violations']:,} of {check['n']:,} predictions of final, "
                f"the worst by {check['worst']:.2g}.",
            )


def _shortcuts(report: Mapping[str, Any]) -> Iterator[Verdict]:
    for row in shortcut_rows(report.get("audit", [])):
        entry = {"value": row["auroc"], "lo": row["lo"], "hi": row["hi"], "n_groups": 0, "method": "no interval"}
        yield Verdict(
            "warn",
            f"Shortcut: {row['feature']} alone separates defect from normal given the kind, AUROC "
            f"{value_with_interval(entry)}; a network may have learned it instead of the defect.",
        )


def shortcut_rows(audit: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of the audit that warn, the strongest first."""
    return sorted((row for row in audit if row["verdict"] == "shortcut"), key=lambda row: -(row["auroc"] or 0.0))
