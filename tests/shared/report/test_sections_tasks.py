from shared.report.sections import build_sections
from shared.report.wording import coverage_sentence
from tests.shared.report.test_terminal import line_of, printed


def section(report, title):
    return next(found for found in build_sections(report, ["tasks", "risk_coverage"]) if found.title == title)


def test_heads_stand_with_every_network_and_every_number(report):
    found = section(report, "Numbers beside the classes")
    networks, numbers = found.tables
    assert networks.columns[:4] == ("numbers", "network", "MAE", "RMSE")
    assert networks.columns[-1] == "Spearman minus best_single"
    assert [(row[0].text, row[1].text) for row in networks.rows] == [
        ("wear", "last"), ("", "best_single"), ("", "final"), ("size", "last"), ("", "best_single"), ("", "final"),
    ]  # fmt: skip
    assert networks.rows[2][2].text == f"{report['tasks']['wear']['rows']['final']['mae']['value']:.4f}"
    assert [row[1].text for row in numbers.rows] == ["edge", "face", "length"]
    assert (numbers.rows[1][3].text, numbers.rows[1][3].small) == ("n/a", "no interval: the target does not vary")
    assert "wear: " in found.text[0]
    assert found.figures == ("tasks",)


def test_risk_is_told_at_each_coverage(report):
    found = section(report, "Answering only where final is sure")
    assert [row[0].text for row in found.tables[0].rows][:2] == ["100 %", "90 %"]
    assert found.text[0].startswith("With an error rate of at most 5 %, final can answer ")
    assert "AURC" in found.text[-1]
    assert found.figures == ("risk_coverage",)


def test_the_sentence_says_what_can_be_answered():
    coverage = {"value": 0.625, "lo": 0.5, "hi": 0.75, "n_groups": 40, "method": "group bootstrap"}
    assert "at most 10 %, final can answer 62.5 % [50.0, 75.0] of" in coverage_sentence(
        {"risk": 0.1, "coverage": coverage}
    )
    few = {**coverage, "lo": None, "hi": None, "method": "no interval: 4 groups"}
    assert "answer 62.5 % (no interval: 4 groups) of" in coverage_sentence({"risk": 0.1, "coverage": few})
    none = coverage_sentence({"risk": 0.05, "coverage": {**coverage, "value": 0.0}})
    assert none == "No threshold on the confidence brings the error rate to 5 % or less."


def test_the_terminal_has_both(report):
    text = printed(report)
    assert line_of(text, "coverage at 5 % risk")
    spearman = report["tasks"]["size"]["rows"]["final"]["spearman"]
    assert line_of(text, "size: Spearman")[0].startswith(f"size: Spearman {spearman['value']:.3f} [")


def test_reports_without_them_have_no_such_section(report):
    del report["tasks"], report["risk_coverage"]
    titles = {found.title for found in build_sections(report, [])}
    assert not titles & {"Numbers beside the classes", "Answering only where final is sure"}
