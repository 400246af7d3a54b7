import gc
import io
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import confusion_matrix

from shared.calibration import expected_calibration_error
from shared.report import figures, figures_rows
from shared.report.evaluation import TestOutputs
from shared.report.figure_set import report_figures
from shared.report.figure_style import png_bytes
from shared.report.sections import CAPTIONS
from shared.sample_index import SampleIndex
from shared.sweet_spots import choose

EPOCHS = [
    {"epoch": "0", "train/loss": "1.2", "val/loss": "1.1", "val/f1_macro": ""},
    {"epoch": "1", "train/loss": "0.8", "val/loss": "0.9", "val/f1_macro": "0.5"},
    {"epoch": "2", "train/loss": "0.6", "val/loss": "nan", "val/f1_macro": "0.7"},
    {"epoch": "3", "train/loss": "0.5", "val/f1_macro": "0.6"},
]


@pytest.fixture(scope="module")
def drawn(full_report: dict[str, Any], outputs: TestOutputs, index: SampleIndex) -> dict[str, Figure]:
    rows = [{"epoch": epoch, "step": epoch, "metrics": {"val/loss": 1.0 / (1 + epoch)}} for epoch in range(8)]
    return report_figures(
        full_report, classes=index.classes, outputs=outputs, epochs=EPOCHS, monitor="val/f1_macro", mode="max",
        sweet_spots=choose(rows, ["backbone"]).as_dict(),
    )  # fmt: skip


def test_a_full_report_draws_every_figure_with_a_caption(drawn: dict[str, Figure]) -> None:
    of_curves = {"samples", "per_point", "agreement"}  # tests/shared/report/test_curve_evaluation.py
    assert set(drawn) == set(CAPTIONS) - of_curves


def test_axes_are_labelled(drawn: dict[str, Figure]) -> None:
    for name, figure in drawn.items():
        assert any(axes.get_title(loc="left") for axes in figure.axes), name
        assert figure.axes[-1].get_xlabel(), name


def test_png_is_an_image_and_repeats_to_the_byte(drawn: dict[str, Figure]) -> None:
    content = png_bytes(drawn["confidence"])
    assert content == png_bytes(drawn["confidence"])
    assert content.startswith(b"\x89PNG")


def test_figures_are_freed_and_pyplot_never_hears_of_them(outputs: TestOutputs) -> None:
    figure = figures.reliability_figure(outputs.probs["final"], outputs.target)
    png_bytes(figure)
    watcher = weakref.ref(figure)
    del figure
    gc.collect()
    assert watcher() is None
    assert pyplot.get_fignums() == []


def test_confusion_shows_counts_and_row_shares(outputs: TestOutputs, index: SampleIndex) -> None:
    counts = confusion_matrix(outputs.target, outputs.probs["final"].argmax(axis=1))
    left, right = figures.confusion_figure(counts, index.classes).axes
    np.testing.assert_array_equal(left.images[0].get_array(), counts)
    np.testing.assert_allclose(right.images[0].get_array().sum(axis=1), 1.0)
    assert sorted(text.get_text() for text in left.texts) == sorted(f"{n:,}" for n in counts.ravel())


def test_confusion_of_an_absent_class_and_of_many_classes() -> None:
    empty_row = np.array([[3, 1], [0, 0]])
    assert not np.isnan(figures.confusion_figure(empty_row, ("a", "b")).axes[1].images[0].get_array()).any()
    many = figures.confusion_figure(np.eye(100, dtype=np.int64), [f"pill_{n}" for n in range(100)])
    assert not many.axes[0].texts


def test_reliability_gaps_weighted_by_the_histogram_are_the_ece(outputs: TestOutputs) -> None:
    probs = outputs.probs["final"]
    top, bottom = figures.reliability_figure(probs, outputs.target, before=probs).axes
    points = np.ma.filled(top.collections[-1].get_offsets(), np.nan)
    sizes = np.array([bar.get_height() for bar in bottom.patches])
    gaps = np.abs(points[:, 1] - points[:, 0])
    expected = expected_calibration_error(probs, outputs.target)
    assert np.nansum(gaps * sizes) / sizes.sum() == pytest.approx(expected)
    assert "before calibration" in [text.get_text() for text in top.get_legend().get_texts()]


