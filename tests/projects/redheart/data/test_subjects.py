import numpy as np
import pytest
from scipy.stats import zscore

from projects.redheart.data.subjects import read_subjects, zscore_within
from shared.errors import DataError

HEADER = "id,subject,valence,arousal,dominance"


def write(tmp_path, *lines):
    path = tmp_path / "subjects.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_ratings_and_features_arrive(tmp_path):
    table = read_subjects(write(tmp_path, HEADER + ",p300", "a,x,1,5,9,-2.5", "a,y,2.5,5,9,", "b,x,3,4,5,1e3"))
    assert (table.ids, table.subject, len(table)) == (("a", "a", "b"), ("x", "y", "x"), 3)
    assert table.subjects() == ["x", "y"]
    assert table.numbers["valence"].tolist() == [1, 2.5, 3]
    np.testing.assert_array_equal(table.numbers["p300"], [-2.5, np.nan, 1000])


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["id,subject,valence"], "lacks the columns arousal, dominance"),
        ([HEADER + ",mood", "a,x,1,1,1,1"], "has the column 'mood'; allowed are id, subject"),
        ([HEADER + ",p300,p300"], "has the column 'p300' twice"),
        ([HEADER], "has no line below its header"),
        ([HEADER, "a,x,0,5,5"], r"line 2 has valence '0'; allowed is a number from 1 to 9"),
        ([HEADER, "a,x,5,nan,5"], r"line 2 has arousal 'nan'; allowed is a number from 1 to 9"),
        ([HEADER, "a,x,5,5,"], r"line 2 has dominance ''; allowed is a number from 1 to 9"),
        ([HEADER + ",lpp", "a,x,5,5,5,inf"], r"line 2 has lpp 'inf'; allowed is a finite number, or nothing"),
        ([HEADER, "a,x,5,5,5", "a,x,5,5,6"], r"line 3 rates 'a' by 'x' again, as line 2"),
        ([HEADER, "a,,5,5,5"], "line 2 has no subject"),
        ([HEADER, ",x,5,5,5"], "line 2 has no id"),
        ([HEADER, "a,x,5,5"], "line 2 has another number of values than the header; give 5"),
        ([HEADER, '"a,x,5,5,5'], "is no readable CSV"),
    ],
)
def test_a_wrong_table_is_told_in_one_sentence(tmp_path, lines, sentence):
    with pytest.raises(DataError, match=sentence):
        read_subjects(write(tmp_path, *lines))


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(DataError, match=r"subjects\.csv do not exist; give a table with id, subject, valence"):
        read_subjects(tmp_path / "subjects.csv")


def test_zscores_are_those_of_scipy_within_each_person():
    values = np.array([1.0, 4.0, 2.0, 9.0, 3.0, np.nan])
    subject = ["a", "b", "a", "b", "a", "a"]
    scores, without = zscore_within(values, subject)
    np.testing.assert_allclose(scores[[0, 2, 4]], zscore(values[[0, 2, 4]], ddof=1))
    np.testing.assert_allclose(scores[[1, 3]], zscore(values[[1, 3]], ddof=1))
    assert np.isnan(scores[5])
    assert without == {}


def test_people_without_a_zscore_are_told():
    scores, without = zscore_within(np.array([5.0, 5.0, 1.0, np.nan]), ["flat", "flat", "one", "none"])
    assert np.isnan(scores).all()
    assert without == {"flat": "no spread", "none": "0 values", "one": "1 value"}
    with pytest.raises(ValueError, match=r"values have shape \(2,\), expected \(1,\)"):
        zscore_within(np.zeros(2), ["a"])
