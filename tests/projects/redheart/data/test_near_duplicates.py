import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz import fuzz

from projects.redheart.data import near_duplicates
from projects.redheart.data.likeness_bounds import (
    character_counts,
    edit_budget,
    gram_buckets,
    gram_roots,
    grams_needed,
)
from projects.redheart.data.near_duplicates import find_near_duplicates
from projects.redheart.standin import StandinConfig, make_stories


def double_loop(texts, threshold=92.0):
    kept, removed = [], {}
    for row, text in enumerate(texts):
        for earlier in kept:
            if (ratio := fuzz.ratio(texts[earlier], text)) >= threshold:
                removed[row] = (earlier, ratio)
                break
        else:
            kept.append(row)
    return kept, removed


def found(texts, threshold=92.0, **options):
    result = find_near_duplicates(texts, threshold, **options)
    rows = zip(result.removed.tolist(), result.like.tolist(), result.ratio.tolist(), strict=True)
    return result.kept.tolist(), {row: (like, ratio) for row, like, ratio in rows}


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks, blocks and batches so small that every seam is crossed."""
    for name, size in (("_CHUNK", 7), ("_ROWS", 3), ("_COLUMNS", 5), ("_GRAM_COLUMNS", 2), ("_PAIRS_AT_ONCE", 4)):
        monkeypatch.setattr(near_duplicates, name, size)


@pytest.fixture(params=["grams always", "grams never"])
def gram_choice(request, monkeypatch):
    monkeypatch.setattr(near_duplicates, "_COMPARISON_S", 1.0 if request.param == "grams always" else 0.0)


letters = st.text(alphabet="ab \u00e9\U0001f600", min_size=0, max_size=40)


@st.composite
def families(draw):
    """Texts of a tiny alphabet, and changed copies of earlier ones in any order."""
    texts = draw(st.lists(letters, min_size=1, max_size=12))
    for _ in range(draw(st.integers(0, 12))):
        text = draw(st.sampled_from(texts))
        at = draw(st.integers(0, len(text)))
        texts.append(text[:at] + draw(st.text(alphabet="abc", max_size=3)) + text[at + draw(st.integers(0, 3)) :])
    return draw(st.permutations(texts))


@pytest.mark.usefixtures("small_chunks", "gram_choice")
@settings(max_examples=60)
@given(families(), st.sampled_from([60.0, 85.0, 92.0, 100.0]))
def test_it_is_the_double_loop(texts, threshold):
    assert found(texts, threshold) == double_loop(texts, threshold)


@pytest.mark.usefixtures("gram_choice")
def test_it_is_the_double_loop_on_stories():
    stories, copies = make_stories(StandinConfig(num_stories=300, near_duplicate_share=0.2, seed=4))
    texts = [story["text"] for story in stories]
    result = found(texts)
    assert result == double_loop(texts)
    names = {stories[row]["id"] for row in result[1]}
    assert names >= {copy["id"] for copy in copies}


@pytest.mark.usefixtures("small_chunks")
def test_a_chain_keeps_what_is_like_a_removed_text_only():
    base = "abcdefghijklmnopqrstuvwxyz" * 4
    chain = [base, base[8:] + "0" * 8, base[16:] + "0" * 16]
    assert fuzz.ratio(chain[0], chain[1]) >= 92 > fuzz.ratio(chain[0], chain[2])
    assert fuzz.ratio(chain[1], chain[2]) >= 92
    kept, removed = found(chain)
    assert kept == [0, 2]
    assert removed[1][0] == 0
    assert found([chain[1], chain[0], chain[2]])[0] == [0]


@pytest.mark.usefixtures("small_chunks")
def test_a_ratio_of_exactly_the_threshold_goes():
    one, other = "a" * 46 + "b" * 4, "a" * 46 + "c" * 4
    assert fuzz.ratio(one, other) == 92.0
    assert found([one, other]) == ([0], {1: (0, 92.0)})


def test_copies_of_a_removed_text_are_like_what_it_is_like():
    base = "one two three four five six seven eight nine ten"
    texts = [base, base + "!", base + "!", base, "quite another text"]
    kept, removed = found(texts)
    assert (kept, removed) == double_loop(texts)
    assert kept == [0, 4]
    assert [like for like, _ in removed.values()] == [0, 0, 0]
    assert removed[3][1] == 100


def test_nothing_and_one_text():
    assert found([]) == ([], {})
    assert found([""]) == ([0], {})
    assert found(["", "", "a"]) == ([0, 2], {1: (0, 100.0)})


def test_workers_change_nothing_and_progress_ends_at_all():
    stories, _ = make_stories(StandinConfig(num_stories=120, near_duplicate_share=0.3))
    texts = [story["text"] for story in stories]
    told = []
    assert found(texts, workers=1) == found(texts, workers=2, on_progress=lambda *state: told.append(state))
    assert told[-1] == (120, 120)


@pytest.mark.parametrize("threshold", [50.0, 100.1, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(ValueError, match=r"threshold is .*; allowed is above 50 to 100"):
        find_near_duplicates(["a"], threshold)


def test_workers_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"workers is 0; allowed is 1 or more"):
        find_near_duplicates(["a"], workers=0)


@settings(max_examples=150)
@given(letters, letters, st.sampled_from([60.0, 80.0, 92.0]))
def test_no_pair_at_the_threshold_breaks_a_bound(one, other, threshold):
    if fuzz.ratio(one, other) < threshold:
        other = one + other[:2]
    if fuzz.ratio(one, other) < threshold:
        return
    total = np.array([len(one) + len(other)], dtype=np.float64)
    counts = character_counts([one, other])
    assert np.abs(counts[0] - counts[1]).sum() <= edit_budget(total, threshold)[0]
    roots = gram_roots([one, other], gram_buckets(20))
    assert roots[0] @ roots[1] >= grams_needed(total, threshold)[0]


def test_counts_by_hand():
    assert character_counts(["aab", "b"]).sum(axis=1).tolist() == [3, 1]
    assert sorted(character_counts(["aab"])[0].tolist())[-2:] == [1, 2]
    roots = gram_roots(["abcabcabc", "abc", "abcd"], 4096)
    assert (roots**2).sum(axis=1).round().tolist() == [6, 0, 1]  # no run reaches into the next text
    assert [gram_buckets(length) for length in (1, 100, 1000, 10**6)] == [256, 1024, 8192, 2**15]
