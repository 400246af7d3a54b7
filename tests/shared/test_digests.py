import numpy as np
import pytest

from shared.digests import equal_runs, match_digests


def few_digests(num, seed):
    """Digests of which many are equal, or equal in one half only."""
    rng = np.random.default_rng(seed)
    return np.repeat(rng.integers(0, 2, (num, 2), dtype=np.uint8), 8, axis=1) * np.uint8(255)


@pytest.mark.parametrize("num", [0, 1, 2, 40])
def test_runs_are_the_groups_of_equal_digests(num):
    digest = few_digests(num, num)
    order, start = equal_runs(digest)
    found = sorted(part.tolist() for part in np.split(order, start[1:]) if len(part))
    by_content: dict[bytes, list[int]] = {}
    for row in range(num):
        by_content.setdefault(digest[row].tobytes(), []).append(row)
    assert found == sorted(by_content.values())


@pytest.mark.parametrize(("num", "known"), [(0, 0), (0, 3), (3, 0), (30, 2), (5, 30)])
def test_matches_are_those_of_a_dictionary(num, known):
    for seed in range(10):
        digest, table = few_digests(num, seed), few_digests(known, seed + 100)
        first = {}
        for row in range(known):
            first.setdefault(table[row].tobytes(), row)
        expected = [first.get(row.tobytes(), -1) for row in digest]
        assert match_digests(digest, table).tolist() == expected
