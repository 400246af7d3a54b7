"""The cross-validation in words: the tables in the terminal and cross_validation.md."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from projects.spectra.cross_validation.first_weights import INIT_ROW
from shared.report import wording
from shared.report.evaluation import FINAL

HEADINGS = {
    "r2": "R²",
    "r2_uniform": "R², mean over outputs",
    "rmse": "RMSE",
    "mae": "MAE",
    "pearson": "Pearson",
    "peak_shift": "peak shift",
}
IN_TERMINAL = ("r2", "r2_uniform", "rmse", "peak_shift")
WORDS = {
    "final": "final",
    "last": "last epoch instead of the chosen one",
    "best_single": "best single checkpoint",
    "ema": "moving average of the weights",
    "uniform_soup": "mean of all snapshots",
    "greedy_soup": "greedy soup",
    "lawa": "mean of the latest snapshots",
    "crossover": "sweet-spot crossover as found, not certified",
    "ridge on Fourier orders": "ridge on Fourier orders, fitted on train only",
    "nearest neighbour": "nearest neighbour in train only",
    INIT_ROW: "first weights, no training here",
}


def words(row: str) -> str:
    """Return a row's name as readers see it."""
    return WORDS.get(row, row)


def against(content: Mapping[str, Any]) -> list[str]:
    """Return the rows that final is judged by: the floors and the first weights as they are."""
    return [name for name in content["differences"] if name.startswith("floor: ") or name == INIT_ROW]


def verdicts(content: Mapping[str, Any]) -> list[str]:
    """Say for each floor whether final is above it, as far as the paired interval carries."""
    found = []
    for name in against(content):
        difference = content["differences"][name]["r2"]
        amount = f"R² {wording.value_with_interval(difference, signed=True)}"
        row = words(name)
        if difference["lo"] is None or difference["hi"] is None:
            found.append(f"Whether final beats {row} is open, {amount}.")
        elif difference["lo"] > 0:
            found.append(f"final beats {row} on the same folds, {amount}.")
        elif difference["hi"] < 0:
            found.append(f"{row} beats final on the same folds, {amount}.")
        else:
            found.append(f"No difference is seen between final and {row} on the same folds, {amount}.")
    return found


def print_summary(content: Mapping[str, Any], console: Console) -> None:
    """Print all samples, then rounds and channels apart, then warnings and verdicts."""
    console.print(summary_table(content))
    console.print(parts_table(content))
    for sentence in content["warnings"]:
        console.print(f"warning: {sentence}", markup=False, highlight=False)
    for sentence in verdicts(content):
        console.print(sentence, style="bold", markup=False, highlight=False)


def summary_table(content: Mapping[str, Any]) -> Table:
    """Return the scores on all samples; the table fits 100 columns."""
    title = f"{content['project']} / {content['experiment']}, {_subject(content)}"
    table = _table(title, content["interval_note"])
    table.add_column("")
    for name in (*(_heading(metric, content) for metric in IN_TERMINAL), "R² of final minus row"):
        # An interval stays in one piece; names of rows give way.
        table.add_column(name, min_width=16 if name.endswith("row") else 14)
    for name, row in content["rows"].items():
        difference = content["differences"].get(name)
        last = "" if difference is None else _stacked(difference["r2"], signed=True)
        table.add_row(words(name), *(_stacked(row[metric]) for metric in IN_TERMINAL), last)
    return table


def parts_table(content: Mapping[str, Any]) -> Table:
    """Return R² of final and of what it is judged by, in each round and on each channel."""
    names = [FINAL, *against(content)]
    table = _table("R² by round and by channel")
    for name in ("", "tested", *(words(name) for name in names)):
        table.add_column(name)
    for part in content["rounds"]:
        cells = [wording.number(part["rows"][name]["r2"]) for name in names]
        table.add_row(f"round {part['round']}", str(part["tested"]), *cells)
    for channel, rows in content["per_channel"].items():
        table.add_row(channel, str(content["n"]), *(_stacked(rows[name]) for name in names))
    return table


