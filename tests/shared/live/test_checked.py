import base64
import math

import pytest

from shared.live import checked

AXIS = {"name": "wavelength", "unit": "nm", "values": [400, 550, 700]}
IMAGE = {"side": 4, "bits": base64.b64encode(b"\xf0\x0f").decode()}
SAMPLE = {"index": 1, "image": IMAGE, "channels": ["B"], "axis": AXIS,
          "target": [[0.1, 0.2, 0.3]], "prediction": [[0.1, None, 0.3]]}  # fmt: skip


def test_a_sample_that_fits_comes_through():
    assert checked.sample(SAMPLE) == SAMPLE


@pytest.mark.parametrize(
    "change",
    [
        {"index": "1"}, {"axis": None}, {"axis": {**AXIS, "values": [1]}}, {"target": []}, {"target": [[1, 2]]},
        {"target": [[1, 2, 3]] * 17, "prediction": [[1, 2, 3]] * 17}, {"prediction": "x"},
        {"prediction": [[1, 2, 3]] * 2},
        {"axis": {**AXIS, "values": [1.0] * 3000}, "target": [[0.0] * 3000], "prediction": [[0.0] * 3000]},
    ],
)  # fmt: skip
def test_one_that_does_not_is_left_out(change):
    assert checked.sample(SAMPLE | change) is None


@pytest.mark.parametrize(
    "image", [7, {"side": 4}, {"side": 10_000, "bits": ""}, {"side": 4, "bits": "AAAAAAAA"}, {"side": -4, "bits": ""}]
)
def test_a_picture_that_does_not_fit_is_left_out_alone(image):
    assert checked.sample(SAMPLE | {"image": image})["image"] is None


def test_names_of_channels_that_do_not_fit_become_numbers():
    assert checked.sample(SAMPLE | {"channels": ["a", "b"]})["channels"] == ["0"]


@pytest.mark.parametrize(
    ("value", "found"), [(1, 1), (0.5, 0.5), (True, None), ("1", None), (math.nan, None), (10**400, None), (None, None)]
)
def test_numbers(value, found):
    assert checked.number(value) == found


def test_texts_and_metrics_are_bounded():
    assert checked.text("x" * 5000) == "x" * 1997 + "..."
    found = checked.metrics({f"{k}" + "x" * 200: math.inf for k in range(1000)})
    assert len(found) == checked.MAX_METRICS
    assert set(map(len, found)) == {checked.MAX_NAME}
    assert set(found.values()) == {None}
