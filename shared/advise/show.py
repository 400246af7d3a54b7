"""Advice for people, as tables, and for machines, as JSON; nothing in a run's name is read as markup."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.advise.compare import Comparison, Factor
from shared.advise.compose import written
from shared.advise.suggest import Advice, Suggestion
from shared.advise.verdict import Verdict

SCHEMA = 1
_STYLES = {"healthy": "green", "running": "cyan", "too_short": "dim", "interrupted": "yellow", "died": "yellow"}
_MAX_LISTED = 12


def print_advice(
    verdicts: Sequence[Verdict],
    comparisons: Sequence[Comparison],
    advice: Advice,
    passed: Sequence[str],
    console: Console,
) -> None:
    """Print everything."""
    for sentence in passed:
        console.print(Text.assemble(("note: ", "dim"), sentence))
    console.print(_runs_table(verdicts))
    for verdict in verdicts:
        _print_verdict(verdict, console)
    for comparison in comparisons:
        _print_comparison(comparison, console)
    console.print()
    if not advice.suggestions:
        console.print(Text(_nothing(verdicts), style="bold"))
    else:
        console.print(Text("Next runs, the most promising first", style="bold"))
    for number, suggestion in enumerate(advice.suggestions, 1):
        _print_suggestion(number, suggestion, console)
    for idea in advice.ideas:
        console.print(Text.assemble(("idea, not runnable: ", "italic"), idea))
    for sentence in advice.dropped:
        console.print(Text.assemble(("not suggested: ", "dim"), (sentence, "dim")))


def as_json(
    verdicts: Sequence[Verdict], comparisons: Sequence[Comparison], advice: Advice, passed: Sequence[str]
) -> dict[str, Any]:
    """Everything as plain containers; numbers that are not finite are None."""
    return _plain({
        "schema": SCHEMA,
        "runs": [_run(verdict) for verdict in verdicts],
        "passed_over": list(passed),
        "comparisons": [
            {"project": c.project, "monitor": c.monitor, "mode": c.mode, "left_out": c.left_out,
             "runs": [{"run": str(r.path), "value": v} for r, v in zip(c.records, c.values, strict=True)],
             "factors": [asdict(factor) for factor in c.factors]} for c in comparisons],
        "suggestions": [
            {"rank": rank, "run": str(s.run), "words": s.words, "overrides": s.overrides,
             "receipt": {"rule": s.rule, "sentence": s.receipt, "window": s.window, "numbers": s.numbers},
             "command": None if s.command is None else s.command.arguments(),
             "notes": () if s.command is None else s.command.notes}
            for rank, s in enumerate(advice.suggestions, 1)],
        "ideas": advice.ideas, "dropped": advice.dropped,
    })  # fmt: skip


def command_line(suggestion: Suggestion) -> str:
    """What to type to start a suggestion."""
    assert suggestion.command is not None
    return shlex.join(["python", *suggestion.command.arguments()])


def _runs_table(verdicts: Sequence[Verdict]) -> Table:
    caption = Text("losses: first>last, val first>best@epoch>last", style="dim")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, caption=caption, caption_justify="left")
    table.add_column("run", no_wrap=True, min_width=22)
    table.add_column("epochs", justify="right", no_wrap=True, min_width=6)
    for name in ("train loss", "val loss"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True, min_width=11)
    for verdict in verdicts:
        record, curves = verdict.record, verdict.record.curves
        cells = [record.name, f"{len(curves)}/{curves.max_epochs or '?'}", *_courses(verdict)]
        style = _STYLES.get(verdict.name, "red")
        table.add_row(*(Text(cell) for cell in cells), Text(verdict.name.replace("_", " "), style=style))
    return table


def _courses(verdict: Verdict) -> tuple[str, str]:
    """Train and val loss in a few characters; the best val with its epoch."""
    train, val = verdict.train, verdict.val
    return (
        "-" if train is None else f"{train.first:.3g}>{train.last:.3g}",
        "-" if val is None else f"{val.first:.3g}>{val.best:.3g}@{val.best_epoch}>{val.last:.3g}",
    )


def _print_verdict(verdict: Verdict, console: Console) -> None:
    window = verdict.findings[0].window if verdict.findings else None
    where = f" [epochs {window[0]}-{window[1]}]" if window else ""
    name = Text.assemble((verdict.record.name, "bold"), ": ", verdict.sentence, (where, "dim"))
    console.print(name, soft_wrap=False)
    for note in verdict.record.notes:
        console.print(Text(f"  note: {note}", style="dim"))


def _print_comparison(comparison: Comparison, console: Console) -> None:
    better = "higher" if comparison.mode == "max" else "lower"
    title = (
        f"{comparison.project}: {len(comparison.records)} finished runs by {comparison.monitor} ({better} is better)"
    )
    console.print()
    console.print(Text(title, style="bold"))
    varied = [key for factor in comparison.factors for key in factor.keys]
    for record, value in list(zip(comparison.records, comparison.values, strict=True))[:_MAX_LISTED]:
        settings = ", ".join(f"{key}={written(record.value(key))}" for key in varied[:3])
        console.print(Text(f"  {value:.4g}  {record.name}  {settings}"))
    if len(comparison.records) > _MAX_LISTED:
        console.print(Text(f"  ... and {len(comparison.records) - _MAX_LISTED} more"))
    if not comparison.factors:
        console.print(Text("  the same settings in all of them"))
    for factor in comparison.factors:
        console.print(Text(f"  {factor.sentence}"))
        for level in factor.levels[:_MAX_LISTED]:
            console.print(Text(f"      {_level(level, factor)}", style="dim"))
    if comparison.left_out:
        console.print(Text(f"  left out, not finished: {', '.join(comparison.left_out)}", style="dim"))


def _print_suggestion(number: int, suggestion: Suggestion, console: Console) -> None:
    overrides = " ".join(suggestion.overrides) or "(no configuration to change: by hand)"
    console.print(Text.assemble(f"{number}. ", (overrides, "bold cyan")))
    console.print(Text(f"   {suggestion.words}"))
    where = f", epochs {suggestion.window[0]}-{suggestion.window[1]}" if suggestion.window else ""
    console.print(
        Text(
            f"   because {suggestion.rule.replace('_', ' ')} in {suggestion.run.name}{where}: {suggestion.receipt}",
            style="dim",
        )
    )
    if suggestion.command is not None:
        for note in suggestion.command.notes:
            console.print(Text(f"   note: {note}", style="dim"))


def _nothing(verdicts: Sequence[Verdict]) -> str:
    names = {verdict.name for verdict in verdicts}
    if names == {"healthy"}:
        return "Nothing needs doing: no rule fired on any of these runs."
    if names <= {"healthy", "running"}:
        return "Nothing to suggest while the runs go on."
    return "Nothing to suggest: what was found has no remedy among the settings."


def _level(level: dict[str, Any], factor: Factor) -> str:
    values = ", ".join(level["values"][:3])
    runs = f"{level['runs']} run{'s' * (level['runs'] != 1)}"
    return f"{values}: median {level['median']:.4g}, best {level['best']:.4g} ({runs})"


def _run(verdict: Verdict) -> dict[str, Any]:
    record = verdict.record
    key, mode = record.monitor
    best = record.best(key, mode)
    return {
        "run": str(record.path), "project": record.project, "state": record.state, "epochs": len(record.curves),
        "max_epochs": record.curves.max_epochs, "verdict": verdict.name, "sentence": verdict.sentence,
        "findings": [asdict(finding) for finding in verdict.findings],
        "train_loss": None if verdict.train is None else asdict(verdict.train) | {"improved": verdict.train.improved},
        "val_loss": None if verdict.val is None else asdict(verdict.val) | {"improved": verdict.val.improved},
        "monitor": None if best is None else {"key": key, "mode": mode, "best": best[0], "epoch": best[1]},
        "notes": record.notes,
    }  # fmt: skip


def _plain(node: Any) -> Any:
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_plain(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node
