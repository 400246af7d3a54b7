"""Batches against a plain loop over stories: inputs, padding, targets, masks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from projects.redheart.data.dataset import StoryDataset, StoryTargets
from projects.redheart.data.embedding_cache import EmbeddingCache
from projects.redheart.data.index import story_index
from projects.redheart.data.parts import split_stories, whole_text
from projects.redheart.data.sequences import (
    PartSequences,
    Sequences,
    TokenNumberSequences,
    TokenVectorSequences,
    valid_places,
)
from projects.redheart.data.stories import Stories
from projects.redheart.encoders.hashing import HashingEncoder
from projects.redheart.encoders.tokens import TokenEncoder, TokenNumbers
from projects.redheart.tasks import TASKS
from shared.sampler import SampleKey
from tests.fabricate.stories import fabricated_stories
from tests.fabricate.text_model import HIDDEN, write_text_model

NUM = 40


@pytest.fixture(scope="module")
def stories() -> Stories:
    return fabricated_stories(NUM)


@pytest.fixture(scope="module")
def part_sequences(stories: Stories, tmp_path_factory: pytest.TempPathFactory) -> Sequences:
    parts = split_stories(stories.title, stories.action, stories.text, 5)
    cache = EmbeddingCache(tmp_path_factory.mktemp("cache") / "stories", HashingEncoder(16))
    cache.fill(parts.texts)
    return PartSequences(cache.read(), parts)


def dataset(sequences: Sequences, stories: Stories, rows: list[int]) -> StoryDataset:
    return StoryDataset(sequences, StoryTargets(stories), story_index(stories, "real", "x"), np.array(rows))


def test_parts_are_those_of_each_story_and_the_rest_is_zero(part_sequences: Sequences, stories: Stories) -> None:
    rows = [7, 0, 33, 4]
    batch = dataset(part_sequences, stories, list(range(NUM))).__getitems__([SampleKey(row, 5) for row in rows])
    longest = 0
    for place, row in enumerate(rows):
        parts = split_stories([stories.title[row]], [stories.action[row]], [stories.text[row]], 5)
        count, longest = len(parts.texts), max(longest, len(parts.texts))
        expected = HashingEncoder(16).encode(parts.texts).values.astype(np.float32)
        np.testing.assert_array_equal(batch["embedding"][place, :count], expected)
        assert not batch["embedding"][place, count:].any()
        assert batch["embedding_mask"][place].tolist() == [spot < count for spot in range(batch["part"].shape[1])]
        assert batch["part"][place, :count].tolist() == parts.codes.tolist()
        assert not batch["part"][place, count:].any()
    assert batch["embedding"].shape == (4, longest, 16)
    assert batch["embedding"].dtype == torch.float32
    assert batch["part"].dtype == batch["sample_index"].dtype == batch["group_index"].dtype == torch.int64


def test_targets_and_masks_follow_what_is_known(part_sequences: Sequences, stories: Stories) -> None:
    batch = dataset(part_sequences, stories, list(range(NUM))).__getitems__(list(range(NUM)))
    known = stories.label >= 0
    assert not known.all()
    np.testing.assert_array_equal(batch["target_mask"]["emotion"], known)
    np.testing.assert_array_equal(batch["target"]["emotion"], np.where(known, stories.label, 0))
    for task in ("bentham", "regret", "surd"):
        values = stories.targets[task]
        assert np.isnan(values).any()
        assert batch["target"][task].shape == (NUM, TASKS[task])
        np.testing.assert_array_equal(batch["target_mask"][task], ~np.isnan(values))
        np.testing.assert_array_equal(batch["target"][task], np.nan_to_num(values))
    assert batch["target"]["bentham"].dtype == torch.float32
    assert batch["target"]["emotion"].dtype == torch.int64


def test_positions_are_of_the_rows_and_rows_of_the_index(part_sequences: Sequences, stories: Stories) -> None:
    chosen = dataset(part_sequences, stories, [9, 2, 30])
    assert len(chosen) == 3
    batch = chosen.__getitems__([2, 0])
    assert batch["sample_index"].tolist() == [30, 9]
    assert batch["group_index"].tolist() == story_index(stories, "real", "x").group[[30, 9]].tolist()
    assert batch["domain"].tolist() == [0, 0]
    assert torch.equal(chosen[1]["embedding"][0], chosen.__getitems__([1])["embedding"][0])
    with pytest.raises(IndexError, match="position 0 or 3 is outside a dataset of 3 samples"):
        chosen.__getitems__([0, 3])


def test_inputs_of_other_stories_are_refused(part_sequences: Sequences, stories: Stories) -> None:
    with pytest.raises(ValueError, match="inputs of 40 stories and 39 rows of the index"):
        dataset(part_sequences, stories.take(np.arange(39)), [0])


def test_padding_is_to_the_longest_and_at_least_one() -> None:
    assert valid_places(np.array([1, 3])).tolist() == [[True, False, False], [True, True, True]]
    assert valid_places(np.array([0])).tolist() == [[False]]


def test_tokens_and_token_numbers_are_cut_to_the_longest_of_the_batch(stories: Stories, tmp_path: Path) -> None:
    folder = write_text_model(tmp_path / "tiny")
    short = stories.take(np.arange(6))
    short.text[2], short.title[2], short.action[2] = "ab", "", ""
    short.text[3], short.title[3], short.action[3] = "abc de", "", ""
    texts = [whole_text(*pieces) for pieces in zip(short.title, short.action, short.text, strict=True)]
    vectors = EmbeddingCache(tmp_path / "s", TokenEncoder(folder, "t", normalise=False, max_tokens=12, batch_size=3))
    numbers = EmbeddingCache(tmp_path / "s", TokenNumbers(folder, "t", max_tokens=12))
    vectors.fill(texts)
    numbers.fill(texts)
    by_vector = dataset(TokenVectorSequences(vectors.read(), vectors.read().rows(texts)), short, list(range(6)))
    by_number = dataset(TokenNumberSequences(numbers.read(), numbers.read().rows(texts)), short, list(range(6)))
    # [CLS] a ##b [SEP] and [CLS] a ##b ##c d ##e [SEP]
    tokens, ids = by_vector.__getitems__([2, 3]), by_number.__getitems__([2, 3])
    assert tokens["embedding"].shape == (2, 7, HIDDEN)
    assert ids["input_ids"].shape == ids["token_mask"].shape == (2, 7)
    assert ids["input_ids"].dtype == torch.int64
    assert ids["token_mask"].sum(1).tolist() == [4, 7]
    assert torch.equal(ids["token_mask"], tokens["embedding_mask"])
    assert torch.equal(ids["embedding_mask"], ids["token_mask"])
    assert "embedding" not in ids
    assert not tokens["embedding"][0, 4:].any()
    assert ids["input_ids"][0].tolist()[4:] == [0, 0, 0]
    assert by_vector.__getitems__([0, 2])["embedding"].shape[1] == 12
