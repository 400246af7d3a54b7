"""The ranked list of next runs: each with its receipt, each composed and checked, none that was tried before."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.advise.compare import Comparison
from shared.advise.compose import Command, ready, written
from shared.advise.moves import Move, ideas, moves
from shared.advise.records import Record
from shared.advise.rules import GRAVITY, Finding
from shared.advise.verdict import Verdict
from shared.config import differing_keys
from shared.errors import UserError

MAX_SUGGESTIONS = 6
"""More would be a menu, not advice."""
_WENT_WRONG = ("nan", "diverged", "dead", "lr_too_high", "lr_too_low", "too_short")
SEARCHED = ("optimizer.lr", "optimizer.weight_decay")
"""Settings with a scale: where several values were tried, the next one follows from the best."""


@dataclass(frozen=True)
class Suggestion:
    """One next run.

    Attributes:
        run: The run that it changes.
        words: What changes and why it may help.
        overrides: What carries it out, beside the run's own; empty where there is no configuration to change.
        rule: The rule that fired, or the comparison that it comes from.
        receipt: What the rule saw.
        window: First and last epoch of what it saw, where it looked at a curve.
        numbers: What it measured.
        command: What starts it; None where it cannot be started from here.
    """

    run: Path
    words: str
    overrides: tuple[str, ...]
    rule: str
    receipt: str
    window: tuple[int, int] | None
    numbers: dict[str, float]
    command: Command | None


@dataclass(frozen=True)
class Advice:
    """All that is suggested.

    Attributes:
        suggestions: Next runs, the most promising first; empty where nothing needs doing.
        ideas: Sketches in words that no override can carry out.
        dropped: Sentences on moves that were thought of and refused, and why.
    """

    suggestions: tuple[Suggestion, ...]
    ideas: tuple[str, ...]
    dropped: tuple[str, ...]


def suggest(verdicts: Sequence[Verdict], comparisons: Sequence[Comparison]) -> Advice:
    """Next runs for what was found: from each project's best run, or from its gravest where none finished."""
    records = [verdict.record for verdict in verdicts]
    thought = [*_resumed(verdicts)]
    sketches: list[str] = []
    for verdict in _bases(verdicts, comparisons):
        thought += _from_findings(verdict)
        sketches += [idea for finding in verdict.findings for idea in ideas(finding)]
    for comparison in comparisons:
        thought += _from_comparison(comparison, verdicts)
    taken: list[Suggestion] = []
    dropped: list[str] = []
    for record, move, rule, receipt, window, numbers in thought:
        if len(taken) == MAX_SUGGESTIONS:
            break
        known = {(other.run, other.overrides) for other in taken if other.overrides}
        if (record.path, move.overrides) in known:
            continue
        if (other := _tried(record, move, records)) is not None:
            dropped.append(f"{' '.join(move.overrides)}: tried already, in {other.name}")
            continue
        try:
            command = _command(record, move)
        except UserError as error:
            dropped.append(f"{' '.join(move.overrides)}: {error}")
            continue
        overrides = () if command is None else move.overrides
        taken.append(Suggestion(record.path, move.words, overrides, rule, receipt, window, dict(numbers), command))
    return Advice(tuple(taken), tuple(dict.fromkeys(sketches)), tuple(dropped))


_Thought = tuple[Record, Move, str, str, tuple[int, int] | None, dict[str, float]]


def _resumed(verdicts: Sequence[Verdict]) -> Iterator[_Thought]:
    """Runs that stopped before their end go on where they were."""
    for verdict in verdicts:
        record = verdict.record
        # A run that goes wrong is not worth finishing, and one without a checkpoint has nothing to go on from.
        if record.state not in ("interrupted", "died") or verdict.findings or record.project is None:
            continue
        if (record.path / "checkpoints" / "last.ckpt").is_file():
            move = Move(
                "finish this run: it goes on from its last checkpoint", (f"resume={written(str(record.path))}",)
            )
            yield record, move, record.state, verdict.sentence, None, {}


