import numpy as np

from shared.report.risk_evaluation import risk_coverage_part
from shared.selective import COVERAGES, RISKS


def test_the_numbers_stand_under_their_names(outputs, index):
    probs, group = outputs.probs["final"], index.group[outputs.rows]
    part = risk_coverage_part(probs, outputs.target, group, seed=1, draws=200)
    assert [point["coverage"] for point in part["curve"]] == list(COVERAGES)
    assert [entry["risk"] for entry in part["coverage_at_risk"]] == list(RISKS)
    order = np.argsort(-probs.max(axis=1))
    wrong = (probs.argmax(axis=1) != outputs.target)[order]
    risks = np.cumsum(wrong) / np.arange(1, len(wrong) + 1)
    np.testing.assert_allclose(part["curve"][0]["risk"]["value"], wrong.mean(), rtol=1e-12)
    np.testing.assert_allclose(part["aurc"]["value"], risks.mean(), rtol=1e-9)
    for point in part["curve"]:
        assert point["risk"]["lo"] <= point["risk"]["value"] <= point["risk"]["hi"]
        assert point["risk"]["method"].startswith("group bootstrap, 200 draws")
        assert point["risk"]["n_groups"] == 36


def test_few_groups_have_the_intervals_that_they_allow(outputs, index):
    few = index.group < 4
    part = risk_coverage_part(outputs.probs["final"][few], outputs.target[few], index.group[few], seed=1, draws=200)
    assert {point["risk"]["method"] for point in part["curve"]} == {"no interval: 4 groups"}
