"""The short table that ends a run in the terminal; it fits 80 columns."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.report import wording
from shared.report.task_evaluation import COMPARED

_FINAL_METRICS = ("accuracy_top5", "f1_macro", "auroc_macro", "ece", "r2", "rmse", "pearson", "peak_shift")

_MOST_CLASSES = 30


def summary_table(report: Mapping[str, Any]) -> Table:
    """Return the table: final's scores, those of each class or channel, the baselines beside it, named subsets.

    Args:
        report: A valid report; parts that did not run are left out of the table.
    """
    table = Table(
        title=Text(f"{report['project']} / {report['experiment']}, {_test_fold(report)}"),
        caption=Text(_caption(report), style="dim"),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        padding=(0, 1),
        pad_edge=False,
    )
    table.add_column("", overflow="fold", max_width=30)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("95 % interval", overflow="fold", min_width=16)
    table.add_column("final minus row", overflow="fold", min_width=13)
    _add_final(table, report)
    _add_networks(table, report)
    _add_classes(table, report)
    _add_tasks(table, report)
    _add_baselines(table, report)
    _add_subsets(table, report)
    _add_shortcuts(table, report)
    return table


def print_summary(report: Mapping[str, Any], console: Console) -> None:
    """Print the table, then each warning once.

    Args:
        report: A valid report.
        console: Where to; nothing in the report is read as markup.
    """
    console.print(summary_table(report))
    for sentence in wording.unique_warnings(report):
        console.print(Text.assemble(("warning: ", "bold yellow"), sentence), soft_wrap=False)


def _test_fold(report: Mapping[str, Any]) -> str:
    fold = report["data"]["folds"].get("test")
    size = f"{fold['n']:,} samples from {wording.groups(fold['groups'])}" if fold else "not opened"
    stand_in = " (stand-in data)" if report["data"]["source"] == "stand-in" else ""
    return f"test fold{stand_in}: {size}"


def _caption(report: Mapping[str, Any]) -> str:
    """Say in plain words what the intervals count."""
    final = wording.find_row(report, "models", "final")
    if final is None:
        return "No network was tested in this run."
    count = next(iter(final["metrics"].values()))["n_groups"]
    return (
        f"Intervals count groups, not samples: {wording.groups(count)} in the whole test fold. "
        f"Below 6 groups there is no interval."
    )


def _row(
    table: Table,
    name: str,
    entry: Mapping[str, Any],
    difference: Mapping[str, Any] | None = None,
    style: str = "",
    metric: str = "",
) -> None:
    value, interval = wording.number(entry["value"], metric=metric), wording.interval(entry, metric=metric)
    cells = [name, value, interval, _difference(difference)]
    table.add_row(*(Text(cell) for cell in cells), style=style)


def _difference(difference: Mapping[str, Any] | None) -> str:
    if difference is None:
        return ""
    return f"{wording.number(difference['value'], signed=True)} {wording.interval(difference, signed=True)}"


def _heading(table: Table, words: str, remark: str = "", last: str = "") -> None:
    if table.row_count:
        table.add_section()
    table.add_row(Text(words, style="bold"), "", Text(remark, style="dim"), Text(last, style="dim"))


def _add_final(table: Table, report: Mapping[str, Any]) -> None:
    final = wording.find_row(report, "models", "final")
    if final is None:
        return
    _heading(table, "final network")
    if wording.main_metric(report) == "accuracy":
        _row(table, "  accuracy", final["metrics"]["accuracy"], metric="accuracy")
    for key in _FINAL_METRICS:
        if key in final["metrics"]:
            _row(table, f"  {wording.metric_words(key, report)}", final["metrics"][key], metric=key)
    for entry in report.get("risk_coverage", {}).get("coverage_at_risk", []):
        _row(table, f"  coverage at {100 * entry['risk']:g} % risk", entry["coverage"])


def _add_networks(table: Table, report: Mapping[str, Any]) -> None:
    """Set the main metric of the other networks of this fit beside that of final."""
    metric = wording.main_metric(report)
    rows = [row for row in report.get("models", []) if metric in row["metrics"]]
    if len(rows) <= 3:  # last, best_single, final: nothing was averaged or crossed
        return
    _heading(table, f"{wording.METRIC_NAMES[metric]} by network", last="row minus best_single")
    for row in rows:
        _row(table, f"  {row['name']}", row["metrics"][metric], row.get("diff_to_best_single", {}).get(metric))


def _add_classes(table: Table, report: Mapping[str, Any]) -> None:
    classes = report.get("per_class", {})
    shown = list(classes.items())
    if len(shown) > _MOST_CLASSES:
        shown = sorted(shown, key=lambda item: item[1]["f1"]["value"] or 0.0)[:_MOST_CLASSES]
    if shown:
        which = "" if len(shown) == len(classes) else f", the lowest {len(shown)} of {len(classes)}"
        _heading(table, f"F1 by class{which}")
    for name, scores in shown:
        _row(table, f"  {name}", scores["f1"])
    if report.get("per_channel"):
        _heading(table, "R² by channel")
    for name, scores in report.get("per_channel", {}).items():
        _row(table, f"  {name}", scores["r2"])


def _add_tasks(table: Table, report: Mapping[str, Any]) -> None:
    """Two scores of each head beside the main classes, as final has them."""
    tasks = report.get("tasks", {})
    if tasks:
        _heading(table, "predicted numbers, final")
    for head, part in tasks.items():
        for metric in COMPARED:
            _row(table, f"  {head}: {wording.METRIC_NAMES[metric]}", part["rows"]["final"][metric])


def _add_baselines(table: Table, report: Mapping[str, Any]) -> None:
    """Set the main metric of the baselines beside that of final."""
    final, metric = wording.find_row(report, "models", "final"), wording.main_metric(report)
    rows = [row for row in report.get("baselines", []) if metric in row["metrics"]]
    if not rows:
        return
    _heading(table, f"{wording.METRIC_NAMES[metric]}, all samples")
    if final is not None and metric in final["metrics"]:
        _row(table, "  final", final["metrics"][metric])
    for row in rows:
        _row(table, f"  {row['name']}", row["metrics"][metric], row.get("diff_to_final", {}).get(metric))


def _add_subsets(table: Table, report: Mapping[str, Any]) -> None:
    """Do the same on each named subset, with final and the baseline that it is set against in words."""
    baseline, metric = wording.reference_baseline(report), wording.main_metric(report)
    for subset in wording.named_subsets(report):
        part = report["per_group"][subset]
        _heading(table, f"{wording.METRIC_NAMES[metric]}, {subset}", wording.groups(part["groups"]))
        names = ["final"] + ([] if baseline is None else [baseline["name"]])
        for name in names:
            entry = part["rows"].get(name, {}).get(metric)
            if entry is not None:
                _row(table, f"  {name}", entry, part.get("diff_to_final", {}).get(name, {}).get(metric))


def _add_shortcuts(table: Table, report: Mapping[str, Any]) -> None:
    rows = wording.shortcut_rows(report.get("audit", []))
    if rows:
        _heading(table, "shortcuts (AUROC alone)")
    for row in rows:
        entry = {"value": row["auroc"], "lo": row["lo"], "hi": row["hi"], "n_groups": 0, "method": "no interval"}
        _row(table, f"  {row['feature']}", entry, style="yellow")
