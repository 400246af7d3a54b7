import numpy as np
import pytest
from sklearn.metrics import label_ranking_average_precision_score, top_k_accuracy_score
from sklearn.metrics.pairwise import cosine_similarity

from projects.pillsnap.evaluation.retrieval import (
    chance,
    retrieval_difference,
    retrieval_ranks,
    retrieval_scores,
    thumbnail_features,
)
from shared.report.evaluation import Intervals

INTERVALS = Intervals(seed=0, draws=200)


@pytest.fixture
def pills() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return front and back features of 40 pills in another order, and the pill of each back."""
    rng = np.random.default_rng(0)
    own, order = rng.normal(size=(40, 12)), rng.permutation(40)
    return own + rng.normal(0, 0.8, own.shape), (own + rng.normal(0, 0.8, own.shape))[order], order


def test_scores_are_sklearns(pills) -> None:
    front, back, order = pills
    pill = np.arange(40)
    found = retrieval_scores(retrieval_ranks(front, back, pill, order), pill, INTERVALS)
    similarity = cosine_similarity(front, back)
    truth = order[None, :] == pill[:, None]
    for k in (1, 5):
        expected = top_k_accuracy_score(truth.argmax(axis=1), similarity, k=k, labels=pill)
        assert found[f"recall@{k}"]["value"] == pytest.approx(expected)
    # With one relevant photo a query, average precision is the reciprocal rank.
    assert found["mrr"]["value"] == pytest.approx(label_ranking_average_precision_score(truth, similarity))
    assert found["mrr"]["n_groups"] == 40
    assert found["mrr"]["lo"] < found["mrr"]["value"] < found["mrr"]["hi"]


def test_several_photos_of_a_pill_are_one_group_and_the_best_back_counts() -> None:
    gallery = np.array([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.5, 0.5]])
    pill = np.array([0, 1, 1, 2])
    query, query_pill = np.array([[1.0, 0.0], [1.0, 0.05], [0.0, 2.0]]), np.array([1, 1, 2])
    ranks = retrieval_ranks(query, gallery, query_pill, pill)
    assert ranks.tolist() == [1, 1, 1]
    assert retrieval_scores(ranks, query_pill, INTERVALS)["mrr"]["n_groups"] == 2


def test_features_that_are_all_alike_come_last() -> None:
    ranks = retrieval_ranks(np.ones((5, 3)), np.ones((5, 3)), np.arange(5), np.arange(5))
    assert ranks.tolist() == [4] * 5


def test_difference_to_a_baseline_is_paired() -> None:
    pill = np.arange(40)
    ours, theirs = np.zeros(40, np.int64), np.full(40, 3)
    found = retrieval_difference(ours, theirs, pill, INTERVALS)
    assert found["value"] == pytest.approx(0.75)
    assert found["lo"] == found["hi"] == pytest.approx(0.75)


def test_chance_is_what_random_orders_give() -> None:
    rng = np.random.default_rng(1)
    ranks = rng.integers(0, 30, 200_000)
    expected = chance(30)
    assert expected["recall@1"] == pytest.approx((ranks < 1).mean(), abs=0.003)
    assert expected["recall@5"] == pytest.approx((ranks < 5).mean(), abs=0.003)
    assert expected["mrr"] == pytest.approx((1 / (ranks + 1)).mean(), abs=0.003)
    with pytest.raises(ValueError, match=r"gallery_size is 0"):
        chance(0)


def test_thumbnails_find_the_same_picture_again() -> None:
    squares = np.random.default_rng(2).integers(0, 256, (6, 48, 48, 3), dtype=np.uint8)
    features = thumbnail_features(squares)
    assert features.shape == (6, 3 * 24 * 24)
    np.testing.assert_allclose(features.mean(axis=0), 0.0, atol=1e-9)
    np.testing.assert_array_equal(retrieval_ranks(features, features, np.arange(6), np.arange(6)), np.zeros(6))


@pytest.mark.parametrize(
    ("query", "gallery", "pill", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), [0, 1], r"features have shapes \(2, 3\) and \(2, 4\)"),
        (np.full((2, 3), np.nan), np.ones((2, 3)), [0, 1], r"features are not finite"),
        (
            np.ones((2, 3)),
            np.ones((2, 3)),
            [0, 9],
            r"1 pills of the queries are not in the gallery, the first has code 9",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused(query, gallery, pill, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        retrieval_ranks(query, gallery, np.array(pill), np.arange(2))