def test_confidence_counts_right_and_wrong(outputs: TestOutputs) -> None:
    probs = outputs.probs["final"]
    hits = int((probs.argmax(axis=1) == outputs.target).sum())
    labels = [
        text.get_text() for text in figures.confidence_figure(probs, outputs.target).axes[0].get_legend().get_texts()
    ]
    assert labels[0].startswith(f"right: {hits}, mean 0.")
    assert labels[1].startswith(f"wrong: {len(probs) - hits}, mean 0.")


def test_curves_skip_empty_cells_and_mark_the_best_epoch() -> None:
    left, right = figures.curves_figure(EPOCHS, "val/f1_macro").axes
    np.testing.assert_array_equal(left.lines[1].get_xdata(), [0, 1])
    np.testing.assert_array_equal(right.lines[0].get_xdata(), [1, 2, 3])
    assert right.get_title(loc="right") == "best 0.700 at epoch 2"
    worst = figures.curves_figure(EPOCHS, "val/f1_macro", mode="min").axes[1]
    assert worst.get_title(loc="right") == "best 0.500 at epoch 1"
    with pytest.raises(ValueError, match="mode is 'best'; allowed are 'max' and 'min'"):
        figures.curves_figure(EPOCHS, "val/loss", mode="best")


def test_curves_of_an_unknown_key_are_empty_axes() -> None:
    assert not figures.curves_figure(EPOCHS, "val/accuracy").axes[1].lines


def test_audit_puts_the_worst_on_top_and_draws_the_warn_line(report: dict[str, Any]) -> None:
    axes = figures.audit_figure(report["audit"], warn_above=0.1).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["axis", "form", "brightness"]
    assert axes.lines[1].get_xdata()[0] == pytest.approx(0.6)
    assert "no interval" in [text.get_text() for text in axes.texts]


def test_rows_draw_what_the_report_says(report: dict[str, Any]) -> None:
    axes = figures_rows.rows_figure(report["models"], report["baselines"]).axes[0]
    drawn = {tuple(line.get_xdata()) for line in axes.lines}
    for row in (*report["models"], *report["baselines"]):
        entry = row["metrics"]["f1_macro"]
        assert {(entry["lo"], entry["hi"]), (entry["value"],)} <= drawn


def test_undefined_values_are_said_in_words(report: dict[str, Any]) -> None:
    report["per_class"]["cell_normal"]["f1"] |= {"value": None, "lo": None, "hi": None}
    texts = [text.get_text() for text in figures.per_class_figure(report["per_class"]).axes[0].texts]
    assert texts == ["not defined"]


def test_subsets_leave_out_rows_that_a_part_lacks(report: dict[str, Any]) -> None:
    del report["per_group"]["axis=x"]["rows"]["image_only"]
    figure = figures_rows.subsets_figure(report["per_group"], ["all", "axis=x"])
    markers = [line for line in figure.axes[0].lines if line.get_marker() in ("o", "s")]
    assert len(markers) == 3


@pytest.mark.parametrize("name", ["$x_{", "a" * 200, "<script>", "한글"])
def test_odd_names_are_drawn_as_plain_text(report: dict[str, Any], name: str) -> None:
    report["audit"][0]["feature"] = name
    draw: Callable[[], bytes] = lambda: png_bytes(figures.audit_figure(report["audit"]))  # noqa: E731
    if name == "한글":
        with pytest.warns(UserWarning, match="missing from font"):
            content = draw()
    else:
        content = draw()
    assert content.startswith(b"\x89PNG")


def test_nothing_to_draw_draws_nothing(report: dict[str, Any]) -> None:
    drawn = ("models", "baselines", "audit", "per_class", "per_group", "risk_coverage", "tasks")
    bare = {key: value for key, value in report.items() if key not in drawn}
    assert report_figures(bare) == {}


def test_written_image_has_the_size_of_the_figure(drawn: dict[str, Figure]) -> None:
    image = Image.open(io.BytesIO(png_bytes(drawn["rows"])))
    assert image.size == tuple(round(side * 130) for side in drawn["rows"].get_size_inches())
