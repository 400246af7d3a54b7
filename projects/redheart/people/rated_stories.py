"""People's ratings joined with what a run's final network says about the same stories."""

import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from projects.redheart.ablation.answers import StoryAnswers
from projects.redheart.ablation.opened_run import OpenedRun, answer_fold
from projects.redheart.data.datamodule import StoriesDataModule
from projects.redheart.data.prepared import QUALITY
from projects.redheart.data.subjects import SubjectTable, zscore_within
from projects.redheart.data.text_datamodule import TextDataModule
from projects.redheart.people.subject_calibration import RatedStories
from shared.calibration import PROBABILITY_FLOOR
from shared.errors import DataError
from shared.folds import FOLDS

FIT_FOLD, TEST_FOLD = "calibrate", "test"


def rated_stories(opened: OpenedRun, table: SubjectTable, path: Path) -> tuple[RatedStories, list[str]]:
    """Join ratings with the network's answers on the folds calibrate and test.

    Stories of calibrate are fitted on, where the run's own calibrator was fitted too; those of test are measured on,
    and those of other folds serve neither: the network has seen them, or was chosen on them. Ratings of stories that
    left the prepared data as near-duplicates are passed over and counted.

    Args:
        opened: The run.
        table: The ratings.
        path: Where they are from, for messages.

    Returns:
        The ratings that can be used, and what the reader must know.

    Raises:
        DataError: If a story is unknown, or none lies in a fold that can be used.
        LeakError: If the ledger refuses.
    """
    datamodule = opened.datamodule
    assert isinstance(datamodule, TextDataModule)
    answers = [answer_fold(opened, FIT_FOLD, "calibrate"), answer_fold(opened, TEST_FOLD, "test")]
    row_of = {name: row for row, name in enumerate(datamodule.corpus.stories.ids)}
    known, left = without_removed(table, row_of, removed_stories(datamodule), path)
    rated, notes = join(known, np.array([row_of[name] for name in known.ids]), datamodule.fold, answers)
    return rated, left + notes


def removed_stories(datamodule: TextDataModule) -> set[str]:
    """Ids of the stories that left the prepared data as near-duplicates; none where the data were not prepared."""
    if not isinstance(datamodule, StoriesDataModule):
        return set()
    quality = json.loads((datamodule.root / QUALITY).read_text(encoding="utf-8"))
    return {str(entry["id"]) for entry in quality["removed"]}


def without_removed(
    table: SubjectTable, known: Collection[str], removed: Collection[str], path: Path
) -> tuple[SubjectTable, list[str]]:
    """Leave out ratings of stories that left as near-duplicates, and say how many.

    Args:
        table: The ratings.
        known: Ids of the stories that the run has.
        removed: Ids of those that left.
        path: Where the ratings are from, for messages.

    Raises:
        DataError: If a story is neither known nor removed, or all are removed.
    """
    unknown = [name for name in table.ids if name not in known and name not in removed]
    if unknown:
        raise DataError(f"{path} rates the story {unknown[0]!r}, which the run's data do not hold; remove its lines")
    keep = np.array([name in known for name in table.ids])
    if keep.all():
        return table, []
    if not keep.any():
        raise DataError(f"all {len(table)} ratings of {path} are of stories that left the data as near-duplicates")
    left = {name for name in table.ids if name not in known}
    note = (
        f"{int((~keep).sum())} of {len(table)} ratings are of {len(left)} near-duplicates that left the data; left out"
    )
    rows = np.flatnonzero(keep).tolist()
    numbers = {column: values[keep] for column, values in table.numbers.items()}
    kept = SubjectTable(tuple(table.ids[row] for row in rows), tuple(table.subject[row] for row in rows), numbers)
    return kept, [note]


def join(
    table: SubjectTable, row: NDArray[np.int64], fold: NDArray[np.int8], answers: list[StoryAnswers]
) -> tuple[RatedStories, list[str]]:
    """Put ratings and answers side by side; see `rated_stories`.

    Args:
        table: R ratings.
        row: (R,) row of the index of each rated story.
        fold: Fold code of every row of the index.
        answers: The network's, on calibrate and on test.

    Raises:
        DataError: If no rated story lies in a fold that can be used.
    """
    probs = np.concatenate([part.probs for part in answers])
    label = np.concatenate([part.label for part in answers])
    place = {story: number for number, story in enumerate(np.concatenate([part.rows for part in answers]).tolist())}
    used = np.array([story in place for story in row.tolist()])
    if not used.any():
        raise DataError(f"none of the {len(row)} ratings is of a story in the folds {FIT_FOLD} and {TEST_FOLD}")
    notes = []
    if not used.all():
        notes.append(
            f"{int((~used).sum())} of {len(row)} ratings are of stories that the run was trained or chosen on; left out"
        )
    features = []
    for name, values in table.numbers.items():
        scores, without = zscore_within(values, table.subject)  # over all that a person rated
        notes += [f"{name} of subject {subject}: {reason}; taken as the mean" for subject, reason in without.items()]
        missing = int(np.isnan(scores[used]).sum())
        if missing:
            notes.append(f"{name} is missing in {missing} ratings and taken as the person's mean there")
        features.append(np.nan_to_num(scores[used], nan=0.0))
    names = tuple(sorted({subject for subject, keep in zip(table.subject, used, strict=True) if keep}))
    code = {name: number for number, name in enumerate(names)}
    places = np.array([place[story] for story in row[used].tolist()])
    subject = [code[name] for name, keep in zip(table.subject, used, strict=True) if keep]
    rated = RatedStories(
        story=row[used],
        subject=np.array(subject, dtype=np.int64),
        names=names,
        log_probs=np.log(np.maximum(probs[places], PROBABILITY_FLOOR)),
        features=np.stack(features, axis=1),
        label=label[places],
        may_fit=fold[row[used]] == FOLDS.index(FIT_FOLD),
        may_measure=fold[row[used]] == FOLDS.index(TEST_FOLD),
    )
    return rated, notes
