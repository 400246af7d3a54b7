import numpy as np
import pytest

from projects.pillsnap.evaluation import figures
from shared.report.figure_style import png_bytes


def estimate(value: float | None) -> dict:
    lo, hi = (None, None) if value is None else (value - 0.05, value + 0.05)
    return {"value": value, "lo": lo, "hi": hi, "n_groups": 40, "method": ""}


def texts(figure) -> list[str]:
    return [
        text.get_text()
        for axes in figure.axes
        for text in (*axes.get_yticklabels(), *(axes.get_legend().get_texts() if axes.get_legend() else ()))
    ]


def test_accuracy_names_parts_and_scores() -> None:
    part = {"n": 1200, "top1": estimate(0.8), "top5": estimate(0.95)}
    figure = figures.accuracy_figure({"all": part, "real": part | {"n": 7}})
    assert {"all  (n = 1,200)", "real  (n = 7)", "top-1", "top-5"} <= set(texts(figure))
    markers = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 1]
    assert sorted(line.get_xdata()[0] for line in markers) == [0.8, 0.8, 0.95, 0.95]
    assert png_bytes(figure).startswith(b"\x89PNG")
    only_top1 = figures.accuracy_figure({"all": {"n": 3, "top1": estimate(0.8)}})
    assert "top-5" not in texts(only_top1)


@pytest.mark.parametrize("parts", [("all",), ("all", "real", "studio")])
def test_stress_shows_each_domain_of_each_condition(parts: tuple[str, ...]) -> None:
    rows = [
        {
            "kind": kind,
            "words": f"{kind} {level}",
            "parts": {part: {"top1_change": estimate(-0.1 * level)} for part in parts},
        }
        for kind, level in (("blur", 1), ("blur", 2), ("noise", 3))
    ]
    figure = figures.stress_figure(rows)
    shown = parts[1:] or parts
    assert {"blur 1", "blur 2", "noise 3", *shown} <= set(texts(figure))
    markers = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 1]
    found = sorted(round(float(line.get_xdata()[0]), 3) for line in markers)
    assert found == sorted([-0.1, -0.2, -0.3] * len(shown))
    assert png_bytes(figure).startswith(b"\x89PNG")


def test_open_set_shows_shares_threshold_and_curve() -> None:
    known, unknown = np.array([0.01, 0.02, 0.5]), np.array([0.9, 0.95])
    curve = {"coverage": [0.2, 1.0], "risk": [0.0, 0.3]}
    figure = figures.open_set_figure(known, unknown, 0.4, curve, 0.1)
    left, right = figure.axes
    heights = [patch.get_data().values.sum() for patch in left.patches]
    assert heights == [pytest.approx(1.0), pytest.approx(1.0)]
    assert {"one of the classes, 3 photos", "held-out class, 2 photos", "threshold 0.400"} <= set(texts(figure))
    np.testing.assert_array_equal(right.lines[0].get_ydata(), [0.0, 0.3])
    assert right.get_title(loc="left") == "Wrong answers, 10 % of photos unknown"
    assert png_bytes(figure).startswith(b"\x89PNG")


def test_retrieval_has_a_panel_for_each_domain() -> None:
    metrics = {name: estimate(0.4) for name in ("recall@1", "recall@5", "mrr")}
    part = {
        "gallery": 50, "gallery_domain": "studio", "features": metrics, "pixels": metrics,
        "chance": {"recall@1": 0.02, "recall@5": 0.1, "mrr": 0.09},
    }  # fmt: skip
    figure = figures.retrieval_figure({"studio": part, "rendered": part})
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "studio fronts to 50 studio backs", "rendered fronts to 50 studio backs",
    ]  # fmt: skip
    assert {"features", "pixels", "chance", "mrr"} <= set(texts(figure))
    assert png_bytes(figure).startswith(b"\x89PNG")
