"""A report as sections of words, tables and figure names; Markdown and HTML only lay them out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from shared.report import wording
from shared.report.cells import cell, interval_note, without_empty_columns
from shared.report.details import CALIBRATION, CROSSOVER, Details, add_details
from shared.report.layout import Cell, Section, Table, facts
from shared.report.sections_tasks import risk_section, tasks_section

Report = Mapping[str, Any]

_SKIPPED_SHOWN = 10

CALIBRATION_SCORES = {
    "ece": "ECE",
    "classwise_ece": "class-wise ECE",
    "adaptive_ece": "adaptive ECE",
    "brier": "Brier",
    "nll": "NLL",
}
"""Calibration score to the words of its column."""

CAPTIONS: dict[str, str] = {
    "rows": "Networks and baselines with 95 % interval by group.",
    "audit": "AUROC of each feature alone against chance and the warn line.",
    "subsets": "The same rows on parts of the test fold.",
    "sweet_spots": "Votes of the five analyses and the epoch chosen for each module group.",
    "curves": "Losses and the monitored metric over the epochs.",
    "per_class": "F1 of each class with 95 % interval by group.",
    "confusion": "Confusion matrix of the final network: samples, and share of each true class.",
    "reliability": "Reliability diagram: on the diagonal, a confidence means what it says.",
    "risk_coverage": "Error rate when only the most confident share is answered, with 95 % interval by group.",
    "tasks": "Spearman's correlation of each predicted number with 95 % interval by group.",
    "confidence": "Confidence of right and wrong answers of the final network.",
    "samples": "Test samples with the smallest, the median and the largest error: true and predicted curves.",
    "per_point": "Error along the axis, final beside the baselines, with 95 % interval by group.",
    "agreement": "Predicted against true values of the test fold; on the diagonal they agree.",
}
"""Figure name (also its file name) to its caption."""


def build_sections(report: Report, figures: Iterable[str], details: Details | None = None) -> list[Section]:
    """Return the sections that the report has content for, what matters most first.

    Args:
        report: A valid report.
        figures: Names of the figures at hand; names that no section knows come under "More figures".
        details: Content of the files beside report.json that say more, see `shared.report.details`.
    """
    at_hand = list(figures)
    builders: tuple[Callable[[Report], Section], ...] = (
        _results, _audit, _parts, tasks_section, _crossover, _curves, _classes, _channels, _checks, _calibration,
        risk_section, _data, _cost, _artifacts, _warnings,
    )  # fmt: skip
    sections = []
    for section in (add_details(build(report), details or {}) for build in builders):
        drawn = tuple(name for name in section.figures if name in at_hand)
        if section.text or section.tables or drawn:
            sections.append(Section(section.title, section.text, section.tables, drawn))
    placed = {name for section in sections for name in section.figures}
    if more := tuple(name for name in at_hand if name not in placed):
        sections.append(Section("More figures", figures=more))
    return sections


def _results(report: Report) -> Section:
    models, baselines = report.get("models", []), report.get("baselines", [])
    against_best = [(f"{wording.METRIC_NAMES[key]} minus best_single", "diff_to_best_single", key) for key in _COMPARED]
    metric = wording.main_metric(report)
    against_final = [(f"final minus row ({wording.METRIC_NAMES[metric]})", "diff_to_final", metric)]
    remark = "Differences are paired." + (" Only final is calibrated." if "calibration" in report else "")
    tables = [
        _scores("network", report, models, against_best, remark),
        _scores("baseline", report, baselines, against_final, "The difference is paired."),
    ]
    return Section("Results on the test fold", tables=[table for table in tables if table.rows], figures=("rows",))


_COMPARED = ("accuracy", "f1_macro", "auroc_macro", "nll", "r2", "rmse")


def _scores(
    kind: str,
    report: Report,
    rows: Sequence[Mapping[str, Any]],
    differences: Sequence[tuple[str, str, str]],
    remark: str,
) -> Table:
    """One table of rows with all their metrics, then their differences: (words, key of the row, metric)."""
    keys = [key for key in wording.METRIC_NAMES if any(key in row["metrics"] for row in rows)]
    cells = [
        (
            Cell(row["name"]),
            *(cell(row["metrics"].get(key), metric=key) for key in keys),
            *(cell(row.get(part, {}).get(metric), signed=True, metric=metric) for _, part, metric in differences),
        )
        for row in rows
    ]
    columns = (kind, *(wording.metric_words(key, report) for key in keys), *(words for words, _, _ in differences))
    note = interval_note(entry for row in rows for entry in row["metrics"].values())
    return without_empty_columns(Table(columns, cells, f"{note} {remark}"))


def _audit(report: Report) -> Section:
    audit = report.get("audit", [])
    if not audit:
        return Section("Shortcut audit", figures=("audit",))
    warned = [row["feature"] for row in wording.shortcut_rows(audit)]
    text = [
        f"Warning: {', '.join(warned)} alone gives the label away."
        if warned
        else "No feature alone gives the label away."
    ]
    rows = []
    for row in sorted(audit, key=lambda row: -(row["auroc"] or 0.0)):
        entry = {"value": row["auroc"], "lo": row["lo"], "hi": row["hi"], "n_groups": 0, "method": "no interval"}
        rows.append((Cell(row["feature"]), cell(entry), Cell(wording.number(row["p_value"])), Cell(row["verdict"])))
    note = "Defect against normal given the kind; a shortcut is a feature whose interval lies above the warn line."
    table = Table(("feature", "AUROC alone", "p", "verdict"), rows, note)
    return Section("Shortcut audit", text, [table], ("audit",))


def _parts(report: Report) -> Section:
    parts: Mapping[str, Any] = report.get("per_group", {})
    metric = wording.main_metric(report)
    words = wording.METRIC_NAMES[metric]
    named = wording.named_subsets(report)
    order = [*(["all"] if "all" in parts else []), *named, *(n for n, part in parts.items() if "column" in part)]
    names = list(dict.fromkeys(row for name in order for row in parts[name]["rows"]))
    rows = [
        (
            Cell(name),
            Cell(f"{parts[name]['n']:,}"),
            Cell(f"{parts[name]['groups']:,}"),
            *(cell(parts[name]["rows"].get(row, {}).get(metric)) for row in names),
            *(cell(parts[name].get("diff_to_final", {}).get(row, {}).get(metric), signed=True) for row in names),
        )
        for name in order
    ]
    columns = ("part", "samples", "groups", *(f"{n}: {words}" for n in names), *(f"final minus {n}" for n in names))
    note = "Differences are paired: both rows on the same groups."
    if metric == "f1_macro":
        note = "Macro-F1 over the classes that occur in the part. " + note
    tables = [without_empty_columns(Table(columns, rows, note))] if rows else []
    title = f"Parts of the test fold: {', '.join(named)}" if named else "Parts of the test fold"
    return Section(title, tables=tables, figures=("subsets",))


def _crossover(report: Report) -> Section:
    part = report.get("crossover")
    if part is None:
        return Section(CROSSOVER, figures=("sweet_spots",))
    sources = ", ".join(f"{group} from epoch {epoch}" for group, epoch in part["sources"].items())
    pairs = [
        ("decision", part["decision"]),
        ("reason", part["reason"]),
        ("candidates tried", f"{part['n_candidates']:,}"),
        ("gain on val", _loss(part["gain_val"])),
        ("gain on val that luck alone gives such a search", _loss(part["expected_luck"])),
        ("gain on accept", _loss(part["gain_accept"])),
        ("smallest gain that accept could have seen", _loss(part["smallest_detectable"])),
        ("final is made of", sources or wording.NO_VALUE),
    ]
    return Section(CROSSOVER, tables=[facts(pairs)], figures=("sweet_spots",))


def _loss(value: float | None) -> str:
    return wording.NO_VALUE if value is None else f"{value:+.4f}"


def _curves(report: Report) -> Section:
    return Section("Curves", figures=("curves",))


def _classes(report: Report) -> Section:
    classes = report.get("per_class", {})
    rows = [
        (
            Cell(name),
            cell(part["f1"]),
            cell(part["precision"]),
            cell(part["recall"]),
            Cell(f"{part['support']:,}"),
        )
        for name, part in classes.items()
    ]
    note = interval_note(part["f1"] for part in classes.values())
    tables = [Table(("class", "F1", "precision", "recall", "samples"), rows, note)] if rows else []
    return Section("Classes", tables=tables, figures=("per_class", "confusion"))


def _channels(report: Report) -> Section:
    """Scores of each channel of a predicted curve, and how the error runs along the axis."""
    channels = report.get("per_channel", {})
    keys = list(dict.fromkeys(key for scores in channels.values() for key in scores))
    rows = [(Cell(name), *(cell(scores[key], metric=key) for key in keys)) for name, scores in channels.items()]
    note = interval_note(entry for scores in channels.values() for entry in scores.values())
    columns = ("channel", *(wording.metric_words(key, report) for key in keys))
    tables = [Table(columns, rows, note)] if rows else []
    return Section("Curves predicted by final", tables=tables, figures=("samples", "per_point", "agreement"))


def _checks(report: Report) -> Section:
    rows = [
        (Cell(check["name"]), Cell(check["row"]), Cell(f"{check['violations']:,} of {check['n']:,}"),
         cell(check["share"]), Cell(f"{check['worst']:.2g}"))
        for check in report.get("checks", [])
    ]  # fmt: skip
    note = "The target's own violations tell about the data or the check; the worst is in the target's unit."
    tables = [Table(("check", "row", "samples that break it", "share", "worst by"), rows, note)] if rows else []
    return Section("What no sample can break", tables=tables)


def _calibration(report: Report) -> Section:
    figures = ("reliability", "confidence")
    confidence = report.get("per_group", {}).get("all", {}).get("confidence")
    tables = []
    text = []
    if part := report.get("calibration"):
        temperature = f", temperature {part['temperature']:.3f}" if part["temperature"] is not None else ""
        text.append(f"Method: {part['method']}{temperature}. {part['reason']}")
        scores = [key for key in CALIBRATION_SCORES if key in part["after"]]
        rows = [(Cell(when), *(cell(part[when][key]) for key in scores)) for when in ("before", "after")]
        columns = ("", *(CALIBRATION_SCORES[key] for key in scores))
        tables.append(Table(columns, rows, interval_note(part["after"].values())))
        if part["per_group"]:
            keys = list(dict.fromkeys(key for entry in part["per_group"].values() for key in entry))
            group_rows = [
                (Cell(name), *(Cell(_plain(entry.get(key))) for key in keys))
                for name, entry in part["per_group"].items()
            ]
            tables.append(Table(("group", *keys), group_rows))
    if confidence is not None:
        rows = [(Cell(f"{which} answers"), cell(confidence[which])) for which in ("right", "wrong")]
        tables.append(Table(("final", "mean confidence"), rows))
    return Section(CALIBRATION, text, tables, figures)


def _plain(value: float | None) -> str:
    if value is None:
        return wording.NO_VALUE
    return f"{value:,}" if isinstance(value, int) else wording.number(value)


def _tenths(value: float | None) -> str:
    return wording.NO_VALUE if value is None else f"{value:,.1f}"


def _data(report: Report) -> Section:
    data = report["data"]
    rows = [(Cell(fold), Cell(f"{size['n']:,}"), Cell(f"{size['groups']:,}")) for fold, size in data["folds"].items()]
    outcome = "nothing is shared between folds" if data["leakage"]["ok"] else "folds share samples"
    checked = (
        ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in data["leakage"]["checked"].items())
        or "nothing"
    )
    text = [f"Source: {data['source']} data. Leak guard over {checked}: {outcome}."]
    skipped = [": ".join(entry[key] for key in ("path", "reason") if key in entry) for entry in data["skipped"]]
    text += [f"Left out: {entry}" for entry in skipped[:_SKIPPED_SHOWN]]
    if len(skipped) > _SKIPPED_SHOWN:
        text.append(f"Left out: {len(skipped) - _SKIPPED_SHOWN:,} more, listed in report.json.")
    hashes = [(name, report[name]) for name in ("data_hash", "splits_hash", "config_hash")]
    return Section("Data", text, [Table(("fold", "samples", "groups"), rows), facts(hashes, ("hash", "value"))])


def _cost(report: Report) -> Section:
    pairs: list[tuple[str, str]] = []
    if part := report.get("cost"):
        pairs = [
            ("wall time", wording.duration(part["wall_s"])),
            ("training samples a second", _tenths(part["samples_per_s"])),
            *(
                [("ms a sample in the test pass", f"{part['test_ms_per_sample']:.3f}")]
                if part.get("test_ms_per_sample") is not None
                else []
            ),
            ("peak memory, MB", _tenths(part["peak_rss_mb"])),
            ("peak accelerator memory, MB", _tenths(part["peak_gpu_mb"])),
            ("out-of-memory events", _plain(part["oom_events"])),
        ]
    pairs += [(f"resume: {key}", str(value)) for key, value in report.get("resume", {}).items()]
    return Section("Cost", tables=[facts(pairs)] if pairs else [])


def _artifacts(report: Report) -> Section:
    pairs = list(report["artifacts"].items())
    return Section(
        "Artifacts", tables=[facts(pairs, ("artifact", "file in the run directory, or fact"))] if pairs else []
    )


def _warnings(report: Report) -> Section:
    return Section("Warnings", wording.unique_warnings(report) or ["None."])
