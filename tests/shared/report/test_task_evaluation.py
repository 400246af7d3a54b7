from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import mean_absolute_error, r2_score

from shared.report.outputs import HeadOutputs
from shared.report.task_evaluation import constant_targets, tasks_part
from tests.shared.report.conftest import make_heads, near


@pytest.fixture(scope="module")
def heads():
    return make_heads(300)


@pytest.fixture(scope="module")
def part(heads):
    return tasks_part(heads, np.repeat(np.arange(50), 6).astype(np.int32), seed=0, draws=300)


def test_values_are_means_over_the_numbers_of_samples_with_a_target(heads, part):
    head, mask = heads["wear"], heads["wear"].mask
    assert part["wear"]["n"] == int(mask.any(axis=1).sum())
    assert part["wear"]["groups"] == 50
    for row, said in head.predictions.items():
        found = {metric: entry["value"] for metric, entry in part["wear"]["rows"][row].items()}
        pairs = [(head.target[mask[:, k], k], said[mask[:, k], k]) for k in range(2)]
        assert found["mae"] == pytest.approx(np.mean([mean_absolute_error(*pair) for pair in pairs]))
        assert found["rmse"] == pytest.approx(np.mean([np.sqrt(np.mean((a - b) ** 2)) for a, b in pairs]))
        assert found["r2"] == pytest.approx(r2_score(*pairs[0]))  # the other number does not vary
        assert found["spearman"] == pytest.approx(spearmanr(*pairs[0]).statistic)


def test_each_number_has_its_interval_by_group(part):
    for name, scores in part["size"]["rows"].items():
        for entry in scores.values():
            assert entry["lo"] < entry["value"] < entry["hi"], name
            assert (entry["n_groups"], entry["method"]) == (50, "group bootstrap, 300 draws")
    difference = part["size"]["diff_to_best_single"]["final"]
    rows = part["size"]["rows"]
    assert difference["mae"]["value"] == pytest.approx(
        rows["final"]["mae"]["value"] - rows["best_single"]["mae"]["value"]
    )
    assert difference["mae"]["hi"] < 0.0 < difference["spearman"]["lo"]
    assert "best_single" not in part["size"]["diff_to_best_single"]


def test_what_does_not_vary_is_undefined_with_its_reason(heads, part):
    edge, face = part["wear"]["per_number"]["edge"], part["wear"]["per_number"]["face"]
    assert edge["spearman"]["lo"] > 0.8
    assert face["mae"]["value"] < 0.2
    assert (face["spearman"]["value"], face["spearman"]["method"]) == (None, "no interval: the target does not vary")
    assert constant_targets(heads) == [
        "wear: the targets of face do not vary on the test fold or are missing: R² and Spearman leave them out."
    ]


def test_a_dead_head_is_undefined_and_not_left_out():
    rng = np.random.default_rng(0)
    target = rng.random((120, 2))
    said = near(target, rng)
    said["last"][:, 1] = 0.4
    head = HeadOutputs(("a", "b"), said, target, np.ones((120, 2), dtype=bool))
    found = tasks_part({"h": head}, np.arange(120, dtype=np.int32), seed=0, draws=100)["h"]
    dead = found["rows"]["last"]
    assert dead["spearman"]["value"] is None
    assert dead["spearman"]["method"] == "no interval: the prediction of b does not vary"
    assert found["diff_to_best_single"]["last"]["spearman"]["method"] == dead["spearman"]["method"]
    assert dead["mae"]["lo"] is not None
    assert found["rows"]["final"]["spearman"]["lo"] > 0.8


def test_a_number_without_any_target_is_said_so(heads):
    mask = heads["wear"].mask.copy()
    mask[:, 1] = False
    found = tasks_part({"wear": replace(heads["wear"], mask=mask)}, np.arange(300, dtype=np.int32), seed=0, draws=100)
    entry = found["wear"]["per_number"]["face"]["mae"]
    assert (entry["value"], entry["method"]) == (None, "no interval: no sample has a target")
    assert found["wear"]["rows"]["final"]["mae"]["value"] is not None


def test_without_best_single_nothing_is_set_against_it(heads):
    only = {"final": heads["size"].predictions["final"]}
    found = tasks_part({"size": replace(heads["size"], predictions=only)}, np.zeros(300, dtype=np.int32), seed=0)
    assert set(found["size"]) == {"n", "groups", "rows", "per_number"}
    assert found["size"]["rows"]["final"]["mae"]["method"] == "no interval: 1 group"
