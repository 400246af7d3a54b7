"""Two sections of the report: the numbers predicted beside the classes, and answering only where final is sure."""

from collections.abc import Mapping
from typing import Any

from shared.number_scores import METRICS
from shared.report import wording
from shared.report.cells import cell, interval_note, without_empty_columns
from shared.report.layout import Cell, Section, Table
from shared.report.task_evaluation import COMPARED

Report = Mapping[str, Any]


def tasks_section(report: Report) -> Section:
    """Scores of every head: each network on the mean of its numbers, and each number as final says it."""
    tasks: Mapping[str, Any] = report.get("tasks", {})
    if not tasks:
        return Section(_TASKS, figures=("tasks",))
    rows = [
        (
            Cell(head if number == 0 else ""),
            Cell(name),
            *(cell(scores.get(metric), metric=metric) for metric in METRICS),
            *(
                cell(part.get("diff_to_best_single", {}).get(name, {}).get(metric), signed=True, metric=metric)
                for metric in COMPARED
            ),
        )
        for head, part in tasks.items()
        for number, (name, scores) in enumerate(part["rows"].items())
    ]
    columns = (
        "numbers", "network", *(wording.METRIC_NAMES[metric] for metric in METRICS),
        *(f"{wording.METRIC_NAMES[metric]} minus best_single" for metric in COMPARED),
    )  # fmt: skip
    note = interval_note(
        entry for part in tasks.values() for scores in part["rows"].values() for entry in scores.values()
    )
    remark = "Each score is the mean over the head's numbers. Differences are paired."
    sizes = "; ".join(
        f"{head}: {part['n']:,} test samples with a target, {wording.groups(part['groups'])}"
        for head, part in tasks.items()
    )
    tables = [without_empty_columns(Table(columns, rows, f"{note} {remark}")), _per_number(tasks)]
    return Section(_TASKS, [f"{sizes}."], tables, ("tasks",))


_TASKS = "Numbers beside the classes"


def _per_number(tasks: Mapping[str, Any]) -> Table:
    rows = [
        (
            Cell(head if place == 0 else ""),
            Cell(name),
            *(cell(scores.get(key), metric=key) for key in COMPARED),
        )
        for head, part in tasks.items()
        for place, (name, scores) in enumerate(part["per_number"].items())
    ]
    columns = ("numbers", "as final says it", *(wording.METRIC_NAMES[key] for key in COMPARED))
    return Table(columns, rows)


def risk_section(report: Report) -> Section:
    """The error rate among the most confident answers, and how much can be answered at a given risk."""
    part = report.get("risk_coverage")
    if part is None:
        return Section(_RISK, figures=("risk_coverage",))
    rows = [(Cell(f"{100 * point['coverage']:.0f} %"), cell(point["risk"])) for point in part["curve"]]
    note = interval_note([point["risk"] for point in part["curve"]])
    area = wording.value_with_interval(part["aurc"])
    text = [wording.coverage_sentence(entry) for entry in part["coverage_at_risk"]]
    text.append(f"Area under the curve (AURC, the mean error rate over all coverages; less is better): {area}.")
    table = Table(("answered, the surest first", "error rate among them"), rows, note)
    return Section(_RISK, text, [table], ("risk_coverage",))


_RISK = "Answering only where final is sure"
