"""People's ratings joined with what a run's final network says about the same stories."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from projects.redheart.ablation.answers import StoryAnswers
from projects.redheart.ablation.opened_run import OpenedRun, answer_fold
from projects.redheart.data.subjects import SubjectTable, zscore_within
from projects.redheart.data.text_datamodule import TextDataModule
from projects.redheart.people.subject_calibration import RatedStories
from shared.calibration import PROBABILITY_FLOOR
from shared.errors import DataError
from shared.folds import FOLDS

FIT_FOLD, TEST_FOLD = "calibrate", "test"


def rated_stories(opened: OpenedRun, table: SubjectTable, path: Path) -> tuple[RatedStories, list[str]]:
    """Join ratings with the network's answers on the folds calibrate and test.

    Stories of calibrate may be fitted on and measured on, those of test only measured on, those of other folds neither:
    the network has seen them, or was chosen on them.

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
    unknown = [name for name in table.ids if name not in row_of]
    if unknown:
        raise DataError(f"{path} rates the story {unknown[0]!r}, which the run's data do not hold; remove its lines")
    return join(table, np.array([row_of[name] for name in table.ids]), datamodule.fold, answers)


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
    )
    return rated, notes
