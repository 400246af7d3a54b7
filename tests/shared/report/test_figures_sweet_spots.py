import gc
import json
import math
import weakref

import numpy as np
import pytest
from matplotlib import pyplot

from shared.report.figure_style import png_bytes
from shared.report.figures_sweet_spots import sweet_spots_figure
from shared.sweet_spots import choose


@pytest.fixture
def rows():
    epochs = np.arange(1, 60, 2)
    rng = np.random.default_rng(2)
    found = []
    for epoch in epochs:
        loss = 0.6 + 0.0006 * (epoch - 33) ** 2 + rng.normal(0, 0.02)
        metrics = {
            "val/loss": loss,
            "train/loss": 1.2 * math.exp(-epoch / 25),
            "val/accuracy": 0.9 - abs(epoch - 37) / 90,
        }
        metrics["val/group/head/loss"] = 0.4 + abs(epoch - 27) / 60 + rng.normal(0, 0.01)
        found.append({"epoch": int(epoch), "step": int(epoch) * 10, "metrics": metrics})
    found[4]["metrics"]["val/loss"] = math.nan
    return found


def through_json(found):
    return json.loads(json.dumps(found.as_dict(), allow_nan=False))


def test_a_choice_has_one_strip_a_group_with_all_votes(rows):
    content = through_json(choose(rows, ["backbone", "head", "tail$x"], deciding={"tail$x": "stable"}))
    figure = sweet_spots_figure(content)
    top, *strips = figure.axes
    assert top.get_title(loc="left").startswith("Sweet spots: 3 module groups, 30 snapshots of 60 epochs")
    assert {line.get_label() for line in top.lines} >= {"val/loss", "train/loss"}
    assert len(strips) == 3
    for strip, (group, epoch) in zip(strips, content["epochs"].items(), strict=True):
        assert strip.get_title(loc="left").startswith(f"{group.replace('$', chr(92) + '$')}: epoch {epoch} (")
        markers = {(line.get_marker(), line.get_xdata()[0]) for line in strip.lines if line.get_marker() != "None"}
        voted = [vote["epoch"] for vote in content["votes"][group] if vote["epoch"] is not None]
        assert sorted(x for _, x in markers) == sorted(voted)
        assert len({marker for marker, _ in markers}) == len(voted)
    assert strips[-1].get_xlabel() == "epoch"
    assert figure.legends
    assert png_bytes(figure) == png_bytes(sweet_spots_figure(content))


def test_a_decline_says_why_and_shows_the_curve(rows):
    figure = sweet_spots_figure(through_json(choose(rows[:4], ["backbone", "head"])))
    assert len(figure.axes) == 1
    assert figure.axes[0].get_title(loc="left") == "Sweet spots: declined, 4 snapshots; at least 6 are needed"
    assert png_bytes(figure).startswith(b"\x89PNG")


def test_without_any_snapshot_there_is_still_a_figure():
    figure = sweet_spots_figure(through_json(choose([], ["backbone"])))
    assert "0 snapshots" in figure.axes[0].get_title(loc="left")
    assert png_bytes(figure).startswith(b"\x89PNG")


def test_a_gap_in_the_curve_stays_a_gap(rows):
    figure = sweet_spots_figure(through_json(choose(rows, ["head"])))
    line = next(line for line in figure.axes[0].lines if line.get_label() == "val/loss")
    assert np.isnan(line.get_ydata()[4])
    assert np.isfinite(line.get_ydata()).sum() == 29


def test_figures_are_freed(rows):
    figure = sweet_spots_figure(through_json(choose(rows, ["head"])))
    png_bytes(figure)
    watcher = weakref.ref(figure)
    del figure
    gc.collect()
    assert watcher() is None
    assert pyplot.get_fignums() == []
