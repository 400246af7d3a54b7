"""Texts that no run has seen, as data for a finished network: embedded by the run's own encoder."""

from pathlib import Path
from typing import Any

import numpy as np

from projects.redheart.data.index import story_index
from projects.redheart.data.stories import Stories
from projects.redheart.data.text_datamodule import Corpus, TextDataModule
from shared.errors import CheckpointError, DataError
from shared.folds import FOLDS
from shared.loading import LoadedRun

FOLDER = "given"
PASSED_ON = ("encoder", "max_parts", "eval_batch_size")


class NewTexts(TextDataModule):
    """Stories without labels, all of them to be judged.

    Args:
        stories: The stories.
        folder: Where their embeddings are kept meanwhile.
        emotions: Names of the labels of the network.
        settings: See `TextDataModule`.
    """

    def __init__(self, stories: Stories, folder: Path, emotions: tuple[str, ...], **settings: Any) -> None:
        super().__init__(**settings)
        self._stories = stories
        self._folder = folder
        self._emotions = emotions

    @property
    def corpus(self) -> Corpus:
        """The stories; none is left out for want of a label."""
        if self._corpus is None:
            self._corpus = self.read_corpus()
        return self._corpus

    def read_corpus(self) -> Corpus:
        """All stories in the fold test."""
        index = story_index(self._stories, "real", FOLDER, emotions=self._emotions)
        fold = np.full(len(self._stories), FOLDS.index("test"), dtype=np.int8)
        return Corpus(self._stories, index, fold, [])

    @property
    def embedding_stem(self) -> Path:
        """In the given folder."""
        return self._folder / "stories"


def new_texts(loaded: LoadedRun, stories: Stories, folder: Path) -> NewTexts:
    """The datamodule of new stories for a run's network.

    Raises:
        CheckpointError: If the run was not trained on texts, or its encoder is another by now.
    """
    plain = loaded.settings.plain["data"]
    missing = [key for key in PASSED_ON if key not in plain]
    if missing:
        raise CheckpointError(f"{loaded.run.path} has no data.{missing[0]}; it was not trained on texts")
    arguments = dict(loaded.module.hparams)
    settings = {key: plain[key] for key in PASSED_ON}
    datamodule = NewTexts(
        stories, folder, tuple(arguments["classes"]), batch_size=plain["eval_batch_size"], num_workers=0,
        seed=loaded.settings.seed, cache_folder=loaded.settings.paths.cache, **settings,
    )  # fmt: skip
    assert len(datamodule.index) == len(stories)
    try:
        datamodule.align(arguments)
    except DataError as error:
        raise CheckpointError(f"{loaded.run.path} cannot read these texts: {error}") from error
    return datamodule