def markdown(content: Mapping[str, Any], figures: Mapping[str, str]) -> str:
    """Return cross_validation.md.

    Args:
        content: Content of cross_validation.json.
        figures: Title to path relative to the page.
    """
    verdict = " ".join(verdicts(content)) or "There is no floor for this set."
    sections = [
        f"# {content['experiment']}: cross-validation\n\n{verdict}\n\n{_subject(content)}. {content['interval_note']}",
        "## All samples\n\n" + _grid(_headings("row", content), _score_rows(content["rows"], signed=False)),
        "## Final minus row, paired\n\n"
        + _grid(_headings("row", content), _score_rows(content["differences"], signed=True)),
        "## Channels\n\nR² of each row on each channel alone.\n\n" + _channels(content),
        "## Rounds\n\nR² and, after the stroke, RMSE of each row on the samples that a round tested.\n\n"
        + _rounds(content),
        "## Figures\n\n" + "\n\n".join(f"![{title}]({path})" for title, path in figures.items()),
        "## How\n\n" + "\n".join(f"- {sentence}" for sentence in _how(content)),
    ]
    if content["warnings"]:
        sections.append("## Warnings\n\n" + "\n".join(f"- {sentence}" for sentence in content["warnings"]))
    return "\n\n".join(sections) + "\n"


def _subject(content: Mapping[str, Any]) -> str:
    return (
        f"{content['n']:,} samples from {wording.groups(content['groups'])}, each tested once in "
        f"{len(content['rounds'])} rounds, seed {content['seed']}"
    )


def _how(content: Mapping[str, Any]) -> Iterator[str]:
    yield f"Floors are fitted on {content['floors']['trained_on']}."
    if content["floors"]["trees"] is not None:
        yield f"Extra trees: {content['floors']['trees']} trees of scikit-learn's default kind."
    if content["init_from"] is not None:
        yield f"Rounds begin with the final weights of {content['init_from']}, which has seen no sample from here."
    if content["same_as_final"]:
        yield f"The same curves as final, so not shown: {', '.join(words(name) for name in content['same_as_final'])}."
    if content["partial_rows"]:
        yield f"Rows of some rounds only, so not pooled: {', '.join(words(name) for name in content['partial_rows'])}."
    yield "predictions.npz holds the curves of every row (`curves/<row>`), target, sample_id, group, round and folds."


def _channels(content: Mapping[str, Any]) -> str:
    names = list(next(iter(content["per_channel"].values())))
    rows = [
        [channel, *(wording.value_with_interval(part[name]) for name in names)]
        for channel, part in content["per_channel"].items()
    ]
    return _grid(["channel", *(words(name) for name in names)], rows)


def _rounds(content: Mapping[str, Any]) -> str:
    names = list(content["rows"])
    rows = []
    for part in content["rounds"]:
        scores = (part["rows"][name] for name in names)
        rows.append(
            [str(part["round"]), str(part["trained"]), str(part["tested"])]
            + [str(part["fit"]["epochs"]), wording.duration(part["fit"]["seconds"])]
            + [f"{wording.number(score['r2'])} / {wording.number(score['rmse'])}" for score in scores]
        )
    return _grid(["round", "in train", "tested", "epochs", "fit", *(words(name) for name in names)], rows)


def _score_rows(part: Mapping[str, Any], signed: bool) -> list[list[str]]:
    return [
        [words(name), *(wording.value_with_interval(row[metric], signed) for metric in HEADINGS)]
        for name, row in part.items()
    ]


def _heading(metric: str, content: Mapping[str, Any]) -> str:
    unit = content["axis"]["unit"]
    return HEADINGS[metric] + (f", {unit}" if metric == "peak_shift" and unit else "")


def _headings(first: str, content: Mapping[str, Any]) -> list[str]:
    return [first, *(_heading(metric, content) for metric in HEADINGS)]


def _stacked(entry: Mapping[str, Any], signed: bool = False) -> str:
    return f"{wording.number(entry['value'], signed)}\n{wording.interval(entry, signed)}"


def _table(title: str, caption: str | None = None) -> Table:
    return Table(
        title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left",
        caption=None if caption is None else Text(caption, style="dim"),
    )  # fmt: skip


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
