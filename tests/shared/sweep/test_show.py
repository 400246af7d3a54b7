"""A sweep as lines, as a ranked table, and as the view that is redrawn."""

import io
import math

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from shared.sweep import show
from shared.sweep.overview import SweepReader
from tests.fabricate.sweep_folder import OUT_OF_MEMORY, SweepFolder


@pytest.fixture
def sweep(tmp_path):
    return SweepFolder(tmp_path / "outputs" / "redheart" / "sweeps" / "lr")


def overview_of(sweep):
    with sweep.fill():
        return SweepReader(sweep.folder).read()


def drawn(renderable, width=120):
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()


def test_one_line_a_point_says_all_that_is_known(sweep):
    found = list(show.lines(overview_of(sweep)))
    assert found[0] == f"{sweep.folder}: hierarchical_lr over optimizer.lr"
    assert found[1] == "running: 1 planned, 1 running, 6 done, 1 failed, 1 interrupted; of 10"
    assert found[2] == "best: optimizer.lr=7.071e-05 with score 0.40014 (lowest), point 2"
    points = found[3:]
    assert len(points) == 10
    assert points[0].split()[:6] == ["0", "stage", "0", "optimizer.lr=1e-05", "done", "1"]
    assert points[6].split("  ")[-1].strip() == f"{OUT_OF_MEMORY}; for good, until retried; run {sweep.run_of(6)}"
    assert "job process 7, epoch 3, beat 0 s ago; run " in points[7]
    assert points[8].endswith(f"stopped by SIGTERM; run {sweep.run_of(8)}")
    assert points[9].split()[3:] == ["optimizer.lr=0.0001371", "planned", "0", "tries", "-"]
    assert len({line.index(" stage ") for line in points}) == 1  # in columns


def test_a_void_lease_says_why(sweep):
    overview = overview_of(sweep)
    overview["points"][7]["lease"]["void"] = "process 7 on h is gone"
    assert "void: process 7 on h is gone" in "\n".join(show.lines(overview))


def test_the_table_is_by_rank_and_tells_what_has_none(sweep):
    found = list(show.ranking(overview_of(sweep)))
    assert found[0].split() == ["rank", "score", "values", "stage", "point"]
    assert [line.split()[2] for line in found[1:4]] == [
        "optimizer.lr=7.071e-05",
        "optimizer.lr=3.721e-05",
        "optimizer.lr=0.000188",
    ]
    scores = [float(line.split()[1]) for line in found[1:7]]
    assert scores == sorted(scores)
    assert f"not ranked: point 6 optimizer.lr=5.155e-05 ({OUT_OF_MEMORY}; for good, until retried)" in found
    assert "not ranked: point 9 optimizer.lr=0.0001371 (planned)" in found


def test_the_view_shows_counts_time_and_what_matters(sweep):
    text = drawn(show.view(overview_of(sweep)))
    assert "7 of 10 settled" in text
    assert "6 done" in text
    assert OUT_OF_MEMORY[:20] in text
    assert "0.0001371" not in text  # planned points are in the counts only


def test_what_a_file_says_is_no_markup(sweep):
    sweep.plan([{"optimizer.lr": 1e-4}])
    sweep.claim(0).failed("[red]bold[/red]\nsecond [link=http://x]line[/link]", final=True)
    text = drawn(show.view(SweepReader(sweep.folder).read()))
    assert "[red]bold[/red]" in text
    assert "[/link]" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-4, "0.0001"),
        (7.875e-5, "7.875e-05"),
        (5, "5"),
        (True, "true"),
        (None, "null"),
        ("a", "a"),
        ([1, "x"], '[1, "x"]'),
    ],
)
def test_values_read_as_they_are_typed(value, text):
    assert show.shown(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h 0 min"), (200_000, "2 d 7 h")],
)
def test_durations(seconds, text):
    assert show.duration(seconds) == text


def test_the_time_left_is_that_of_a_prediction_interval():
    gaps = np.array([50.0, 70.0, 60.0, 55.0, 65.0])
    times = [0.0, *np.cumsum(gaps)]
    left = 6
    # The sum of 6 new gaps minus 6 times the mean of 5: variance 6 s^2 + 36 s^2 / 5.
    half = stats.t.ppf(0.975, 4) * gaps.std(ddof=1) * math.sqrt(left + left**2 / 5)
    low, middle, high = (show.duration(60 * left + sign * half) for sign in (-1, 0, 1))
    assert show.time_left(times, left) == f"about {middle} left ({low} to {high}, 95 %)"


def test_students_t_is_that_of_scipy():
    for degrees, value in show.STUDENT_T.items():
        assert value == pytest.approx(stats.t.ppf(0.975, degrees), abs=0.006)


@pytest.mark.parametrize(
    ("times", "left", "text"),
    [
        ([1.0, 2.0, 3.0, 4.0], 5, "too few points settled to tell (3 of 4)"),
        ([], 5, "too few points settled to tell (0 of 4)"),
        ([1.0, 2.0, 3.0, 4.0, 5.0], None, "the total is not known"),
        ([1.0], 0, "nothing left"),
    ],
)
def test_where_nothing_can_be_said_about_the_time_it_is_said(times, left, text):
    assert show.time_left(times, left) == text


def test_the_interval_holds_as_often_as_it_says():
    rng = np.random.default_rng(3)
    held = []
    for _ in range(2000):
        gaps = rng.normal(60, 10, 8)
        middle, spread = gaps.mean() * 5, gaps.std(ddof=1)
        half = show.STUDENT_T[6] * spread * math.sqrt(5 + 25 / 8)  # degrees 7 take the entry below
        held.append(abs(rng.normal(60, 10, 5).sum() - middle) <= half)
    assert 0.93 < np.mean(held) < 0.98
