"""Letters and digits of an imprint as a mask, in Pillow's own default font: no font file of the machine is read."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from projects.pillsnap.standin.drugs import Drug

# Boxes in pill units (centre x, centre y, half width, half height) of one or two parts.
_ONE = {"round": (0, 0, 0.62, 0.34), "triangle": (0, 0.08, 0.34, 0.24), "tear": (-0.36, 0, 0.36, 0.26)}
_ONE |= {"diamond": (0, 0, 0.42, 0.26), "pentagon": (0, 0, 0.5, 0.3), "square": (0, 0, 0.6, 0.34)}
_STACKED = {
    "round": ((0, -0.42, 0.5, 0.25), (0, 0.42, 0.5, 0.25)),
    "square": ((0, -0.38, 0.5, 0.25), (0, 0.38, 0.5, 0.25)),
}
_STACKED |= {"hexagon": ((0, -0.38, 0.5, 0.24), (0, 0.38, 0.5, 0.24))}


def boxes(drug: Drug) -> list[tuple[float, float, float, float]]:
    """Return the box of each imprint part in pill units: centre x, centre y, half width, half height."""
    if drug.shape in ("capsule", "oval", "caplet", "rectangle"):
        tall = drug.aspect * (0.52 if drug.shape == "capsule" else 0.58)
        if len(drug.parts) == 1:
            return [(0.0, 0.0, 0.62, tall)]
        inset = 0.46 if drug.shape == "capsule" else 0.42
        return [(-inset, 0.0, 0.29, tall), (inset, 0.0, 0.29, tall)]
    if len(drug.parts) == 1 and drug.score == "notch":
        return [(0.0, 0.0, 0.5, 0.3)]  # room for the notches at both ends
    return [_ONE[drug.shape]] if len(drug.parts) == 1 else list(_STACKED[drug.shape])


def _points(text: str, box: tuple[float, float, float, float], half_extent_px: float) -> float:
    """Return the font size that fills a box."""
    left, top, right, bottom = ImageFont.load_default(100).getbbox(text)
    return 200 * half_extent_px * min(box[2] / (right - left), box[3] / (bottom - top))


@lru_cache(maxsize=64)
def imprint_mask(drug: Drug, size_px: int, half_extent_px: float) -> NDArray[np.float32]:
    """Return the imprint as coverage 0 to 1, (size_px, size_px), read-only, in the frame of the unrotated pill.

    Args:
        drug: Its parts and shape decide text and place.
        size_px: Height and width of the mask.
        half_extent_px: Pixels of one pill unit; the pill's centre is the middle of the mask.
    """
    canvas = Image.new("L", (size_px, size_px), 0)
    pen = ImageDraw.Draw(canvas)
    middle = (size_px - 1) / 2
    places = boxes(drug)
    points = min(_points(text, box, half_extent_px) for text, box in zip(drug.parts, places, strict=True))
    font = ImageFont.load_default(points * 0.94)
    stroke = max(points * 0.022, 0.3)  # pressed and printed letters are bolder than book type
    for text, (x, y, _, _) in zip(drug.parts, places, strict=True):
        centre = (middle + x * half_extent_px, middle + y * half_extent_px)
        left, top, right, bottom = font.getbbox(text)
        corner = (centre[0] - (left + right) / 2, centre[1] - (top + bottom) / 2)
        pen.text(corner, text, fill=255, font=font, stroke_width=stroke)
    mask: NDArray[np.float32] = np.asarray(canvas, np.float32) / np.float32(255)
    mask.setflags(write=False)
    return mask
