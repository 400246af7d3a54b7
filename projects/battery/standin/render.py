"""From a plan to images and labels: one battery, all of its slices, one path for normal and defective ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from projects.battery.standin.config import AXES, BATTERY_STREAM, POROSITY, RESIN_OVERFLOW, SLICE_STREAM, StandinConfig
from projects.battery.standin.defects import Bead, Sheet
from projects.battery.standin.phantom import Array, BatteryShape, draw_battery
from projects.battery.standin.placement import Findings, draw_findings, slice_position
from projects.battery.standin.plan import BatteryPlan
from projects.battery.standin.scanner import Scan, draw_scan, scan_slice

_SUPERSAMPLE = 2  # samples a pixel along each side: partial volume at edges and in voids
_PLANES = {"x": (1, 2), "y": (0, 2), "z": (0, 1)}  # scanner axes across and down the image
_FADED = 0.98  # a sheet cut further out than this share of its radius leaves no trace


@dataclass(frozen=True)
class Slice:
    """One finished image.

    Attributes:
        stem: File name without its ending.
        image: (S, S) grey values.
        label: What the JSON file holds.
    """

    stem: str
    image: NDArray[np.uint8]
    label: dict[str, Any]


def render_battery(plan: BatteryPlan, config: StandinConfig) -> Iterator[Slice]:
    """Yield all slices of a battery; depends on the configuration and the battery id only."""
    rng = np.random.default_rng([config.seed, BATTERY_STREAM, plan.battery_id])
    shape = draw_battery(plan.kind, plan.form, rng)
    scan = draw_scan(config, rng)
    findings = draw_findings(plan, shape, config, rng)
    for axis, index, found in findings.slices:
        noise = np.random.default_rng([config.seed, SLICE_STREAM, plan.battery_id, AXES.index(axis), index])
        yield _render_slice(plan, axis, index, found, shape, scan, findings, config, noise)


def slice_points(axis: str, position: float, size: int) -> tuple[Array, Array, Array]:
    """Return broadcastable scanner coordinates (x, y, z) of the centres of `size` by `size` pixels."""
    line = ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1).astype(np.float32)
    across, down = _PLANES[axis]
    point = [np.full((1, 1), position, dtype=np.float32)] * 3
    point[across], point[down] = line[None, :], line[:, None]
    return point[0], point[1], point[2]


def _render_slice(
    plan: BatteryPlan,
    axis: str,
    index: int,
    found: str | None,
    shape: BatteryShape,
    scan: Scan,
    findings: Findings,
    config: StandinConfig,
    noise: np.random.Generator,
) -> Slice:
    size = config.size_px
    position = slice_position(shape, AXES.index(axis), index)
    fine = slice_points(axis, position, size * _SUPERSAMPLE)
    attenuation: Array = true_attenuation(shape, findings, AXES.index(axis), position, fine)
    attenuation = cv2.resize(attenuation, (size, size), interpolation=cv2.INTER_AREA)
    image = scan_slice(attenuation, slice_points(axis, position, size), AXES.index(axis), scan, noise)
    stem = f"CT_{plan.kind}_{plan.form}_{plan.battery_id:04d}_{axis}_{index:04d}"
    boxes = defect_boxes(found, AXES.index(axis), position, findings, size)
    label = {
        "file_name": f"{stem}.png",
        "width": size,
        "height": size,
        "is_normal": found is None,
        "defects": [{"class": found, "box": box} for box in boxes] or None,
        "battery_outline": _outline(shape.inside(fine)),
    }
    return Slice(stem, image, label)


def true_attenuation(
    shape: BatteryShape, findings: Findings, axis: int, position: float, point: tuple[Array, Array, Array]
) -> Array:
    """Return the attenuation with voids, confusers and overflow, before the scanner."""
    attenuation: Array = np.ascontiguousarray(shape.attenuation(point), dtype=np.float32)
    for sheet in (*findings.voids, *findings.confusers):
        oblique = max(np.abs(sheet.slope)) > 0.1
        limit = 1.0 if axis != sheet.axis else 2.5 + 0.02 * sum(sheet.radius) / sheet.width
        if (oblique and axis == sheet.axis) or sheet.depth(axis, position) < limit:
            attenuation = attenuation * sheet.transmission(point)
    if findings.bead is not None:
        attenuation = np.maximum(attenuation, findings.bead.attenuation(point))
    return attenuation


def defect_boxes(found: str | None, axis: int, position: float, findings: Findings, size: int) -> list[list[int]]:
    """Return [x, y, width, height] in whole pixels for each defect of the label's class that the slice shows."""
    shown: list[Sheet | Bead] = []
    if found == RESIN_OVERFLOW and findings.bead is not None:
        shown = [findings.bead]
    if found == POROSITY:
        limit = 0.5 if axis == 0 else _FADED
        shown = [void for void in findings.voids if void.depth(axis, position) < limit]
    return [_pixel_box(*defect.box(axis, position), axis, size) for defect in shown]


def _pixel_box(low: NDArray[np.float64], high: NDArray[np.float64], axis: int, size: int) -> list[int]:
    """Turn two corners in scanner coordinates into the smallest box of whole pixels inside the image."""
    plane = list(_PLANES[AXES[axis]])
    first = np.clip(np.floor((low[plane] + 1) / 2 * size), 0, size - 1).astype(int)
    last = np.clip(np.ceil((high[plane] + 1) / 2 * size), first + 1, size).astype(int)
    return [int(first[0]), int(first[1]), int(last[0] - first[0]), int(last[1] - first[1])]


def _outline(inside: NDArray[np.bool_]) -> list[list[int]]:
    """Return the polygon around the body in pixels of the image; the mask is finer by the supersampling."""
    contours, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    largest = max(contours, key=cv2.contourArea)
    polygon = cv2.approxPolyDP(largest, 1.5, closed=True)[:, 0, :]
    return [[int(x), int(y)] for x, y in polygon // _SUPERSAMPLE]