def _bases(verdicts: Sequence[Verdict], comparisons: Sequence[Comparison]) -> list[Verdict]:
    """The run of each project from which to go on: the best by the monitor, otherwise the gravest."""
    best = {comparison.records[0].path for comparison in comparisons}
    compared = {record.path for comparison in comparisons for record in comparison.records}
    projects = {comparison.project for comparison in comparisons}
    found = [verdict for verdict in verdicts if verdict.record.path in best]
    rest = [v for v in verdicts if v.record.path not in compared and v.record.project not in projects and v.findings]
    for project in dict.fromkeys(verdict.record.project for verdict in rest):
        own = [verdict for verdict in rest if verdict.record.project == project]
        # Bare logs belong to no project and to no other: each speaks for itself.
        found += own if project is None else [min(own, key=lambda verdict: GRAVITY.index(verdict.findings[0].rule))]
    return sorted(
        found, key=lambda verdict: GRAVITY.index(verdict.findings[0].rule) if verdict.findings else len(GRAVITY)
    )


def _from_findings(verdict: Verdict) -> Iterator[_Thought]:
    for finding in verdict.findings:
        for move in moves(finding, verdict.record) or _in_words(finding, verdict.record):
            yield verdict.record, move, finding.rule, finding.sentence, finding.window, dict(finding.numbers)


def _in_words(finding: Finding, record: Record) -> list[Move]:
    """For a log without configuration: what to change, in words."""
    if record.config is not None:
        return []
    words = {
        "nan": "a tenth of the learning rate, or clipped gradients",
        "diverged": "a tenth of the learning rate",
        "lr_too_high": "a third of the learning rate",
        "dead": "a tenth of the learning rate, then ten times: both ends look like this",
        "lr_too_low": "ten times the learning rate",
        "overfit": f"stop around epoch {finding.numbers.get('best_epoch', 0):g}, or more weight decay and augmentation",
        "underfit": "twice the epochs",
        "plateau": "one decay of the rate to zero over the whole run, or another network",
    }.get(finding.rule)
    rates = record.curves.lr[record.curves.lr > 0]
    shown = f"; its highest rate was {rates.max():g}" if len(rates) and words and "rate" in words else ""
    return [Move(f"{words}{shown}", ())] if words else []


def _from_comparison(comparison: Comparison, verdicts: Sequence[Verdict]) -> Iterator[_Thought]:
    best = comparison.records[0]
    better = [factor for factor in comparison.factors if factor.verdict == "better"]
    changes = tuple(
        f"{key}={value}"
        for factor in better
        for key, value in zip(factor.keys, factor.best_values, strict=True)
        if written(best.value(key)) != value
    )
    if changes:
        receipt = "; ".join(factor.sentence for factor in better)
        yield best, Move("what went with better results, together", changes), "comparison", receipt, None, {}
    yield from _searched(comparison, verdicts)
    yield from _repeated(comparison, verdicts)


def _searched(comparison: Comparison, verdicts: Sequence[Verdict]) -> Iterator[_Thought]:
    """Further out where the best value tried is the outermost, between it and its better neighbour where not.

    A value with which the fit went wrong says nothing about its neighbourhood, only where not to go.
    """
    wrong = {v.record.path for v in verdicts if v.name in _WENT_WRONG}
    best = comparison.records[0]
    for key in SEARCHED:
        results: dict[float, float] = {}
        walls: list[float] = []
        for record, value in zip(comparison.records, comparison.values, strict=True):
            setting = record.value(key)
            differing = {other for other in differing_keys(best.config or {}, record.config or {}) if _counts(other)}
            if isinstance(setting, int | float) and setting > 0 and differing <= {key}:
                if record.path in wrong:
                    walls.append(float(setting))
                else:
                    results.setdefault(float(setting), value)
        if len(results) + len(walls) < 3 or best.value(key) not in results:
            continue
        told = ", ".join(f"{setting:g} gave {results[setting]:.4g}" for setting in sorted(results))
        spoiled = f"; the fit went wrong with {', '.join(f'{wall:g}' for wall in sorted(walls))}" if walls else ""
        numbers = {f"{setting:g}": result for setting, result in sorted(results.items())}
        receipt = f"{comparison.monitor} by {key}: {told}{spoiled}"
        for new, words in _next_values(results, float(best.value(key)), walls, comparison.mode):
            yield best, Move(words, (f"{key}={new:.2g}",)), "search", receipt, None, numbers


