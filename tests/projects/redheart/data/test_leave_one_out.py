from collections import Counter

import numpy as np
import pytest

from projects.redheart.data.leave_one_out import check_subject_folds, leave_one_subject_out, subject_of_stories
from projects.redheart.data.subjects import SubjectTable
from shared.errors import DataError, LeakError
from shared.folds import FOLDS

PEOPLE = [f"p{row % 12:02d}" for row in range(60)]


def test_each_person_is_left_out_once_and_stands_in_one_fold():
    rounds = dict(leave_one_subject_out(PEOPLE))
    assert list(rounds) == sorted(set(PEOPLE))
    for name, fold in rounds.items():
        of = {
            person: {int(code) for person_, code in zip(PEOPLE, fold, strict=True) if person_ == person}
            for person in PEOPLE
        }
        assert all(len(codes) == 1 for codes in of.values())
        assert {person for person, codes in of.items() if codes == {4}} == {name}
        counts = Counter(FOLDS[next(iter(codes))] for codes in of.values())
        assert counts == {"train": 8, "val": 1, "accept": 1, "calibrate": 1, "test": 1}


def test_rounds_repeat_with_the_seed_and_change_with_it():
    first, again, other = (dict(leave_one_subject_out(PEOPLE, seed=seed)) for seed in (0, 0, 1))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_too_few_people_and_wrong_shares_are_refused():
    with pytest.raises(DataError, match=r"needs 5 subjects or more, found 2"):
        next(leave_one_subject_out(["a", "b", "a"]))
    with pytest.raises(DataError, match=r"allowed are positive shares of train, val, accept, calibrate, sum 1"):
        next(leave_one_subject_out(PEOPLE, {"train": 0.9, "val": 0.1}))


def test_a_person_in_two_folds_is_named():
    check_subject_folds(["a", "b", "a"], np.array([0, 1, 0], dtype=np.int8))
    with pytest.raises(LeakError, match=r"subject 'a' is in the folds train and test \(1 subject\(s\) in more"):
        check_subject_folds(["a", "b", "a"], np.array([0, 1, 4], dtype=np.int8))
    with pytest.raises(ValueError, match=r"fold codes have shape \(1,\), expected \(2,\)"):
        check_subject_folds(["a", "b"], np.zeros(1, dtype=np.int8))


def table(*pairs):
    return SubjectTable(tuple(name for name, _ in pairs), tuple(subject for _, subject in pairs), {})


def test_stories_find_their_people():
    rows, names = subject_of_stories(table(("c", "x"), ("a", "y"), ("gone", "x")), ["a", "b", "c"], left_out={"gone"})
    assert (rows.tolist(), names) == ([0, 2], ["y", "x"])


def test_a_story_of_two_people_and_an_unknown_story_are_refused():
    with pytest.raises(LeakError, match=r"story 'a' was rated by the subjects 'x' and 'y': left out with one it would"):
        subject_of_stories(table(("a", "x"), ("a", "y")), ["a"])
    with pytest.raises(DataError, match=r"the ratings name the story 'z', which the data set does not hold"):
        subject_of_stories(table(("z", "x")), ["a"])
