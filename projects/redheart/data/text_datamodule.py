"""What the redheart datamodules share: the encoder, its cache, datasets, the floor."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from projects.redheart.data.dataset import StoryDataset, StoryTargets
from projects.redheart.data.embedding_cache import EmbeddedTexts, EmbeddingCache
from projects.redheart.data.fingerprint import fingerprint
from projects.redheart.data.parts import MIN_PARTS, StoryParts, split_stories, whole_text
from projects.redheart.data.sequences import PartSequences, Sequences, TokenNumberSequences, TokenVectorSequences
from projects.redheart.data.stories import Stories
from projects.redheart.encoders import EncoderOptions, build_encoder
from projects.redheart.encoders.tokens import TokenNumbers
from projects.redheart.floor import tfidf_floor
from projects.redheart.models.text_encoder import plain_config
from shared.base_data import FoldedDataModule, Progress, no_progress
from shared.errors import ConfigError, DataError
from shared.folds import FOLDS
from shared.sample_index import SampleIndex

TRAIN = FOLDS.index("train")
FLOOR = "tfidf_logreg"


@dataclass(frozen=True, eq=False)
class Corpus:
    """A data set as read.

    Attributes:
        stories: N stories.
        index: Their index, in the same order.
        fold: (N,) int8 fold codes.
        warnings: What is odd about them, a sentence each.
    """

    stories: Stories
    index: SampleIndex
    fold: NDArray[np.int8]
    warnings: list[str]

    def take(self, rows: NDArray[np.int64]) -> "Corpus":
        """Return the stories at `rows`, in that order."""
        return Corpus(self.stories.take(rows), self.index.take(rows), self.fold[rows], list(self.warnings))


class TextDataModule(FoldedDataModule):
    """Base of the project's datamodules; a subclass says what the stories are and where their embeddings are kept.

    Args:
        encoder: Keys of `projects.redheart.encoders.EncoderOptions`.
        max_parts: Most parts of a story; where there are more sentences, neighbours are joined.
        batch_size: Stories in a training batch, the effective one.
        eval_batch_size: Stories in any other batch.
        num_workers: Loader processes.
        seed: Set by the engine.
        cache_folder: Set by the engine; made data.

    Raises:
        ConfigError: If a value is not allowed.
    """

    network_keys: ClassVar[tuple[str, ...]] = ("encoder", "max_parts")

    def __init__(
        self,
        *,
        encoder: Mapping[str, Any],
        max_parts: int,
        batch_size: int,
        eval_batch_size: int,
        num_workers: int,
        seed: int,
        cache_folder: str,
    ) -> None:
        super().__init__(batch_size=batch_size, eval_batch_size=eval_batch_size, num_workers=num_workers, seed=seed)
        if max_parts < MIN_PARTS:
            raise ConfigError(f"data.max_parts is {max_parts}; allowed is {MIN_PARTS} or more")
        self.encoder = EncoderOptions.read(encoder)
        self.max_parts = max_parts
        self.cache_folder = Path(cache_folder)
        self._corpus: Corpus | None = None
        self._sequences: Sequences | None = None
        self._cache: EmbeddingCache | None = None
        self._findings: list[str] = []

    # -- slots of a subclass ---------------------------------------------------------------------------------------

    @abstractmethod
    def read_corpus(self) -> Corpus:
        """The stories with their folds."""

    @property
    @abstractmethod
    def embedding_stem(self) -> Path:
        """Path of the embeddings without suffix."""

    # -- slots of the base -----------------------------------------------------------------------------------------

    @property
    def corpus(self) -> Corpus:
        """The stories that are used; read on first use."""
        if self._corpus is None:
            corpus = self.read_corpus()
            self._findings += corpus.warnings
            self._corpus = self._without_label_in_train_only(corpus)
        return self._corpus

    def build_index(self) -> SampleIndex:
        """Read the stories, and embed what is not embedded yet."""
        index = self.corpus.index
        self._embed()
        return index

    def split(self, index: SampleIndex) -> NDArray[np.int8]:
        """As the data set says."""
        return self.corpus.fold

    def build_dataset(self, fold: str, rows: NDArray[np.int64]) -> Dataset[Any]:
        """Stories of a fold."""
        index = self.index  # reads and embeds on first use
        assert self._sequences is not None
        return StoryDataset(self._sequences, StoryTargets(self.corpus.stories), index, rows)

    def module_arguments(self) -> dict[str, Any]:
        """Classes, size of an embedded part, the encoder; where it is trained along, its architecture and folder."""
        classes = list(self.index.classes)
        assert self._cache is not None
        encoder = self._cache.encoder
        arguments = {"classes": classes, "encoder": encoder.identity.describe()}
        if not isinstance(encoder, TokenNumbers):
            size = self._cache.row_shape[-1]
            return arguments | {"embedding_dim": size, "encoder_config": None, "encoder_folder": None}
        return arguments | {
            "embedding_dim": int(encoder.config["hidden_size"]),
            "encoder_config": plain_config(encoder.config),
            "encoder_folder": str(encoder.folder.resolve()),
        }

    @property
    def max_sequence(self) -> int:
        """Longest sequence that a batch can hold; the network's `max_parts` must be at least that."""
        return self.encoder.tokens if self.encoder.finetune or self.encoder.pooling == "tokens" else self.max_parts

    def align(self, arguments: Mapping[str, Any]) -> None:
        """Refuse classes or an encoder other than those the network was trained with."""
        super().align(arguments)
        own = self.module_arguments()
        if arguments["encoder"] != own["encoder"]:
            raise DataError(
                f"the network was trained on vectors of {arguments['encoder']}; the data have {own['encoder']}"
            )

    def baselines(self, fit_rows: NDArray[np.int64], test_rows: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """TF-IDF of words and pairs of words with logistic regression, fitted on the stories of train with a label.

        Args:
            fit_rows: Rows to fit on.
            test_rows: (M,) rows to judge.

        Returns:
            "tfidf_logreg" -> (M, 7) probabilities.
        """
        stories = self.corpus.stories
        texts = self._whole_texts()
        labelled = fit_rows[stories.label[fit_rows] >= 0]
        return {
            FLOOR: tfidf_floor(
                [texts[row] for row in labelled], stories.label[labelled], [texts[row] for row in test_rows],
                num_classes=len(self.index.classes),
            )
        }  # fmt: skip

    @property
    def fingerprint(self) -> str:
        """What tells these stories, targets and folds from any others; reads the stories, embeds nothing."""
        return fingerprint(self.corpus.stories, self.corpus.index, self.corpus.fold)

    def describe(self) -> dict[str, Any]:
        """Source, size of each fold, and the fingerprint by which a command knows a run of the same data."""
        return super().describe() | {"fingerprint": self.fingerprint}

    def findings(self) -> tuple[list[dict[str, str]], list[str]]:
        """What is odd about the stories, and which encoder reads them where it knows no meaning."""
        return [], self._findings

    def prepare_embeddings(self, progress: Progress = no_progress) -> EmbeddingCache:
        """Read the stories and embed what is not embedded yet; return the cache."""
        self.progress = progress
        _ = self.index
        assert self._cache is not None
        return self._cache

    # -- what the base does ----------------------------------------------------------------------------------------

    def _without_label_in_train_only(self, corpus: Corpus) -> Corpus:
        """Leave out stories without a label that a group has brought into another fold than train."""
        stray = (corpus.stories.label < 0) & (corpus.fold != TRAIN)
        if not stray.any():
            return corpus
        self._findings.append(
            f"{int(stray.sum())} stories without a label have the text or subject of one outside train and are left out"
        )
        return corpus.take(np.flatnonzero(~stray))

    def _embed(self) -> None:
        """Fill the cache and map it."""
        self._cache = EmbeddingCache(self.embedding_stem, build_encoder(self.encoder))
        if self.encoder.name == "hashing":
            self._findings.append("encoder=hashing knows spelling, not meaning; encoder=minilm_packaged reads better")
        if self.encoder.pooling == "mean" and not self.encoder.finetune:
            parts = self._parts()
            self._sequences = PartSequences(self._filled(self._cache, parts.texts), parts)
            return
        texts = self._whole_texts()
        stored = self._filled(self._cache, texts)
        kind = TokenNumberSequences if self.encoder.finetune else TokenVectorSequences
        self._sequences = kind(stored, stored.rows(texts))

    def _filled(self, cache: EmbeddingCache, texts: list[str]) -> EmbeddedTexts:
        """All rows of a cache, those of the texts among them."""
        halvings = cache.fill(texts, self.progress).num_halvings
        if halvings:
            self._findings.append(f"memory ran out {halvings} times while texts were embedded; the batch was halved")
        return cache.read()

    def _parts(self) -> StoryParts:
        """The stories' parts; what did not fit goes to the findings."""
        stories = self.corpus.stories
        parts = split_stories(stories.title, stories.action, stories.text, self.max_parts)
        if parts.num_merged:
            self._findings.append(
                f"{parts.num_merged} stories have more than {self.max_parts} parts; neighbouring sentences were joined"
            )
        if parts.num_cut:
            self._findings.append(f"{parts.num_cut} very long sentences were cut")
        return parts

    def _whole_texts(self) -> list[str]:
        """Title, action and text of each story as one text."""
        stories = self.corpus.stories
        return [whole_text(*pieces) for pieces in zip(stories.title, stories.action, stories.text, strict=True)]
