"""Test stories for people to rate: blinded, and the key that stays behind."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projects.redheart.people.predictions import Predictions
from projects.redheart.people.texts import Texts
from projects.redheart.tasks import SCORES
from shared.atomic import replacing, write_json
from shared.errors import ConfigError, DataError

SCHEMA = 1
TEXTS = ("title", "action", "text")
EMOTION = "emotion"
SCORE_COLUMNS: tuple[str, ...] = tuple(f"{task}_{name}" for task, names in SCORES.items() for name in names)
"""Columns for the numbers in [0, 1], as `predictions.csv` names them behind `predicted_`."""

_FORMULA = ("=", "+", "-", "@")


def stratified(labels: list[str], num: int, seed: int) -> NDArray[np.int64]:
    """Positions of `num` samples, each label with its share (largest remainders), in a random order.

    Args:
        labels: Of all samples.
        num: How many; all of them where there are not more.
        seed: Of the draw and the order.

    Raises:
        ValueError: If num < 1 or there is no sample.
    """
    if num < 1 or not labels:
        raise ValueError(f"num is {num} of {len(labels)} samples; at least 1 of 1 is needed")
    rng = np.random.default_rng(seed)
    names, code = np.unique(np.array(labels), return_inverse=True)
    num = min(num, len(labels))
    exact = np.bincount(code) * num / len(labels)
    counts = np.floor(exact).astype(np.int64)
    rest = np.argsort(-(exact - counts), kind="stable")[: num - counts.sum()]
    counts[rest] += 1
    chosen = [rng.permutation(np.flatnonzero(code == k))[: counts[k]] for k in range(len(names))]
    return np.asarray(rng.permutation(np.concatenate(chosen)), dtype=np.int64)


def export(
    out: Path, predictions: Predictions, texts: Texts, *, num: int, seed: int, facts: dict[str, Any]
) -> tuple[Path, int]:
    """Write the sheet for the raters and, beside it, the key with what network and annotation say.

    Args:
        out: The sheet, .csv; the key is `<stem>.key.json`.
        predictions: Of the test fold.
        texts: Of all stories.
        num: Number of samples.
        seed: Of the draw.
        facts: What else the key says, e.g. the run.

    Returns:
        Path of the key, and how many samples were written.

    Raises:
        ConfigError: If `out` does not end in .csv or num < 1.
        DataError: If a tested story is not among the stories.
    """
    if out.suffix != ".csv":
        raise ConfigError(f"--out is {out}, allowed: a file name that ends in .csv")
    if num < 1:
        raise ConfigError(f"--n is {num}, allowed: 1 or more")
    ids = sorted(predictions.probs)
    absent = [sample_id for sample_id in ids if sample_id not in texts]
    if absent:
        raise DataError(f"story {absent[0]!r} of predictions.csv is not in the run's data; they were changed")
    places = stratified([predictions.label[sample_id] for sample_id in ids], num, seed)
    items = {f"s{number:04d}": ids[place] for number, place in enumerate(places.tolist(), start=1)}
    with replacing(out) as temporary, temporary.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["item", *TEXTS, EMOTION, *SCORE_COLUMNS])
        for item, sample_id in items.items():
            shown = [_as_text(text) for text in texts[sample_id]]
            writer.writerow([item, *shown, "", *[""] * len(SCORE_COLUMNS)])
    key = out.with_name(f"{out.stem}.key.json")
    content = {"schema": SCHEMA, **facts, "seed": seed, "emotions": list(predictions.classes)}
    write_json(key, content | {"items": {item: _answer(predictions, sample_id) for item, sample_id in items.items()}})
    return key, len(items)


def _as_text(text: str) -> str:
    """A cell that a spreadsheet would take for a formula gets a blank in front."""
    return f" {text}" if text.startswith(_FORMULA) else text


def _answer(predictions: Predictions, sample_id: str) -> dict[str, Any]:
    columns, probs = predictions.columns[sample_id], predictions.probs[sample_id]
    numbers = {
        kind: {name: float(columns[f"{kind}_{name}"]) for name in SCORE_COLUMNS if columns.get(f"{kind}_{name}")}
        for kind in ("predicted", "true")
    }
    return {
        "sample_id": sample_id,
        "label": predictions.label[sample_id],
        "predicted": predictions.classes[int(probs.argmax())],
        "probs": probs.tolist(),
        "predicted_scores": numbers["predicted"],
        "label_scores": numbers["true"],
    }
