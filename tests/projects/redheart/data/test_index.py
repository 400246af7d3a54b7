import hashlib

import numpy as np
import pytest

from projects.redheart.data.index import normalised, story_index
from projects.redheart.data.stories import stories_of
from shared.errors import DataError
from tests.fabricate.stories import fabricated_stories


def test_columns_of_the_index():
    stories = fabricated_stories(20)
    index = story_index(stories, "real", "tales")
    assert index.ids[3] == "tales/s00003"
    assert index.group_names.to_list() == stories.ids
    assert index.label.tolist() == np.maximum(stories.label, 0).tolist()
    assert index.label[16] == 0
    assert stories.label[16] == -1
    assert index.numbers["num_chars"].tolist() == [len(text) for text in stories.text]
    np.testing.assert_array_equal(index.numbers["intensity"], stories.intensity)
    expected = hashlib.blake2b(normalised(stories.text[5]).encode(), digest_size=16).digest()
    assert index.digest[5].tobytes() == expected


def test_equal_text_but_for_case_and_space_is_one_group():
    objects = [{"id": "a", "text": "Oh NO"}, {"id": "b", "text": "yes"}, {"id": "c", "text": " oh\tno \n"}]
    index = story_index(stories_of(objects, "x")[0], "real", "tales")
    assert index.group.tolist() == [0, 1, 0]
    assert index.group_names.to_list() == ["a", "b"]


def test_given_groups_and_wrong_arguments():
    stories = fabricated_stories(3)
    index = story_index(stories, "real", "tales", group=["x", "y", "x"])
    assert index.group.tolist() == [0, 1, 0]
    with pytest.raises(DataError, match=r"1 groups are given for 3 stories"):
        story_index(stories, "real", "tales", group=["x"])
    with pytest.raises(DataError, match=r"the folder of a story index is 'a/b'; it must be the name of one folder"):
        story_index(stories, "real", "a/b")
