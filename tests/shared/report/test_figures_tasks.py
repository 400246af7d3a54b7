import numpy as np

from shared.report.figure_style import png_bytes
from shared.report.figures_tasks import risk_coverage_figure, tasks_figure


def test_the_curve_has_its_band(report):
    figure = risk_coverage_figure(report["risk_coverage"])
    (axes,) = figure.axes
    line = axes.lines[0]
    assert line.get_xdata()[-1] == 1.0
    assert line.get_ydata()[-1] == report["risk_coverage"]["curve"][0]["risk"]["value"]
    assert len(axes.collections) == 1
    assert [text.get_text() for text in axes.get_legend().get_texts()][-2:] == ["5 %", "10 %"]
    assert png_bytes(figure).startswith(b"\x89PNG")


def test_without_intervals_there_is_no_band(report):
    for point in report["risk_coverage"]["curve"]:
        point["risk"] |= {"lo": None, "hi": None}
    (axes,) = risk_coverage_figure(report["risk_coverage"]).axes
    assert not axes.collections
    assert np.isfinite(axes.lines[0].get_ydata()).all()


def test_every_number_has_its_row(report):
    (axes,) = tasks_figure(report["tasks"]).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["wear: edge", "wear: face", "size: length"]
    assert [text.get_text() for text in axes.texts] == ["not defined"]
