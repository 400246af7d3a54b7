import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import f1_score, log_loss

from projects.redheart.ablation.answers import StoryAnswers, mean_spearman, scores_of
from projects.redheart.tasks import SCORES
from tests.projects.redheart.ablation.story_answers import story_answers


def value(score, count, weights=None):
    return score.statistic(np.ones((1, count)) if weights is None else weights)[0]


def test_scores_are_those_of_other_libraries():
    answers = story_answers()
    scores, count = scores_of(answers), len(answers.label)
    said = answers.probs.argmax(axis=1)
    assert value(scores["emotion/f1_macro"], count) == pytest.approx(f1_score(answers.label, said, average="macro"))
    assert value(scores["emotion/nll"], count) == pytest.approx(log_loss(answers.label, answers.probs))
    assert scores["emotion/f1_macro"].larger_is_better
    assert not scores["emotion/nll"].larger_is_better
    for task, names in SCORES.items():
        mask, target, said = answers.mask[task], answers.target[task], answers.prediction[task]
        gaps = np.abs(said - target)[mask]
        assert value(scores[f"{task}/mae"], count) == pytest.approx(gaps.mean())
        each = [spearmanr(said[mask[:, d], d], target[mask[:, d], d]).statistic for d in range(len(names))]
        assert value(scores[f"{task}/spearman"], count) == pytest.approx(np.mean(each))


def test_a_weight_of_two_is_each_story_twice():
    answers = story_answers(count=60)
    weights = np.random.default_rng(3).integers(0, 3, (1, 60)).astype(float)
    rows = np.repeat(np.arange(60), weights[0].astype(int))
    again = {task: values[rows] for task, values in answers.prediction.items()}
    target, mask = ({t: v[rows] for t, v in part.items()} for part in (answers.target, answers.mask))
    repeated = StoryAnswers(np.arange(len(rows)), np.arange(len(rows)), answers.probs[rows], answers.label[rows],
                            again, target, mask)  # fmt: skip
    for metric in ("surd/mae", "bentham/spearman"):
        expected = value(scores_of(repeated)[metric], len(rows))
        assert value(scores_of(answers)[metric], 60, weights) == pytest.approx(expected)


def test_a_task_without_targets_is_left_out_and_one_without_spread_has_no_correlation():
    answers = story_answers()
    answers.mask["surd"][:] = False
    answers.target["regret"][:] = 0.5
    scores = scores_of(answers)
    assert not [metric for metric in scores if metric.startswith("surd/")]
    assert "regret/mae" in scores
    assert "regret/spearman" not in scores
    with pytest.raises(ValueError, match="no number of the task has two different targets"):
        mean_spearman(answers.prediction["regret"], answers.target["regret"], answers.mask["regret"], answers.group)


def test_answers_come_back_in_the_order_of_the_index():
    answers = story_answers(count=5)
    order = np.array([3, 0, 4, 1, 2])
    tasks = [{t: v[order] for t, v in part.items()} for part in (answers.prediction, answers.target, answers.mask)]
    mixed = StoryAnswers(answers.rows[order], answers.group[order], answers.probs[order], answers.label[order], *tasks)
    back = mixed.sorted_by_row()
    assert back.rows.tolist() == answers.rows.tolist()
    assert np.array_equal(back.probs, answers.probs)
    assert np.array_equal(back.target["surd"], answers.target["surd"])
    assert back.same_as(answers, "emotion")
    assert not back.same_as(story_answers(count=5, noise_seed=2), "bentham")
