"""The whole ablation of one run: passes, comparisons, files."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from projects.redheart.ablation.answers import StoryAnswers
from projects.redheart.ablation.compare import compare, sentences
from projects.redheart.ablation.opened_run import OpenedRun, answer_test, check_against_run, load_story_run, open_run
from projects.redheart.ablation.pages import print_ablation, write_ablation
from projects.redheart.ablation.retrain import ALL, retrained_answers
from shared.callbacks.interruption import interruptible
from shared.errors import ConfigError, DataError
from shared.run_dir import RunDirectory
from shared.session import progress_bars

SCHEMA = 1
DRAWS = 2000
FOLDER, FILE = "ablation", "ablation.json"
NOTE = (
    "Worth is the network with everything minus the network without the module, its sign turned so that above 0 means "
    "the module helps; differences are paired story by story, intervals are 95 % by group. Switched off: the module's "
    "contribution leaves the fusion of the trained final network and the rest is weighed anew (of the backbone, its "
    "layers are skipped), its calibrator unchanged; the others have learned beside it, so a module that others can "
    "replace may still look needed. Retrained: trained without the analyzer from the same seed with the same number of "
    "epochs; one seed, so the spread between seeds is not in the interval; backbone and heads are only switched off. "
    "Holm's correction is made within each way by itself, over its own comparisons."
)


def ablate(
    path: Path, *, epochs: int | None = None, draws: int = DRAWS, quiet: bool = False, again: str = ""
) -> dict[str, Any]:
    """Switch off each module of a finished run and, where a budget is given, train without each.

    Args:
        path: Run directory.
        epochs: Budget of each retrained network, None to retrain none.
        draws: Of the bootstrap.
        quiet: Show nothing.
        again: How the command is given again, for the message of an interruption.

    Returns:
        Content of ablation.json, which stands in `<run>/ablation/`. Without a budget it keeps the retrained part of an
        earlier call about the same network.

    Raises:
        ConfigError: If an argument is wrong or the run has no module to switch off.
        CheckpointError: If the run cannot be opened, or its network no longer says what its test said.
        DataError: If the ablation.json that is there is damaged.
        LeakError: If the data or folds are not those of the run.
        RunInterrupted: A signal stopped it.
    """
    if epochs is not None and epochs < 1:
        raise ConfigError(f"--epochs is {epochs}, allowed: 1 or more")
    console = Console(file=sys.stderr, quiet=quiet)
    folder = RunDirectory.open(path).path / FOLDER
    with progress_bars(console) as progress, interruptible():
        opened = open_run(path, progress)
        if not opened.analyzers:
            raise ConfigError(f"{path} has no analyzer that could be switched off")
        full, without = switched_off_answers(opened, progress)
        content = _header(opened, draws)
        content["switched_off"] = part(opened, full, without, draws, progress)
        content |= kept_part(folder / FILE, opened.final_sha256)
    paths = write_ablation(folder, content)  # what takes hours comes next, and may be stopped
    if epochs is not None:
        content["retrained"] = _retrained(path, opened.analyzers, epochs, draws, console, again)
        paths = write_ablation(folder, content)
    if not quiet:
        print_ablation(content, Console())
        console.print(f"ablation: {paths['ablation.json'].parent}", markup=False)
    return content


def kept_part(path: Path, final_sha256: str) -> dict[str, Any]:
    """The retrained part of an earlier ablation of the same network, which took hours and still holds.

    Args:
        path: ablation.json, which may not be there.
        final_sha256: Of the network now.

    Returns:
        {"retrained": the part}, or nothing where there is none, or it is of another network.

    Raises:
        DataError: If the file is damaged.
    """
    if not path.is_file():
        return {}
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        same = before["final_sha256"] == final_sha256
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error!r}); remove it and ablate again") from error
    return {"retrained": before["retrained"]} if same and "retrained" in before else {}


def _header(opened: OpenedRun, draws: int) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "run": opened.loaded.run.path.name,
        "final_sha256": opened.final_sha256,
        "seed": opened.loaded.settings.seed,
        "draws": draws,
        "modules": list(opened.switches),
        "note": NOTE,
    }


def switched_off_answers(opened: OpenedRun, progress: Any) -> tuple[StoryAnswers, dict[str, StoryAnswers]]:
    """Answers with everything, checked against the run's own test, and without each module."""
    full = answer_test(opened)
    check_against_run(opened, full)
    without = {}
    for done, module in enumerate(opened.switches):
        without[module] = answer_test(opened, off=(module,))
        progress("test fold without each module", done + 1, len(opened.switches))
    return full, without


def part(
    opened: OpenedRun, full: StoryAnswers, without: Mapping[str, StoryAnswers], draws: int, progress: Any
) -> dict[str, Any]:
    """Rows, number of comparisons and sentences of one way of ablation."""
    rows = compare(
        full, without, seed=opened.loaded.settings.seed, draws=draws,
        advance=lambda done, total: progress("differences with intervals", done, total),
    )  # fmt: skip
    tested = sum(row["p_value"] is not None for row in rows)
    return {"comparisons": tested, "draws": draws, "rows": rows, "sentences": sentences(rows)}


def _retrained(
    path: Path, modules: tuple[str, ...], epochs: int, draws: int, console: Console, again: str
) -> dict[str, Any]:
    """Train without each module, or take over what is trained, and compare."""
    answers: dict[str, StoryAnswers] = {}
    runs: dict[str, str] = {}

    def say(sentence: str) -> None:
        console.print(sentence, markup=False)

    loaded = load_story_run(path)
    made = retrained_answers(
        loaded, modules, epochs, say, lambda *_: None, quiet=console.quiet, again=again
    )  # fmt: skip
    for name, run, found in made:
        answers[name], runs[name] = found, run
    with progress_bars(console) as progress, interruptible():
        opened = open_run(path, progress)
        without = {name: found for name, found in answers.items() if name != ALL}
        return part(opened, answers[ALL], without, draws, progress) | {"epochs": epochs, "runs": runs}
