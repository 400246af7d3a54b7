"""The studio photographs of the NIH put into rendered consumer scenes: real pills, rendered surroundings.

The photographs show one pill on black. The pill is cut out, lit a second time as a dome (its own studio shading stays
in its colours) and composited by the scenes of the stand-in. What comes out is rendered and must be called so.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from projects.pillsnap.standin.conditions import draw_scene, light_on_pill, real_pose
from projects.pillsnap.standin.photos import BUFFER_SHARE
from projects.pillsnap.standin.scenes import Photo, composite, jpeg_bytes, through_jpeg
from projects.pillsnap.standin.shapes import height_over
from projects.pillsnap.standin.specimen import REACH, Specimen, normals_of, shade
from shared.errors import DataError

# Brightest channel that still counts as background: the ringing of the JPEG stays below, the darkest pill above.
BLACK = 16
LEAST_SHARE = 0.02  # of the picture that a pill covers
STREAM = 0x417
EXPOSURE = 1.35  # white pills stand at 205 of 255 in these photographs; in a consumer photo they are nearly white
DOME = 0.6  # height of the assumed dome over that of a rendered one: the photographs' own shading is in the colours
Mask = NDArray[np.float32]


def pill_mask(image: Photo) -> Mask:
    """Return the pill's coverage 0 to 1 with a soft rim, (H, W); dark print and dark places inside count as pill.

    Args:
        image: RGB photograph of one pill on black, uint8, (H, W, 3).

    Raises:
        DataError: There is no pill on black in it.
    """
    bright = (image.max(axis=2) > BLACK).astype(np.uint8)
    outlines, _ = cv2.findContours(bright, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    solid = np.zeros_like(bright)
    if outlines:
        cv2.drawContours(solid, [max(outlines, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    share = float(solid.mean())
    if not LEAST_SHARE <= share < 1.0:
        raise DataError(
            f"the picture shows no pill on black: {share:.0%} of it is one patch brighter than {BLACK};"
            f" allowed: {LEAST_SHARE:.0%} to below 100%."
        )
    # The rim is mixed with black: the cut runs one pixel further in.
    around = cv2.copyMakeBorder(solid, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    inside = cv2.distanceTransform(around, cv2.DIST_L2, 5)[1:-1, 1:-1]
    mask: Mask = np.clip((inside - 1.0) / 2.0, 0, 1).astype(np.float32)
    return mask


def render_nih(image: Photo, seed: int, *, size_px: int, background: str | None = None) -> Photo:
    """Return a photograph of a pill on black as a rendered consumer photo, RGB, (size_px, size_px, 3).

    Args:
        image: RGB, uint8, (H, W, 3); one pill on black.
        seed: 0 or more; decides scene, pose and noise. The same picture and seed give the same photo.
        size_px: Height and width of the photo.
        background: One of `standin.BACKGROUNDS` in place of the drawn surface; all else stays.

    Raises:
        DataError: There is no pill on black in it.
        ValueError: No such background, a negative seed, or an image of another shape or type.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image is {image.dtype} of shape {image.shape}; allowed: uint8 of shape (H, W, 3).")
    if seed < 0:
        raise ValueError(f"seed is {seed}; allowed: 0 or more.")
    scene_rng, surface_rng, noise_rng = (np.random.default_rng([STREAM, seed, part]) for part in range(3))
    scene = draw_scene(scene_rng, surface_rng, size_px, studio=False, background=background)
    pose = real_pose(scene_rng)
    pill = _as_specimen(image, pill_mask(image), round(BUFFER_SHARE * size_px))
    lit = shade(pill, light_on_pill(scene.light, pose), scene.light.ambient, scene.light.softness)
    photo = composite(lit, pill.half_extent_px, pill.thickness, scene, pose, noise_rng)
    return through_jpeg(jpeg_bytes(photo, scene.camera.jpeg_quality))


def _as_specimen(image: Photo, mask: Mask, side_px: int) -> Specimen:
    """Return the pill as maps over a square buffer of `side_px`, its longest extent 1 / REACH of the side."""
    left, top, width, height = cv2.boundingRect((mask > 0.5).astype(np.uint8))
    side = round(max(width, height) * REACH)
    x, y = left + width // 2 - side // 2, top + height // 2 - side // 2
    pad = max(0, -x, -y, x + side - mask.shape[1], y + side - mask.shape[0])
    color = (_bled(image, mask).astype(np.float32) / np.float32(255)) ** 2 * np.float32(EXPOSURE)
    parts = [
        cv2.copyMakeBorder(part, pad, pad, pad, pad, border)[y + pad : y + pad + side, x + pad : x + pad + side]
        for part, border in ((color, cv2.BORDER_REPLICATE), (mask, cv2.BORDER_CONSTANT))
    ]
    how = cv2.INTER_AREA if side > side_px else cv2.INTER_CUBIC
    albedo, alpha = (np.clip(cv2.resize(part, (side_px, side_px), interpolation=how), 0, 1) for part in parts)
    unit = side_px / 2 / REACH
    depth = cv2.distanceTransform((alpha > 0.5).astype(np.uint8), cv2.DIST_L2, 5) / np.float32(unit)
    dome = cv2.GaussianBlur(height_over(-depth, "domed") * np.float32(DOME), (0, 0), max(0.02 * side_px, 0.5))
    return Specimen(albedo, normals_of(dome, unit), alpha, 0.25, float(dome.max()), unit)


def _bled(image: Photo, mask: Mask) -> NDArray[np.uint8]:
    """Return the picture with the colours of the pill carried over its rim, so that no black shines through there."""
    core = (mask >= 1).astype(np.float32)
    wide = cv2.GaussianBlur(core, (0, 0), 2.0)
    colors = cv2.GaussianBlur(image * core[..., None], (0, 0), 2.0) / np.maximum(wide, 1e-3)[..., None]
    filled: NDArray[np.uint8] = np.where(core[..., None] > 0, image, np.clip(colors, 0, 255)).astype(np.uint8)
    return filled
