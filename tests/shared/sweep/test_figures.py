import math

import pytest

from shared.report.figure_style import png_bytes
from shared.sweep.figures import FAINT, MAX_KEYS, keys_figure, stage_figure
from tests.fabricate.sweep_points import point, view

KEY = "optimizer.lr"


def curve(*losses):
    return {"epochs": [{"epoch": n, "train_loss": 1.0, "val_loss": loss} for n, loss in enumerate(losses)]}


@pytest.fixture
def points():
    return [
        point(0, {KEY: 1e-5}, 3.0, **curve(4.0, 3.0)),
        point(1, {KEY: 1e-3}, 1.0, **curve(2.0, 1.0)),
        point(2, {KEY: 1e-1}),
        point(3, {KEY: 5e-4}, 0.8, stage=1, **curve(2.0, 0.8)),
        point(4, {KEY: 2e-3}, 0.5, stage=1, stopped_at=1, **curve(2.5)),
        point(5, {KEY: 4e-3}, 0.1, stage=2, **curve(2.5, math.nan)),
        view(6, point(6, {KEY: 1e-4}, 0.0, stage=1)),
    ]


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def dots(axes):
    """Marker positions by colour; the faint ones are of earlier stages."""
    lines = [line for line in axes.get_lines() if line.get_marker() == "o" and len(line.get_xdata()) == 1]
    return [(line.get_xdata()[0], line.get_ydata()[0], line.get_color() == FAINT) for line in lines]


def test_a_stage_is_coloured_and_earlier_ones_are_grey(points):
    left, right = stage_figure(points, 1, KEY, score_name="my score").axes
    assert dots(left) == [(1e-5, 3.0, True), (5e-4, 0.8, False), (1e-3, 1.0, True), (2e-3, 0.5, False)]
    assert legend(left) == ["best so far: 0.0005 (score 0.8)", "failed: 1", "hollow: stopped early"]
    assert (left.get_xscale(), left.get_xlabel(), left.get_ylabel()) == ("log", KEY, "my score")
    assert left.get_title(loc="left") == "Stage 1: scores (smaller is better; one seed, no interval)"
    assert legend(right) == ["0.0005", "0.002"]
    assert [list(line.get_ydata()) for line in right.get_lines()] == [[4.0, 3.0], [2.0, 1.0], [2.0, 0.8], [2.5]]


def test_the_best_is_that_of_the_stages_so_far_and_in_its_direction(points):
    assert legend(stage_figure(points, 0, KEY).axes[0])[0] == "best so far: 0.001 (score 1)"
    assert legend(stage_figure(points, 2, KEY).axes[0])[0] == "best so far: 0.004 (score 0.1)"
    assert legend(stage_figure(points, 2, KEY, "max").axes[0])[0] == "best so far: 1e-05 (score 3)"
    assert "larger is better" in stage_figure(points, 2, KEY, "max").axes[0].get_title(loc="left")


def test_failed_rates_are_crosses_below_all_scores(points):
    left = stage_figure(points, 0, KEY).axes[0]
    (cross,) = [line for line in left.get_lines() if line.get_marker() == "x"]
    assert list(cross.get_xdata()) == [1e-1]
    left.figure.draw_without_rendering()
    assert cross.get_ydata()[0] < left.transAxes.inverted().transform(left.transData.transform((1e-3, 1.0)))[1]


def test_one_diverged_rate_does_not_press_the_others_flat(points):
    assert stage_figure(points, 0, KEY).axes[0].get_yscale() == "linear"
    wild = [*points, point(7, {KEY: 5e-2}, 900.0, **curve(900.0))]
    figure = stage_figure(wild, 0, KEY)
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "log"]


def test_nothing_scored_and_no_curves_is_said():
    figure = stage_figure([point(0, {KEY: 1e-3})], 0, KEY)
    assert legend(figure.axes[0]) == ["failed: 1"]
    assert [text.get_text() for text in figure.axes[1].texts] == ["no loss curves in this stage"]
    assert png_bytes(figure)[:4] == b"\x89PNG"


def grid_points():
    cells = [(model, lr) for model in ("small", "large") for lr in (1e-4, 1e-3, 1e-2)]
    scores = [3.0, 2.0, None, 2.5, 1.0, 2.0]
    return [
        point(n, {"model": model, "lr": lr, "same": 1}, score)
        for n, ((model, lr), score) in enumerate(zip(cells, scores, strict=True))
    ]


def test_a_panel_a_key_that_varies():
    names, numbers = keys_figure(grid_points(), score_name="val/loss").axes
    assert (names.get_title(loc="left"), numbers.get_title(loc="left")) == ("model", "lr")
    assert [tick.get_text() for tick in names.get_xticklabels()] == ["small", "large"]
    assert numbers.get_xscale() == "log"
    assert legend(names) == ["mean over the other keys", "best: 1", "failed: 1"]
    (mean,) = [line for line in names.get_lines() if line.get_label() == "mean over the other keys"]
    assert list(mean.get_ydata()) == [pytest.approx(2.5), pytest.approx((2.5 + 1.0 + 2.0) / 3)]
    (done,) = [line for line in numbers.get_lines() if line.get_marker() == "o"]
    assert list(zip(*done.get_data(), strict=True)) == [(1e-4, 3.0), (1e-3, 2.0), (1e-4, 2.5), (1e-3, 1.0), (1e-2, 2.0)]
    # A mean of one point is no mean: 0.01 has one score, so no line is drawn there.
    assert not [line for line in numbers.get_lines() if line.get_label() == "mean over the other keys"]


def test_many_keys_are_cut_and_it_is_said():
    points = [point(n, {f"k{k}": n + k for k in range(MAX_KEYS + 3)}, float(n + 1)) for n in range(3)]
    figure = keys_figure(points)
    assert len([axes for axes in figure.axes if axes.get_visible()]) == MAX_KEYS
    assert "3 more keys are not drawn" in figure.get_suptitle()


def test_names_that_are_no_plain_text_can_be_drawn():
    values = [{"a": "$x_1"}, {"a": None}, {"a": [1, 2]}, {"a": "n" * 80}, {"a": True}]
    points = [point(n, value, float(n + 1)) for n, value in enumerate(values)]
    figure = keys_figure(points, "max", "a $\\bad{")
    assert png_bytes(figure)[:4] == b"\x89PNG"


def test_one_point_with_nothing_swept_can_be_drawn():
    assert png_bytes(keys_figure([point(0, {}, 1.0)]))[:4] == b"\x89PNG"
    assert png_bytes(keys_figure([point(0, {})]))[:4] == b"\x89PNG"
