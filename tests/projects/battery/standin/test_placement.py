from dataclasses import replace

import numpy as np
import pytest

from projects.battery.standin.config import AXES, POROSITY, RESIN_OVERFLOW, StandinConfig
from projects.battery.standin.phantom import draw_battery
from projects.battery.standin.placement import Findings, draw_findings, slice_position
from projects.battery.standin.plan import plan_batteries
from projects.battery.standin.render import defect_boxes, slice_points, true_attenuation

CONFIG = StandinConfig(num_batteries=24, num_slices=300, x_normal_share=0.98, class_shares=(4, 2, 4, 4, 2))
SIZE = 96


@pytest.fixture(scope="module")
def batteries():
    made = []
    for plan in plan_batteries(CONFIG):
        rng = np.random.default_rng([7, plan.battery_id])
        shape = draw_battery(plan.kind, plan.form, rng)
        made.append((plan, shape, draw_findings(plan, shape, CONFIG, rng)))
    return made


def effect(shape, findings: Findings, axis: str, index: int, **without):
    """Attenuation that the findings named in `without` take away or add, (SIZE, SIZE)."""
    position = slice_position(shape, AXES.index(axis), index)
    point = slice_points(axis, position, SIZE)
    full = true_attenuation(shape, findings, AXES.index(axis), position, point)
    clean = true_attenuation(shape, replace(findings, **without), AXES.index(axis), position, point)
    return np.abs(full - clean)


def test_slices_are_those_of_the_plan(batteries):
    for plan, _, findings in batteries:
        names = [(axis, index) for axis, index, _ in findings.slices]
        assert len(set(names)) == len(names) == plan.num_slices
        for axis in AXES:
            labels = [label for a, _, label in findings.slices if a == axis]
            assert labels.count(RESIN_OVERFLOW) == plan.overflow[axis]
            assert labels.count(POROSITY) == plan.porous[axis]


def test_normal_slices_show_no_void_and_no_overflow(batteries):
    for _, shape, findings in batteries:
        for axis, index, label in findings.slices:
            if label is None:
                assert effect(shape, findings, axis, index, voids=[], bead=None).max() < 0.01


def test_porous_slices_show_voids(batteries):
    seen = [
        (effect(shape, findings, axis, index, voids=[]) > 0.1).sum()
        for _, shape, findings in batteries
        for axis, index, label in findings.slices
        if label == POROSITY
    ]
    assert np.mean(np.array(seen) >= 3) > 0.95
    assert np.median(seen) > 10


def test_overflow_is_outside_the_body_and_never_beside_a_void(batteries):
    for _, shape, findings in batteries:
        for axis, index, label in findings.slices:
            if label == RESIN_OVERFLOW:
                added = effect(shape, findings, axis, index, bead=None) > 0.1
                point = slice_points(axis, slice_position(shape, AXES.index(axis), index), SIZE)
                assert (added & ~shape.inside(point)).sum() >= 4
                assert effect(shape, findings, axis, index, voids=[]).max() < 0.01


def testdefect_boxes_hold_the_void_and_are_tall_and_thin(batteries):
    tall = []
    for _, shape, findings in batteries:
        for axis, index, label in findings.slices:
            if label != POROSITY:
                continue
            position = slice_position(shape, AXES.index(axis), index)
            changed = effect(shape, findings, axis, index, voids=[])
            covered = np.zeros_like(changed, dtype=bool)
            for x, y, width, height in defect_boxes(label, AXES.index(axis), position, findings, SIZE):
                assert 0 <= x < x + width <= SIZE
                assert 0 <= y < y + height <= SIZE
                covered[y : y + height, max(x - 1, 0) : x + width + 1] = True
                if axis != "x":
                    tall.append(height / width)
            strong = changed > 0.25
            assert covered.any()
            assert (strong & ~covered).sum() <= 0.1 * strong.sum() + 1
    assert np.median(tall) > 4


def test_creases_look_like_voids_on_x_slices_of_sound_batteries_too(batteries):
    sound = [(shape, found) for plan, shape, found in batteries if not any(plan.porous.values())]
    crossed = [
        effect(shape, found, axis, index, confusers=[]).max() > 0.2
        for shape, found in sound
        for axis, index, _ in found.slices
        if axis == "x"
    ]
    assert 0.1 < np.mean(crossed) < 0.7


def test_porous_and_normal_slices_lie_alike_in_the_stack(batteries):
    where = {True: [], False: []}
    for plan, _, findings in batteries:
        if plan.kind == "cell":
            for _, index, label in findings.slices:
                where[label == POROSITY].append(index)
    assert abs(np.mean(where[True]) - np.mean(where[False])) < 250  # of 2000
