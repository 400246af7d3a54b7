from dataclasses import replace

import cv2
import numpy as np
import pytest

from projects.pillsnap.standin.config import StandinConfig
from projects.pillsnap.standin.drugs import plan_drugs
from projects.pillsnap.standin.imprint import boxes, imprint_mask
from projects.pillsnap.standin.shapes import signed_distance

DRUGS = plan_drugs(StandinConfig()).known
SIZE, UNIT = 160, 70.0
AXIS = (np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2) / np.float32(UNIT)
X, Y = np.meshgrid(AXIS, AXIS)


@pytest.mark.parametrize("drug", DRUGS, ids=lambda drug: f"{drug.shape}-{drug.imprint}")
def test_letters_lie_on_the_pill_and_off_the_score_line(drug):
    mask = imprint_mask(drug, SIZE, UNIT)
    assert mask.shape == (SIZE, SIZE)
    assert 0.01 < mask.mean() < 0.25
    assert signed_distance(drug.shape, X, Y, drug.aspect)[mask > 0.5].max() < -0.02
    if drug.score == "line":
        across = Y if drug.shape in ("round", "square") else X
        assert np.abs(across[mask > 0.5]).min() > 0.05


def test_each_part_fills_its_own_box_with_letters_of_one_size():
    drug = replace(DRUGS[0], shape="capsule", parts=("A", "57"), aspect=0.4, score="none")
    mask = imprint_mask(drug, SIZE, UNIT)
    heights = []
    for x, _, half_width, _ in boxes(drug):
        columns = np.abs(X[0] - x) <= half_width + 0.02
        part = mask[:, columns] > 0.5
        rows = np.flatnonzero(part.any(axis=1))
        heights.append(rows[-1] - rows[0])
    assert abs(heights[0] - heights[1]) <= 2
    assert mask.sum() == pytest.approx(sum(mask[:, np.abs(X[0] - x) <= 0.32].sum() for x, *_ in boxes(drug)), rel=0.01)


def test_another_text_is_another_mask_and_none_can_be_changed():
    drug = replace(DRUGS[0], shape="round", parts=("A8",), score="none")
    mask, other = imprint_mask(drug, SIZE, UNIT), imprint_mask(replace(drug, parts=("A3",)), SIZE, UNIT)
    assert np.abs(mask - other).sum() > 20
    with pytest.raises(ValueError, match="read-only"):
        mask[0, 0] = 1
    count, _ = cv2.connectedComponents((mask > 0.5).astype(np.uint8))
    assert count == 3  # background, A, 8
