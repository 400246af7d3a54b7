import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import packed_strings
from shared.errors import DataError
from shared.packed_strings import PackedStrings

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=12)


@given(TEXTS, st.randoms(use_true_random=False))
def test_behaves_as_a_list(strings, random):
    packed = PackedStrings.pack(iter(strings))
    assert packed.to_list() == strings
    assert len(packed) == len(strings)
    rows = [random.randrange(len(strings)) for _ in range(2 * len(strings))]
    assert packed.take(np.array(rows, dtype=np.int64)).to_list() == [strings[row] for row in rows]
    duplicate = packed.first_duplicate()
    assert (duplicate is None) == (len(set(strings)) == len(strings))
    assert duplicate is None or strings.count(duplicate) > 1


def test_take_crosses_its_chunks(monkeypatch):
    monkeypatch.setattr(packed_strings, "_TAKE_CHUNK", 3)
    packed = PackedStrings.pack(["a", "", "ccc", "전지", "e"])
    assert packed.take(np.array([4, 3, 3, 1, 2, 0, 4])).to_list() == ["e", "전지", "전지", "", "ccc", "a", "e"]


def test_colliding_hashes_are_no_duplicates():
    # -1 and -2 are the famous pair for integers; for bytes a collision must be planted.
    class Colliding(PackedStrings):
        def raw(self, row):
            return type("Bytes", (bytes,), {"__hash__": lambda self: 7})(super().raw(row))

    assert Colliding(*_arrays("a", "b", "c")).first_duplicate() is None
    assert Colliding(*_arrays("a", "b", "a")).first_duplicate() == "a"


def test_rows_outside_and_masks_are_refused():
    packed = PackedStrings.pack(["a", "b"])
    assert packed[-1] == "b"
    for row in (2, -3):
        with pytest.raises(IndexError, match="of 2 packed strings"):
            packed[row]
    with pytest.raises(IndexError, match="rows 0 to 2 were asked"):
        packed.take(np.array([0, 2]))
    with pytest.raises(IndexError, match="rows -1 to 0"):
        packed.take(np.array([0, -1]))
    with pytest.raises(IndexError, match="flat array of integers, found bool"):
        packed.take(np.array([True, False]))


@pytest.mark.parametrize(
    ("buffer", "offsets", "message"),
    [
        (np.zeros(2, np.int8), np.array([0, 2]), "uint8 buffer, found int8"),
        (np.zeros(2, np.uint8), np.array([0, 2], np.int32), "int64 offsets"),
        (np.zeros(2, np.uint8), np.array([], np.int64), "at least one"),
        (np.zeros(2, np.uint8), np.array([0, 1]), "rise from 0 to the 2 bytes"),
        (np.zeros(2, np.uint8), np.array([0, 2, 1, 2]), "rise from 0"),
    ],
)
def test_arrays_of_another_form_are_refused(buffer, offsets, message):
    with pytest.raises(DataError, match=message):
        PackedStrings(buffer, offsets)


def test_a_name_that_is_not_unicode_is_named():
    with pytest.raises(DataError, match=r"string 1 is 'b\\udcff', which is not valid UTF-8; rename that file"):
        PackedStrings.pack(["a", "b\udcff"])


def test_equality_compares_content():
    assert PackedStrings.pack(["ab", "c"]) == PackedStrings.pack(["ab", "c"])
    assert PackedStrings.pack(["ab", "c"]) != PackedStrings.pack(["a", "bc"])


def _arrays(*strings):
    packed = PackedStrings.pack(strings)
    return packed.buffer, packed.offsets
