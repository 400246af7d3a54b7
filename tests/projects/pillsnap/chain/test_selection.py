import itertools

import pytest

from projects.pillsnap.chain.selection import Ratio, how_many, take, what_falls_short
from shared.errors import ConfigError


@pytest.mark.parametrize(
    ("studio", "real", "used"),
    [
        (15, 35, (15, 35)),  # just the minimum
        (16, 36, (15, 35)),
        (17, 42, (15, 35)),  # 6 * 3 = 18 > 17
        (18, 42, (18, 42)),
        (300, 70, (30, 70)),  # real runs out first
        (30, 7000, (30, 70)),
    ],
)
def test_the_ratio_is_held_with_as_many_photos_as_it_allows(studio, real, used):
    assert how_many(studio, real, Ratio(3, 7), 50) == used


@pytest.mark.parametrize(
    ("studio", "real", "used"),
    [
        (14, 300, (14, 36)),  # the minimum comes before the ratio, as near to it as can be
        (6, 100, (6, 44)),
        (100, 6, (44, 6)),
        (0, 300, (0, 50)),
        (300, 0, (50, 0)),
        (7, 17, (7, 17)),  # fewer than the minimum in all: all of them
        (0, 1, (0, 1)),
    ],
)
def test_a_class_below_the_minimum_takes_what_it_has_up_to_it(studio, real, used):
    assert how_many(studio, real, Ratio(3, 7), 50) == used


def test_the_numbers_are_the_best_there_are_by_exhaustive_search():
    ratio, minimum = Ratio(3, 7), 20
    for studio, real in itertools.product(range(0, 30), range(0, 50)):
        if studio + real == 0:
            continue
        exact = [(3 * u, 7 * u) for u in range(20) if 3 * u <= studio and 7 * u <= real and 10 * u >= minimum]
        found = how_many(studio, real, ratio, minimum)
        if exact:
            assert found == exact[-1]
            continue
        total = min(minimum, studio + real)
        pairs = [(s, total - s) for s in range(studio + 1) if 0 <= total - s <= real]
        assert found in pairs
        assert abs(found[0] - 0.3 * total) == min(abs(s - 0.3 * total) for s, _ in pairs)


def test_what_falls_short_is_named():
    def short(available, used):
        return what_falls_short(available, used, Ratio(3, 7), 50)

    assert short((16, 36), (15, 35)) == []
    assert short((0, 300), (0, 50)) == ["no studio photo", "ratio"]
    assert short((9, 0), (9, 0)) == ["no real photo", "ratio", "images"]
    assert short((3, 7), (3, 7)) == ["images"]
    assert short((14, 300), (14, 36)) == ["ratio"]


def test_a_ratio_is_read_and_reduced():
    assert Ratio.parse(" 30:70 ") == Ratio(3, 7)
    assert str(Ratio.parse("1:1")) == "1:1"
    for text in ("3", "3:7:1", "a:b", "-3:7", "3.5:7", ""):
        with pytest.raises(ConfigError, match="two whole numbers from 1 on, such as 3:7"):
            Ratio.parse(text)
    with pytest.raises(ConfigError, match="the ratio is 0:7; both parts must be 1 or more"):
        Ratio.parse("0:7")


def test_captures_are_taken_whole_but_the_last():
    captures = {name: [f"{name}{number}" for number in range(4)] for name in "abcdefgh"}
    for seed in range(5):
        longest = take(captures, 32, seed)
        assert sorted(longest) == sorted(itertools.chain(*captures.values()))
        for count in range(33):
            taken = take(captures, count, seed)
            assert taken == longest[:count]
            per_capture = [sum(photo[0] == name for photo in taken) for name in captures]
            assert sum(number not in (0, 4) for number in per_capture) <= 1


def test_the_order_depends_on_the_seed_and_not_on_the_other_captures():
    captures = {name: [name] for name in "abcdefgh"}
    assert len({tuple(take(captures, 8, seed)) for seed in range(20)}) > 10
    without = {name: photos for name, photos in reversed(captures.items()) if name != "c"}
    assert take(without, 7, 3) == [name for name in take(captures, 8, 3) if name != "c"]
