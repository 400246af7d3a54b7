import numpy as np
import pytest

from projects.redheart.data.index import story_index
from projects.redheart.data.split import DEFAULT_SHARES, class_shares, split_stories
from projects.redheart.data.stories import stories_of
from shared.errors import DataError
from shared.folds import FOLDS
from shared.leakage import check_leakage
from shared.splits import check_folds
from tests.fabricate.stories import fabricated_stories


@pytest.fixture(scope="module")
def stories():
    return fabricated_stories(700)


def test_shares_and_classes(stories):
    index, labelled = story_index(stories, "real", "tales"), stories.label >= 0
    fold = split_stories(index, labelled, seed=1)
    assert check_folds(index, fold) == []
    assert check_leakage(index, fold).ok
    sizes = [int((labelled & (fold == code)).sum()) for code in range(5)]
    assert sizes == pytest.approx([share * labelled.sum() for share in DEFAULT_SHARES.values()], abs=1)
    assert (fold[~labelled] == 0).all()
    table = class_shares(index, labelled, fold)
    assert sum(entry["n"] for entry in table["test"].values()) == sizes[4]
    for name in ("train", "test"):
        assert [entry["share"] for entry in table[name].values()] == pytest.approx([1 / 7] * 7, abs=0.02)
    assert list(table) == list(FOLDS)


def test_the_seed_decides(stories):
    index, labelled = story_index(stories, "real", "tales"), stories.label >= 0
    first, again, other = (split_stories(index, labelled, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_story_without_label_follows_its_group():
    objects = [{"id": f"s{row}", "text": f"story {row}", "label": row % 7} for row in range(140)]
    objects += [{"id": f"t{row}", "text": f"STORY {row}"} for row in range(140)] + [{"id": "u", "text": "alone"}]
    stories = stories_of(objects, "x")[0]
    fold = split_stories(story_index(stories, "real", "tales"), stories.label >= 0)
    assert np.array_equal(fold[:140], fold[140:280])
    assert len(set(fold[:140].tolist())) == 5
    assert fold[280] == 0


def test_without_any_label_and_with_another_mask_it_is_refused(stories):
    index = story_index(stories, "real", "tales")
    with pytest.raises(DataError, match="no story has a label; the folds are stratified by it"):
        split_stories(index, np.zeros(700, dtype=np.bool_))
    with pytest.raises(DataError, match=r"labelled must be bool of shape \(700,\), found int8 of \(700,\)"):
        split_stories(index, np.zeros(700, dtype=np.int8))
