"""A cut-out pill put into a scene: perspective, shadow, light, and the camera that takes the photo.

Colours are linear light until the camera; a square root stands in for its tone curve.
"""

import io
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures

from projects.pillsnap.standin.conditions import Camera, Light, Pose, Scene

Image = NDArray[Any]  # float32; the stubs of OpenCV say less
Photo = NDArray[np.uint8]
FOCAL = 2.4  # focal length of the camera over the photo's side


def composite(
    pill: Image, half_extent_px: float, thickness: float, scene: Scene, pose: Pose, rng: np.random.Generator
) -> Photo:
    """Return the photo of a cut-out pill in a scene, before its JPEG, (size_px, size_px, 3).

    Args:
        pill: Linear RGB and coverage, (P, P, 4), lit, not premultiplied; the pill's centre is the middle.
        half_extent_px: Half of the pill's longest extent, in pixels of `pill`.
        thickness: Height of the pill over half its longest extent; decides the length of the shadow.
        scene: Where it lies.
        pose: How it lies.
        rng: Source of the sensor's noise.
    """
    size = scene.size_px
    tilt = _tilt(scene.camera.tilt_deg, size)
    scale = pose.fill * size / 2 / half_extent_px
    middle = np.array([size / 2 - 0.5, size / 2 - 0.5])
    place = _similarity(pill.shape[0], scale, pose.angle_deg, middle + np.array(pose.shift) * size)
    ground = _similarity(scene.surface.shape[0], 1.0, scene.surface_deg, middle + np.array(pose.shift) * size * 0.5)
    frame: Image = cv2.warpPerspective(scene.surface, tilt @ ground, (size, size), borderMode=cv2.BORDER_REFLECT_101)
    flat = pill.copy()
    flat[..., :3] *= pill[..., 3:]
    cut: Image = cv2.warpPerspective(flat, tilt @ place, (size, size), flags=cv2.INTER_LINEAR)
    cover = cut[..., 3]
    reach = thickness * pose.fill * size / 2
    frame *= _shadow(cover, scene.light, reach)[..., None]
    frame *= (1 - cover)[..., None]
    frame += cut[..., :3]
    field: Image = cv2.resize(scene.light.field, (size, size), interpolation=cv2.INTER_CUBIC)
    frame *= (field * np.float32(pose.exposure))[..., None] * scene.light.gains
    return develop(frame, scene.camera, rng)


def develop(frame: Image, camera: Camera, rng: np.random.Generator) -> Photo:
    """Return what the camera makes of linear light: blur, motion, noise, tone curve, 8 bits."""
    size = frame.shape[0]
    if camera.blur * size > 0.3:
        frame = cv2.GaussianBlur(frame, (0, 0), camera.blur * size)
    if camera.motion * size > 1:
        frame = cv2.filter2D(frame, -1, _streak(camera.motion * size, camera.motion_deg))
    np.clip(frame, 0, 1, out=frame)
    # Shot noise grows with the root of the light, as the tone curve does: after the curve it is nearly even.
    tone: Image = cv2.sqrt(frame)
    grain = rng.standard_normal(frame.shape, dtype=np.float32)
    tone += grain * np.float32(camera.noise)
    photo: Photo = np.clip(tone * 255 + 0.5, 0, 255).astype(np.uint8)
    return photo


def jpeg_bytes(photo: Photo, quality: int) -> bytes:
    """Return a photo as a JPEG file."""
    stream = io.BytesIO()
    Pictures.fromarray(photo).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def through_jpeg(data: bytes) -> Photo:
    """Return the pixels of a JPEG file of ours."""
    with Pictures.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def _similarity(side: int, scale: float, angle_deg: float, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the matrix that scales and turns a square buffer about its middle and moves that to `centre`."""
    angle = np.deg2rad(angle_deg)
    cos, sin, half = scale * np.cos(angle), scale * np.sin(angle), (side - 1) / 2
    x, y = centre
    return np.array(
        [[cos, -sin, x - half * (cos - sin)], [sin, cos, y - half * (sin + cos)], [0, 0, 1]], dtype=np.float64
    )


def _tilt(tilt_deg: tuple[float, float], size: int) -> NDArray[np.float64]:
    """Return the homography of a pinhole camera turned about the middle of the photo."""
    about_x, about_y = np.deg2rad(tilt_deg[0]), np.deg2rad(tilt_deg[1])
    turn_x = np.array([[1, 0, 0], [0, np.cos(about_x), -np.sin(about_x)], [0, np.sin(about_x), np.cos(about_x)]])
    turn_y = np.array([[np.cos(about_y), 0, np.sin(about_y)], [0, 1, 0], [-np.sin(about_y), 0, np.cos(about_y)]])
    turn = turn_y @ turn_x
    focal, middle = FOCAL * size, size / 2 - 0.5
    lens = np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1]])
    plane = np.column_stack([turn[:, 0], turn[:, 1], [0, 0, focal]])
    to_plane = np.array([[1, 0, -middle], [0, 1, -middle], [0, 0, 1]])
    matrix: NDArray[np.float64] = lens @ plane @ to_plane
    return matrix


def _shadow(cover: Image, light: Light, reach: float) -> Image:
    """Return gains of the surface: a shadow cast away from the light and a dark seam where the pill touches."""
    size = cover.shape[0]
    length = reach / max(float(light.toward[2]), 0.3)
    move = np.array([[1, 0, -light.toward[0] * length], [0, 1, -light.toward[1] * length]], np.float64)
    cast = cv2.warpAffine(cover, move, (size, size))
    cast = cv2.GaussianBlur(cast, (0, 0), max((0.12 + 0.35 * light.softness) * length, 0.5))
    touch = cv2.GaussianBlur(cover, (0, 0), max(0.012 * size, 0.5))
    return (1 - np.float32(0.85 * (1 - light.ambient)) * cast) * (1 - np.float32(0.35) * touch)


def _streak(length_px: float, angle_deg: float) -> Image:
    """Return the kernel of a straight motion."""
    side = 2 * int(np.ceil(length_px / 2)) + 1
    kernel = np.zeros((side, side), np.float32)
    half = np.array([np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))]) * (length_px - 1) / 2
    for step in np.linspace(-1, 1, 4 * side):
        x, y = np.rint(half * step).astype(int) + side // 2
        kernel[y, x] += 1
    kernel /= kernel.sum()
    return kernel
