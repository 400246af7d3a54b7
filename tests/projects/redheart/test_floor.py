import numpy as np
import pytest
from sklearn.metrics import f1_score

from projects.redheart.data.goemotions import TO_OURS, read_comments
from projects.redheart.floor import tfidf_floor
from shared.errors import DataError


def test_words_decide():
    words = ["glad", "weep", "rage"]
    train = [f"{word} and {filler}" for word in words for filler in ("one", "two", "three")]
    label = np.repeat([0, 1, 2], 3)
    probability = tfidf_floor(train, label, ["so glad", "rage on", "weep now"], num_classes=3)
    assert probability.argmax(axis=1).tolist() == [0, 2, 1]
    np.testing.assert_allclose(probability.sum(axis=1), 1)


def test_wrong_arguments_are_told():
    with pytest.raises(DataError, match="got 1 texts and 2 labels"):
        tfidf_floor(["a"], np.array([0, 1]), ["a"], 2)
    with pytest.raises(DataError, match="has no text of class 1"):
        tfidf_floor(["a", "b"], np.array([0, 0]), ["a"], 2)
    with pytest.raises(DataError, match="labels run from 0 to 2; allowed are 0 to 1"):
        tfidf_floor(["a", "b", "c"], np.array([0, 1, 2]), ["a"], 2)
    with pytest.raises(DataError, match="the floor cannot be fitted on 2 texts"):
        tfidf_floor(["?", "!"], np.array([0, 1]), ["a"], 2)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_floor_is_the_one_on_the_page_of_the_set(real_data):
    single = [comment for comment in read_comments(real_data / "goemotions") if len(comment.ekman) == 1]
    train, test = ([comment for comment in single if comment.part == part] for part in ("train", "test"))
    truth = [np.array([TO_OURS[comment.ekman[0]] for comment in part]) for part in (train, test)]
    texts = [[comment.text for comment in part] for part in (train, test)]
    answer = tfidf_floor(texts[0], truth[0], texts[1]).argmax(axis=1)
    assert (answer == truth[1]).mean() == pytest.approx(0.626, abs=0.002)
    assert f1_score(truth[1], answer, average="macro") == pytest.approx(0.560, abs=0.002)
