"""GoEmotions behind the project's folds: emotion labels only, every other task masked."""

from pathlib import Path
from typing import Any

import numpy as np

from projects.redheart.data.goemotions import read_goemotions
from projects.redheart.data.text_datamodule import Corpus, TextDataModule
from shared.errors import ConfigError


class GoEmotionsDataModule(TextDataModule):
    """Comments with exactly one label of Ekman's grouping, under the published split.

    The folder of the comments may be read-only: the embeddings are kept below the cache folder.

    Args:
        root: Folder with goemotions.tsv.
        num_stories: Use so many comments, spread evenly over the file; None: all.
        common: See `TextDataModule`.

    Raises:
        ConfigError: If `num_stories` is not positive.
    """

    def __init__(self, *, root: str, num_stories: int | None, **common: Any) -> None:
        super().__init__(**common)
        if num_stories is not None and num_stories < 1:
            raise ConfigError(f"data.num_stories is {num_stories}; allowed is null, or 1 or more")
        self.root = Path(root)
        self.num_stories = num_stories

    @property
    def embedding_stem(self) -> Path:
        """Below the cache folder."""
        return self.cache_folder / "redheart" / "goemotions"

    def read_corpus(self) -> Corpus:
        """Read the table; the seed cuts the published dev part."""
        found = read_goemotions(self.root, self.seed)
        corpus = Corpus(found.stories, found.index, found.fold, found.warnings)
        if self.num_stories is None or self.num_stories >= len(found.stories):
            return corpus
        rows = np.linspace(0, len(found.stories) - 1, self.num_stories).astype(np.int64)
        return corpus.take(np.unique(rows))
