import numpy as np
import pytest
from scipy.stats import ttest_1samp

from projects.redheart.ablation.compare import (
    HARMFUL,
    NOTHING,
    UNCHANGED,
    UNMOVED,
    WORTH,
    compare,
    holm,
    judge,
    sentences,
)
from shared.errors import DataError
from shared.statistics import estimate
from tests.projects.redheart.ablation.story_answers import story_answers


def run(full, without, **more):
    told = []
    rows = compare(full, without, seed=0, draws=500, advance=lambda done, total: told.append((done, total)), **more)
    assert told[-1] == (len(without), len(without))
    return {(row["module"], row["metric"]): row for row in rows}, rows


def test_a_planted_module_is_worth_something_a_useless_one_nothing_and_a_bad_one_is_harmful():
    full = story_answers(signal=2.0)
    without = {
        "useful": story_answers(signal=0.3, noise_seed=1),
        "useless": story_answers(signal=2.0, noise_seed=7),
        "bad": story_answers(signal=4.0, noise_seed=1),
        "idle": story_answers(signal=2.0),
    }
    found, rows = run(full, without)
    for metric in ("emotion/f1_macro", "emotion/nll", "surd/mae", "bentham/spearman"):
        assert found["useful", metric]["verdict"] == WORTH
        assert found["useful", metric]["worth"]["lo"] > 0
        assert found["useful", metric]["verdict_holm"] == WORTH
        assert found["bad", metric]["verdict_holm"] == HARMFUL
        assert found["useless", metric]["verdict_holm"] == NOTHING
        assert found["idle", metric]["verdict"] == UNCHANGED
        assert found["idle", metric]["p_value"] is None
    # The sign: without the module the likelihood is worse, so nll without is higher and its worth above 0.
    row = found["useful", "emotion/nll"]
    assert row["worth"]["value"] == pytest.approx(row["without"]["value"] - row["with"]["value"])
    row = found["useful", "emotion/f1_macro"]
    assert row["worth"]["value"] == pytest.approx(row["with"]["value"] - row["without"]["value"])
    said = dict(sentence.split(": ", 1) for sentence in sentences(rows))
    assert said["useful"].startswith("worth something for emotion/f1_macro")
    assert said["bad"].startswith("harmful for")
    assert said["useless"].startswith(f"{NOTHING} (smallest detectable: emotion/f1_macro 0.")
    assert said["idle"] == UNCHANGED


def test_pairs_are_of_the_same_stories_and_other_stories_are_refused():
    full, other = story_answers(count=100), story_answers(count=100, noise_seed=2)
    found, _ = run(full, {"m": other})
    rng_row = found["m", "emotion/nll"]
    own = -np.log(full.probs[np.arange(100), full.label])
    theirs = -np.log(other.probs[np.arange(100), other.label])
    assert rng_row["worth"]["value"] == pytest.approx((theirs - own).mean())
    other.rows[0] += 1000
    with pytest.raises(DataError, match=r"the answers without m are about other stories; .* ablate again"):
        run(full, {"m": other})


def test_the_p_value_is_that_of_a_t_test_where_the_score_is_a_mean():
    gain = np.random.default_rng(0).normal(0.2, 1.0, 20)
    found = estimate(lambda w: (w @ gain) / w.sum(axis=1), 20).as_dict()
    judged = judge(found)
    assert judged["p_value"] == pytest.approx(ttest_1samp(gain, 0).pvalue)
    assert judged["smallest_detectable"] == pytest.approx(2.5 * gain.std(ddof=1) / np.sqrt(20))
    assert judge({"value": 0.1, "lo": None, "hi": None, "n_groups": 4, "method": "no interval: 4 groups"}) == {
        "verdict": "not decidable (4 groups)", "smallest_detectable": None, "p_value": None
    }  # fmt: skip


def test_groups_without_variation_are_not_tested_and_no_power_is_claimed():
    still = {"value": 0.0, "lo": 0.0, "hi": 0.0, "n_groups": 40, "method": "group bootstrap, no variation"}
    assert judge(still) == {"verdict": UNMOVED, "smallest_detectable": None, "p_value": None}
    shifted = still | {"value": 0.1, "lo": 0.1, "hi": 0.1}
    assert judge(shifted) == {
        "verdict": "not decidable (no variation between groups)", "smallest_detectable": None, "p_value": None
    }  # fmt: skip
    # Probabilities that differ while every class stays the same: the NLL is tested, macro-F1 is not.
    full, other = story_answers(), story_answers()
    order = np.argsort(other.probs, axis=1)
    sharper = other.probs**1.1
    other.probs[:] = sharper / sharper.sum(axis=1, keepdims=True)
    assert np.array_equal(np.argmax(other.probs, axis=1), order[:, -1])
    found, rows = run(full, {"m": other})
    assert found["m", "emotion/f1_macro"]["verdict_holm"] == UNMOVED
    assert found["m", "emotion/f1_macro"]["p_holm"] is None
    assert found["m", "emotion/nll"]["p_holm"] == found["m", "emotion/nll"]["p_value"]  # the only one tested
    only = [row for row in rows if row["metric"] != "emotion/nll"]
    assert sentences(only) == ["m: no story's answer changed"]


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04 -> never below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(ValueError, match=r"p-value is 1.5; allowed are 0 to 1"):
        holm([1.5])


def test_the_correction_takes_back_what_one_of_many_finds_by_luck():
    full = story_answers(count=80)
    rows = run(full, {f"m{seed}": story_answers(count=80, noise_seed=seed) for seed in range(2, 16)})[1]
    single = [row for row in rows if row["verdict"] != NOTHING]
    kept = [row for row in rows if row["verdict_holm"] != NOTHING]
    assert len(rows) == 14 * 8
    assert len(single) > len(kept) == 0
