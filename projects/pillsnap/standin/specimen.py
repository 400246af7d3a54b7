"""One physical pill: colour, height and outline with its wear, and its picture under a light."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from projects.pillsnap.standin.drugs import Drug
from projects.pillsnap.standin.imprint import imprint_mask
from projects.pillsnap.standin.noise import cloud
from projects.pillsnap.standin.shapes import height_over, signed_distance

Image = NDArray[Any]  # float32; the stubs of OpenCV say less
REACH = 1.12  # pill units from the middle of the buffer to its edge


@dataclass(frozen=True)
class Specimen:
    """A pill as maps over a square buffer whose middle is the pill's centre.

    Attributes:
        albedo: Share of light returned, linear, (P, P, 3).
        normal: Unit normals x, y, z, (P, P, 3); z points to the viewer.
        alpha: Coverage 0 to 1, (P, P).
        gloss: Strength of the highlight, 0 to 1.
        thickness: Height of the pill in pill units; the longer its shadow.
        half_extent_px: Pixels of one pill unit.
    """

    albedo: Image
    normal: Image
    alpha: Image
    gloss: float
    thickness: float
    half_extent_px: float


def make_specimen(drug: Drug, rng: np.random.Generator, size_px: int) -> Specimen:
    """Return one pill of a drug with slight wear: chipped rim, faded colour, shallow or rubbed imprint, dust.

    Args:
        drug: What to make.
        rng: Source of the wear.
        size_px: Height and width of the maps, at least 16.
    """
    unit = size_px / 2 / REACH
    axis = (np.arange(size_px, dtype=np.float32) - (size_px - 1) / 2) / np.float32(unit)
    x, y = np.meshgrid(axis, axis)
    # The shell of a capsule dents, it does not chip.
    chipped = 0.0 if drug.profile == "capsule" else 0.05
    chips = np.maximum(cloud(rng, size_px, 12) - rng.uniform(2.0, 3.4), 0) * np.float32(chipped)
    distance = signed_distance(drug.shape, x, y, drug.aspect) + chips
    height = height_over(distance, drug.profile)
    text = imprint_mask(drug, size_px, unit)
    scored = _score(drug, x, y)
    albedo = _colours(drug, rng, x, size_px)
    depth = 0.0
    if drug.printed:
        rubbed = np.clip(1.15 - 0.4 * np.maximum(cloud(rng, size_px, 24) - rng.uniform(1.0, 2.2), 0), 0, 1)
        ink = (text * rubbed * np.float32(rng.uniform(0.82, 0.97)))[..., None]
        albedo += ink * (_linear(drug.ink) - albedo)
    else:
        depth = float(rng.uniform(0.8, 1.1)) * 0.045
    soft = max(size_px / 170, 0.5)
    pressed = cv2.GaussianBlur(np.maximum(text * np.float32(depth), scored * np.float32(0.07)), (0, 0), soft)
    albedo *= (1 - np.float32(4.5) * np.minimum(pressed, 0.08))[..., None]  # less light reaches the grooves
    grain = rng.normal(0, 1, (size_px, size_px)).astype(np.float32) * np.float32(0.0016 * (1.2 - drug.gloss))
    relief = height - pressed + cv2.GaussianBlur(grain, (0, 0), 0.8)
    relief += _seam(drug, x)
    return Specimen(
        albedo=albedo,
        normal=normals_of(relief, unit),
        alpha=np.clip(0.5 - distance * np.float32(unit), 0, 1),
        gloss=drug.gloss,
        thickness=float(height.max()),
        half_extent_px=unit,
    )


def shade(specimen: Specimen, toward_light: NDArray[np.float32], ambient: float, softness: float) -> Image:
    """Return the lit pill as linear RGB and coverage, (P, P, 4), colour not premultiplied.

    Args:
        specimen: The pill.
        toward_light: Unit vector to the light in the pill's own frame, (3,).
        ambient: Share of light from everywhere, 0 to 1.
        softness: 0 for a small lamp, 1 for a large one: it widens the highlight.
    """
    facing = specimen.normal @ toward_light
    sky = (1 + specimen.normal[..., 2]) * np.float32(0.5)
    # Lit so that a flat grey card under the same light has its own brightness.
    diffuse = np.maximum(facing, 0) * np.float32((1 - ambient) / max(toward_light[2], 0.3)) + sky * np.float32(ambient)
    half = toward_light + np.array([0, 0, 1], np.float32)
    glint = np.maximum(specimen.normal @ (half / np.float32(np.linalg.norm(half))), 0)
    for _ in range(6 if softness < 0.5 else 4):
        glint *= glint
    lit = np.empty((*specimen.alpha.shape, 4), np.float32)
    lit[..., :3] = specimen.albedo * diffuse[..., None]
    lit[..., :3] += (glint * np.float32(specimen.gloss * (0.45 - 0.25 * softness)))[..., None]
    lit[..., 3] = specimen.alpha
    return lit


def normals_of(relief: Image, unit: float) -> Image:
    """Return unit normals of a height map in pill units, sampled at `unit` pixels a pill unit."""
    normal = np.empty((*relief.shape, 3), np.float32)
    normal[..., 0] = cv2.Scharr(relief, cv2.CV_32F, 1, 0, scale=-unit / 32)
    normal[..., 1] = cv2.Scharr(relief, cv2.CV_32F, 0, 1, scale=-unit / 32)
    normal[..., 2] = 1
    length = np.sqrt(normal[..., 0] ** 2 + normal[..., 1] ** 2 + 1)
    normal /= length[..., None]
    return normal


def _colours(drug: Drug, rng: np.random.Generator, x: Image, size_px: int) -> Image:
    """Return the linear colour of the bare mass, (P, P, 3), unevenly faded; some drugs have dark grains."""
    first = _linear(drug.rgb[0])
    albedo = np.broadcast_to(first, (size_px, size_px, 3)).copy()
    if len(drug.rgb) == 2:
        albedo[x > 0.04] = _linear(drug.rgb[1])
    fade = 1 + np.float32(rng.normal(0, 0.03)) + np.float32(0.012) * cloud(rng, size_px, 5)
    if drug.speckle:
        spots = cloud(rng, size_px, max(size_px // 4, 4))
        fade -= np.float32(0.3 * drug.speckle) * np.clip(spots - 0.9, 0, 1)
    albedo *= fade[..., None]
    return albedo


def _score(drug: Drug, x: Image, y: Image) -> Image:
    """Return the depth of the score line, 0 to 1: across a long pill, along the middle of a round or square one."""
    if drug.score == "none":
        return np.zeros_like(x)
    along, across = (x, y) if drug.shape in ("round", "square") else (y / np.float32(drug.aspect), x)
    groove = np.exp(-((across / np.float32(0.035)) ** 2))
    return groove * (np.abs(along) > 0.76) if drug.score == "notch" else groove


def _seam(drug: Drug, x: Image) -> Image:
    """Return the step where the cap of a two-piece capsule overlaps its body."""
    if drug.shape != "capsule":
        return np.zeros_like(x)
    step: Image = np.float32(0.011) * (1 + np.tanh((x - np.float32(0.04)) / np.float32(0.024)))
    return step


def _linear(rgb: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return linear light of an sRGB colour; a square stands in for the curve, here and in the camera."""
    return (np.array(rgb, np.float32) / np.float32(255)) ** 2
