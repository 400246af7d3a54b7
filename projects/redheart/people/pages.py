"""Tables in the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from projects.redheart.people.export import EMOTION


def print_agreement(content: Mapping[str, Any], console: Console) -> None:
    """One line for the emotion and one for each score."""
    title = f"{len(content['raters'])} raters, {content['items']} stories (95 % by story)"
    table = Table("what", "alpha", "between raters", "with the network", "with the annotation", title=title)
    if EMOTION in content:
        found = content[EMOTION]
        table.add_row(EMOTION, said(found["alpha"]), "", said(found.get("model")), said(found.get("annotation")))
    for column, found in content["scores"].items():
        parts = [said(found[name]) for name in ("alpha", "between_raters", "model", "annotation")]
        table.add_row(column, *parts)
    console.print(table)
    console.print("alpha: Krippendorff's, nominal for the emotion, interval for scores; scores: Spearman", markup=False)
    for note in content["notes"]:
        console.print(note, markup=False)


def print_calibration(content: Mapping[str, Any], console: Console) -> None:
    """Scores before and after, all subjects together, and whether the aims were met."""
    counts = content["n_per_fold"]
    title = (
        f"{content['n_subjects']} subjects, each left out once: measured on {counts['test']} ratings of the test fold, "
        f"fitted on others' among {counts['calibrate']} of the calibrate fold"
    )
    table = Table("score", "before", "after", "change", title=title)
    for name, found in content["scores"].items():
        table.add_row(name, said(found["before"]), said(found["after"]), said(found["change"]))
    console.print(table)
    for sentence in [*content["aims"].values(), *content["notes"]]:
        console.print(sentence, markup=False)


def said(estimate: Mapping[str, Any] | None) -> str:
    """An estimate as text for a rich table."""
    if estimate is None or estimate["value"] is None:
        return "--"
    value = f"{estimate['value']:.3f}"
    return value if estimate["lo"] is None else rf"{value} \[{estimate['lo']:.3f}, {estimate['hi']:.3f}]"
