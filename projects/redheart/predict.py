"""`python -m projects.redheart.predict RUN --text "..."` or `--file stories.json`: what a finished run says of stories.

Calibrated probabilities of the emotions and the scores of the other tasks, through the encoder that the run was trained
with.
"""

import argparse
import csv
import io
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.entry import exit_codes

if TYPE_CHECKING:
    from projects.redheart.data.stories import Stories
    from shared.loading import LoadedRun

TEXT_ID = "text"
"""Id of a story given on the command line."""


def main(argv: list[str] | None = None) -> None:
    """Run the command; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m projects.redheart.predict", description=__doc__)
    parser.add_argument("run", type=Path, help="finished run, for example outputs/redheart/latest")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--text", default=None, help="one story")
    what.add_argument("--file", type=Path, default=None, help="stories.json or .jsonl, as for training")
    parser.add_argument("--title", default="", help="of --text")
    parser.add_argument("--action", default="", help="of --text")
    parser.add_argument("--out", type=Path, default=None, help="predictions.json or .csv to write (standard output)")
    given = parser.parse_args(argv)
    with exit_codes():
        _predict(given)


def _predict(given: argparse.Namespace) -> None:
    from projects.redheart.ablation.opened_run import load_story_run
    from shared.atomic import write_text
    from shared.errors import ConfigError, DataError

    if given.out is not None and given.out.suffix not in (".json", ".csv"):
        raise ConfigError(f"--out is {given.out}, allowed: a file name that ends in .json or .csv")
    if given.file is not None and (given.title or given.action):
        raise ConfigError("--title and --action belong to --text; in a file each story has its own")
    if given.out is not None and given.file is not None and given.out.resolve() == given.file.resolve():
        raise ConfigError(f"{given.out} is the file of stories itself; give another name for the output")
    stories = read_texts(given.file) if given.file is not None else one_text(given.text, given.title, given.action)
    loaded = load_story_run(given.run)
    answers = predict_stories(loaded, stories)
    content = {"run": loaded.run.path.name, "encoder": encoder_name(loaded), "stories": answers}
    as_csv = given.out is not None and given.out.suffix == ".csv"
    text = predictions_csv(answers) if as_csv else json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    if given.out is None:
        print(text, end="", flush=True)
        return
    try:
        write_text(given.out, text)
    except OSError as error:
        raise DataError(f"{given.out} cannot be written ({error})") from error
    print(f"run: {loaded.run.path}")
    print(f"encoder: {content['encoder']}")
    print(f"predictions of {len(answers):,} stories: {given.out}", flush=True)


def one_text(text: str, title: str, action: str) -> "Stories":
    """One story from the command line.

    Raises:
        DataError: If the text is empty.
    """
    from projects.redheart.data.stories import stories_of
    from shared.errors import DataError

    if not text.strip():
        raise DataError("--text is empty; give at least one word")
    more = {name: value for name, value in (("title", title), ("action", action)) if value.strip()}
    return stories_of([{"id": TEXT_ID, "text": text, **more}], "--text")[0]


def read_texts(path: Path) -> "Stories":
    """Stories of a file in the form of the training data; of their labels nothing is used.

    Raises:
        DataError: If the file is missing or a story is wrong; the message names it.
    """
    from projects.redheart.data.stories import read_stories

    return read_stories(path)[0]


def predict_stories(loaded: "LoadedRun", stories: "Stories") -> list[dict[str, Any]]:
    """What a run says about each story, in their order.

    Args:
        loaded: The run.
        stories: Any number from 1 on.

    Returns:
        One dict a story: {id, emotion, probabilities: {emotion: p}, scores: {task: {name: value in [0, 1]}}}.

    Raises:
        DataError: If texts cannot be embedded.
        CheckpointError: If the run was not trained on texts, or its encoder is another by now.
    """
    import torch

    from projects.redheart.people.new_texts import new_texts
    from projects.redheart.tasks import SCORES

    module = loaded.module
    classes = list(module.hparams["classes"])
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        datamodule = new_texts(loaded, stories, Path(folder))
        for batch in datamodule.test_dataloader():
            outputs = module.predict_step(batch, 0)
            logits = outputs["logits"].double()
            if loaded.calibrator is not None:
                logits = loaded.calibrator.module(logits, batch.get("domain"))
            rows = batch["sample_index"].tolist()
            for place, probs in enumerate(logits.softmax(dim=1).tolist()):
                scores = {
                    task: dict(zip(names, outputs["heads"][task]["prediction"][place].tolist(), strict=True))
                    for task, names in SCORES.items()
                }
                emotion = classes[max(range(len(probs)), key=probs.__getitem__)]
                stated = dict(zip(classes, probs, strict=True))
                found.append(
                    {"id": stories.ids[rows[place]], "emotion": emotion, "probabilities": stated, "scores": scores}
                )
    return found


def encoder_name(loaded: "LoadedRun") -> str:
    """What the run's texts were embedded by."""
    return str(loaded.module.hparams["encoder"])


def predictions_csv(answers: list[dict[str, Any]]) -> str:
    """One line a story: id, emotion, prob_<emotion>, <task>_<name>."""
    first = answers[0]
    header = ["id", "emotion", *(f"prob_{name}" for name in first["probabilities"])]
    header += [f"{task}_{name}" for task, scores in first["scores"].items() for name in scores]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(header)
    for answer in answers:
        numbers = [*answer["probabilities"].values()]
        numbers += [value for scores in answer["scores"].values() for value in scores.values()]
        writer.writerow([answer["id"], answer["emotion"], *(f"{number:.9g}" for number in numbers)])
    return table.getvalue()


if __name__ == "__main__":
    main()
