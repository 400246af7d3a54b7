"""Stories behind the project's folds: a prepared folder of the user's, or a stand-in that is made on first use."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projects.redheart.data.index import story_index, text_digest
from projects.redheart.data.leave_one_out import leave_one_subject_out, subject_of_stories
from projects.redheart.data.prepared import Prepared, PrepareOptions, prepare, read_prepared
from projects.redheart.data.subjects import SUBJECTS, read_subjects
from projects.redheart.data.subset import stratified_subset
from projects.redheart.data.text_datamodule import TRAIN, Corpus, TextDataModule
from projects.redheart.standin import StandinConfig, generate_standin
from shared.errors import ConfigError


class StoriesDataModule(TextDataModule):
    """A prepared folder, see `projects.redheart.data.prepared`; its folds are those of splits.csv.

    The run's seed changes the order of the training samples only. Stories without a label are in train, with their
    emotion masked.

    Args:
        root: Prepared folder; None: stand-in stories, made and prepared on first use.
        standin: Fields of `StandinConfig`, without a root.
        num_stories: Use so many kept stories, drawn with the shares of the folds and of the classes in each, always the
            same ones and whatever their order in the file, see `stratified_subset`; None: all.
        leave_out_subject: Name of the person whose stories are the test fold; the other people are divided among the
            other folds, and stories of nobody are train. None: the folds of splits.csv.
        common: See `TextDataModule`.

    Raises:
        ConfigError: If a value is not allowed.
    """

    def __init__(
        self,
        *,
        root: str | None,
        standin: Mapping[str, Any],
        num_stories: int | None,
        leave_out_subject: str | None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if root is not None and standin:
            raise ConfigError(
                "data.root names your own stories, but data.standin is set: choose data=redheart_stories with it"
            )
        if num_stories is not None and num_stories < 1:
            raise ConfigError(f"data.num_stories is {num_stories}; allowed is null, or 1 or more")
        self.standin = None if root is not None else StandinConfig(**standin)
        self._root = None if root is None else Path(root)
        self.num_stories = num_stories
        self.leave_out_subject = leave_out_subject

    @property
    def root(self) -> Path:
        """The prepared folder; the stand-in is made and prepared on first use."""
        if self._root is None:
            self._root = self._standin_root()
        return self._root

    @property
    def embedding_stem(self) -> Path:
        """Beside the stories."""
        return self.root / "stories"

    def read_corpus(self) -> Corpus:
        """Read the prepared folder, and cut the folds anew where a subject is left out."""
        prepared = read_prepared(self.root)
        corpus = Corpus(prepared.stories, prepared.index, prepared.fold, list(prepared.quality["warnings"]))
        if self.leave_out_subject is not None:
            corpus = self._without_subject(prepared, corpus, self.leave_out_subject)
        if self.num_stories is None or self.num_stories >= len(corpus.stories):
            return corpus
        return corpus.take(stratified_subset(corpus.fold, corpus.stories.label, self.num_stories))

    def _without_subject(self, prepared: Prepared, corpus: Corpus, left_out: str) -> Corpus:
        """Folds of one round of leaving one subject out."""
        path = self.root / SUBJECTS
        if not path.is_file():
            raise ConfigError(
                f"data.leave_out_subject is {left_out!r}, but {self.root} has no {SUBJECTS}: run prepare_data again "
                "with --subjects"
            )
        rated, names = subject_of_stories(read_subjects(path), prepared.stories.ids)
        if left_out not in names:
            known = sorted(set(names))
            shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
            raise ConfigError(f"data.leave_out_subject is {left_out!r}; {path} has {shown}")
        rounds = leave_one_subject_out(names, seed=self.seed)
        folds = next(fold for name, fold in rounds if name == left_out)
        return _by_subject(corpus, rated, names, folds, prepared)

    def _standin_root(self) -> Path:
        assert self.standin is not None
        key = hashlib.blake2b(json.dumps(self.standin.as_dict(), sort_keys=True).encode(), digest_size=4).hexdigest()
        folder = self.cache_folder / "redheart"
        made = generate_standin(
            folder / f"standin-{self.standin.num_stories}-{key}", self.standin,
            on_progress=lambda done, total: self.progress("stand-in stories", done, total),
        )  # fmt: skip
        subjects = made / SUBJECTS
        prepared = prepare(
            made / "stories.json", folder / f"prepared-{self.standin.num_stories}-{key}", PrepareOptions(),
            kind="stand-in", subjects=subjects if subjects.is_file() else None, on_progress=self.progress,
        )  # fmt: skip
        return prepared.root


def _by_subject(
    corpus: Corpus, rated: NDArray[np.int64], names: list[str], folds: NDArray[np.int8], prepared: Prepared
) -> Corpus:
    """Group by subject; stories of nobody are train, but for those with the text of a rated one."""
    fold = np.full(len(corpus.stories), TRAIN, dtype=np.int8)
    fold[rated] = folds
    group = [f"story {identity}" for identity in corpus.stories.ids]
    for row, name in zip(rated.tolist(), names, strict=True):
        group[row] = f"subject {name}"
    is_rated = np.zeros(len(fold), dtype=np.bool_)
    is_rated[rated] = True
    texts = {text_digest(corpus.stories.text[row]) for row in rated.tolist()}
    copies = np.array([text_digest(text) in texts for text in corpus.stories.text]) & ~is_rated
    index = story_index(
        corpus.stories, corpus.index.source, _folder_of(corpus.index.ids[0]), emotions=prepared.emotions, group=group
    )
    whole = Corpus(corpus.stories, index, fold, corpus.warnings)
    return whole.take(np.flatnonzero(~copies)) if copies.any() else whole


def _folder_of(sample_id: str) -> str:
    """The data set's name in a sample id."""
    return sample_id.split("/", 1)[0]
