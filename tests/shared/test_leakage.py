import time

import numpy as np
import pytest

from shared.errors import DataError, LeakError
from shared.leakage import check_leakage
from shared.sample_index import PackedStrings
from tests.fabricate.sample_index import large_index, make_index


def codes(*numbers):
    return np.array(numbers, dtype=np.int8)


def test_a_clean_set_passes_and_says_what_was_compared():
    report = check_leakage(make_index([0, 0, 1, 2]), codes(0, 0, 1, 4))
    assert report.ok
    assert report.warnings == []
    assert report.as_dict() == {
        "checked": {
            "groups": 3, "ids": 4, "digests": 4, "digests_unchecked": 0, "identical_in_fold": 0,
            "identical_other_label": 0,
        },
        "ok": True,
    }  # fmt: skip


def test_a_planted_copy_under_another_name_and_group_is_found():
    index = make_index([0, 1, 2, 3], files=["p", "q", "p", "r"], ids=["a", "b", "c", "d"])
    with pytest.raises(
        LeakError, match=r"'a' \(train, group 'g0'\) and 'c' \(test, group 'g2'\) are the same file, as are 1 content"
    ):
        check_leakage(index, codes(0, 0, 4, 1))
    assert check_leakage(index, codes(0, 0, 0, 1)).ok


def test_every_content_in_two_folds_is_counted():
    index = make_index(range(7), files=["p", "q", "p", "q", "q", "r", "r"])
    with pytest.raises(LeakError, match=r"as are 2 content\(s\) in all .*; delete the copies"):
        check_leakage(index, codes(0, 1, 4, 1, 2, 3, 3))


def test_a_torn_group_is_found():
    with pytest.raises(LeakError, match="group 'g1' is in the folds train and calibrate"):
        check_leakage(make_index([0, 1, 1]), codes(0, 0, 3))


def test_an_id_that_stands_twice_is_found():
    index = make_index([0, 1, 2])
    # An index refuses this when it is built, so it is planted behind its back.
    object.__setattr__(index, "ids", PackedStrings.pack(["a", "b", "a"]))
    with pytest.raises(LeakError, match="sample id 'a' stands twice"):
        check_leakage(index, codes(0, 1, 2))


def test_copies_inside_a_fold_are_a_warning():
    index = make_index(range(6), files=["p", "p", "p", "q", "r", "s"], ids=list("abcdef"))
    report = check_leakage(index, codes(0, 0, 0, 0, 1, 2))
    assert report.checked["identical_in_fold"] == 3
    assert report.checked["identical_other_label"] == 0
    assert report.warnings == [
        "3 samples have the same content as another sample of their fold, for example the file of 'a' and 'c'."
    ]


def test_copies_with_another_label_are_a_warning_of_their_own():
    index = make_index(range(6), [0, 0, 1, 1, 0, 1], files=["p", "p", "p", "q", "r", "r"], ids=list("abcdef"))
    report = check_leakage(index, codes(0, 0, 0, 0, 1, 1))
    assert report.checked["identical_in_fold"] == 5
    assert report.checked["identical_other_label"] == 5
    assert report.warnings[1] == (
        "5 samples have the same content as a sample with another label, for example the file of 'a' and 'c'."
    )


def test_missing_digests_are_no_equal_digests_and_are_said():
    report = check_leakage(make_index([0, 1, 2], files=[None, None, "p"]), codes(0, 1, 2))
    assert (report.checked["digests"], report.checked["digests_unchecked"]) == (1, 2)
    assert report.warnings == [
        "2 of 3 samples have no content digest: identical files in two folds would not be seen among them."
    ]
    assert check_leakage(make_index([0, 1], files=[None, None]), codes(0, 1)).checked["digests"] == 0


def test_fold_codes_of_another_index_are_refused():
    with pytest.raises(DataError, match="fold codes must be int8"):
        check_leakage(make_index([0, 1]), codes(0))


@pytest.mark.slow
def test_two_hundred_thousand_samples_take_less_than_two_seconds():
    index = large_index()
    fold = (index.group % 5).astype(np.int8)
    start = time.perf_counter()
    check_leakage(index, fold)
    assert time.perf_counter() - start < 2
