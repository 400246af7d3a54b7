"""The cross-validation in words: the table in the terminal and cross_validation.md."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.report import wording
from shared.report.evaluation import FINAL

HEADINGS = {
    "auroc": "AUROC",
    "accuracy": "accuracy",
    "f1_macro": "macro-F1",
    "f1_positive": "F1 defective",
    "nll": "NLL",
    "ece": "ECE",
    "auroc_within_rounds": "AUROC within rounds",
}
WORDS = {
    "final": "final (certified, calibrated)",
    "last": "last epoch instead of the chosen one",
    "best_single": "best single checkpoint, uncalibrated",
    "ema": "moving average of the weights",
    "uniform_soup": "mean of all snapshots",
    "greedy_soup": "greedy soup",
    "lawa": "mean of the latest snapshots",
    "crossover": "sweet-spot crossover as found, not certified",
    "image_only": "image_only head",
    "metadata_only": "metadata_only head",
    "floor_pixels": "floor: forest on pixels",
    "floor_pixels_kind": "floor: forest on pixels and type",
}
MAIN_FLOOR = "floor_pixels"


def verdict(content: Mapping[str, Any]) -> str:
    """Say in one sentence whether the network clears the floor, as far as the paired interval carries."""
    difference = content["differences"][MAIN_FLOOR]["auroc"]
    amount = f"AUROC {wording.value_with_interval(difference, signed=True)}"
    if difference["lo"] is None or difference["hi"] is None:
        return f"Whether the network clears the floor is open, {amount}."
    if difference["lo"] > 0:
        return f"The network clears the floor on the same folds, {amount}."
    if difference["hi"] < 0:
        return f"The network stays below the floor on the same folds, {amount}."
    return f"The network does not clear the floor: no difference is seen on the same folds, {amount}."


def print_summary(content: Mapping[str, Any], console: Console) -> None:
    """Print all samples, then rounds and kinds apart, then what sets the published numbers apart, then the verdict."""
    console.print(summary_table(content))
    console.print(parts_table(content))
    console.print("Beside the literature:", style="bold")
    for sentence in content["protocol_differences"]:
        console.print(f"  {sentence}", markup=False, highlight=False)
    for sentence in content["warnings"]:
        console.print(f"warning: {sentence}", markup=False, highlight=False)
    console.print(verdict(content), style="bold", markup=False, highlight=False)


def parts_table(content: Mapping[str, Any]) -> Table:
    """Return the AUROC of final, its image-only head and the floor in each round and on each kind."""
    table = Table(title=Text("AUROC by round and by kind"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    names = [name for name in (FINAL, "image_only", MAIN_FLOOR) if name in content["rows"]]
    for name in ("", "tested", *names, "final minus floor"):
        table.add_column(name)
    for part in content["rounds"]:
        values = [part["rows"][name]["auroc"] for name in names]
        gap = part["rows"][FINAL]["auroc"] - part["rows"][MAIN_FLOOR]["auroc"]
        cells = [wording.number(value) for value in values]
        table.add_row(f"round {part['round']}", str(part["tested"]), *cells, wording.number(gap, signed=True))
    for kind, part in content["kinds"].items():
        cells = [_stacked(part["rows"][name]["auroc"]) for name in names]
        gap = part["differences"].get(MAIN_FLOOR)
        table.add_row(kind, str(part["n"]), *cells, "" if gap is None else _stacked(gap["auroc"], signed=True))
    return table


def summary_table(content: Mapping[str, Any]) -> Table:
    """Return the scores on all samples; the table fits 100 columns."""
    table = Table(
        title=Text(f"{content['project']} / {content['experiment']}, {_subject(content)}"), title_justify="left",
        caption=Text(content["interval_note"], style="dim"), caption_justify="left",
        box=box.SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    for name in ("", "AUROC", "accuracy", "F1 defective", "AUROC of final minus row"):
        table.add_column(name, overflow="fold", justify="left")
    for name, row in content["rows"].items():
        difference = content["differences"].get(name)
        cells = [_stacked(row[metric]) for metric in ("auroc", "accuracy", "f1_positive")]
        last = "" if difference is None else _stacked(difference["auroc"], signed=True)
        table.add_row(Text(WORDS.get(name, name)), *cells, last, style="bold" if name == FINAL else "")
    for entry in content["literature"]:
        table.add_row(Text(f"literature: {entry['name']}"), "", f"{entry['accuracy']:.3f}", "", "other protocol")
    return table


def markdown(content: Mapping[str, Any], figure: str) -> str:
    """Return cross_validation.md.

    Args:
        content: Content of cross_validation.json.
        figure: Path of the ROC figure, relative to the page.
    """
    sections = [
        f"# {content['experiment']}: cross-validation\n\n{verdict(content)}\n\n{_subject(content)}. "
        f"{content['interval_note']}",
        "## All samples\n\n" + _all_rows(content) + f"\n\n![ROC curves]({figure})",
        "## Final minus row, paired\n\n" + _differences(content),
        "## Rounds\n\nAUROC of each row on the samples that a round tested.\n\n" + _rounds(content),
        "## Kinds\n\n" + _kinds(content),
        "## Beside the literature\n\n" + _literature(content),
    ]
    if content["warnings"]:
        sections.append("## Warnings\n\n" + "\n".join(f"- {sentence}" for sentence in content["warnings"]))
    return "\n\n".join(sections) + "\n"


def _subject(content: Mapping[str, Any]) -> str:
    return f"{content['n']:,} samples, each tested once in {len(content['rounds'])} rounds, seed {content['seed']}"


def _stacked(entry: Mapping[str, Any], signed: bool = False) -> str:
    return f"{wording.number(entry['value'], signed)}\n{wording.interval(entry, signed)}"


def _grid(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _all_rows(content: Mapping[str, Any]) -> str:
    rows = [
        [WORDS.get(name, name), *(wording.value_with_interval(row[metric]) for metric in HEADINGS)]
        for name, row in content["rows"].items()
    ]
    return _grid(["row", *HEADINGS.values()], rows)


def _differences(content: Mapping[str, Any]) -> str:
    rows = [
        [WORDS.get(name, name), *(wording.value_with_interval(row[metric], signed=True) for metric in HEADINGS)]
        for name, row in content["differences"].items()
    ]
    return _grid(["row", *HEADINGS.values()], rows)


def _rounds(content: Mapping[str, Any]) -> str:
    names = list(content["rows"])
    rows = [
        [str(part["round"]), str(part["trained"]), str(part["tested"])]
        + [wording.number(part["rows"][name]["auroc"]) for name in names]
        for part in content["rounds"]
    ]
    return _grid(["round", "in train", "tested", *names], rows)


def _kinds(content: Mapping[str, Any]) -> str:
    rows = []
    for kind, part in content["kinds"].items():
        for name, row in part["rows"].items():
            difference = part["differences"].get(name)
            last = "" if difference is None else wording.value_with_interval(difference["auroc"], signed=True)
            scores = [wording.value_with_interval(row[metric]) for metric in ("auroc", "accuracy")]
            rows.append(
                [f"{kind} (n = {part['n']}, {part['positive']} defective)", WORDS.get(name, name), *scores, last]
            )
    return _grid(["kind", "row", "AUROC", "accuracy", "AUROC of final minus row"], rows)


def _literature(content: Mapping[str, Any]) -> str:
    final = content["rows"][FINAL]["accuracy"]
    rows = [["ours, final", wording.value_with_interval(final), "this run"]]
    rows += [[WORDS[MAIN_FLOOR], wording.value_with_interval(content["rows"][MAIN_FLOOR]["accuracy"]), "this run"]]
    rows += [[entry["name"], f"{entry['accuracy']:.3f}", entry["source"]] for entry in content["literature"]]
    notes = "\n".join(f"- {sentence}" for sentence in content["protocol_differences"])
    return _grid(["method", "accuracy", "source"], rows) + f"\n\n{notes}"