def _next_values(
    results: dict[float, float], best: float, walls: list[float], mode: str
) -> Iterator[tuple[float, str]]:
    """The values to try next and why, at most a factor of 3 away and half-way (in ratio) to where fits went wrong."""
    tried = sorted(results)
    at = tried.index(best)
    if 0 < at < len(tried) - 1:
        left, right = tried[at - 1], tried[at + 1]
        neighbour = right if (results[right] > results[left]) == (mode == "max") else left
        yield best * _step(neighbour / best), "from the best value tried towards its better neighbour"
        return
    for up in (True, False):
        if (at == len(tried) - 1) if up else (at == 0):
            beyond = [wall / best for wall in walls if (wall > best) == up and wall != best]
            nearest = min(beyond, key=lambda ratio: abs(math.log(ratio)), default=math.inf if up else 0.0)
            side = "above" if up else "below"
            yield best * _step(nearest), f"{side} the best value tried no other went well or was tried"


def _step(ratio: float) -> float:
    return min(3.0, max(1 / 3.0, math.sqrt(ratio)))


def _repeated(comparison: Comparison, verdicts: Sequence[Verdict]) -> Iterator[_Thought]:
    """The best run once more with another seed, where its lead may be the luck of one."""
    wrong = {v.record.path for v in verdicts if v.name in _WENT_WRONG}
    best = comparison.records[0]
    sound = [i for i, record in enumerate(comparison.records[1:], 1) if record.path not in wrong]
    if best.path in wrong or not sound:
        return
    second = comparison.records[sound[0]]
    seed = best.value("seed")
    seeds = {record.value("seed") for record in comparison.records if isinstance(record.value("seed"), int)}
    settled = any(factor.verdict == "better" for factor in comparison.factors)
    if settled or not isinstance(seed, int) or not comparison.factors:
        return
    receipt = (
        f"{comparison.monitor} is {comparison.values[0]:.4g} in {best.name} and {comparison.values[sound[0]]:.4g} in "
        f"{second.name}, and no setting is proven better"
    )
    numbers = {"best": comparison.values[0], "second": comparison.values[sound[0]]}
    move = Move("the best run with another seed: is its lead more than luck?", (f"seed={max(seeds) + 1}",))
    yield best, move, "repeat", receipt, None, numbers


def _tried(record: Record, move: Move, records: Sequence[Record]) -> Record | None:
    """A run that differs from `record` by just this move."""
    wanted = dict(text.split("=", 1) for text in move.overrides if text.partition("=")[0] != "resume")
    if not wanted or record.config is None:
        return None
    for other in records:
        if other.config is None or other.project != record.project or other is record:
            continue
        differing = {key for key in differing_keys(record.config, other.config) if _counts(key)}
        if differing == set(wanted) and all(_same(written(other.value(key)), text) for key, text in wanted.items()):
            return other
    return None


def _same(a: str, b: str) -> bool:
    try:
        return math.isclose(float(a), float(b), rel_tol=0.02)
    except ValueError:
        return a == b


def _counts(key: str) -> bool:
    """Whether a differing key makes another experiment of it."""
    from shared.advise.compare import NO_SETTING

    return not any(key == root or key.startswith(f"{root}.") for root in NO_SETTING)


def _command(record: Record, move: Move) -> Command | None:
    if record.config is None or record.project is None:
        return None
    if len(move.overrides) == 1 and move.overrides[0].startswith("resume="):
        return Command(record.project, move.overrides)
    return ready(record, move.overrides)
