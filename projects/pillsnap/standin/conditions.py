"""The conditions of a photo: light, camera, surface and pose, drawn for the studio and for consumer scenes.

Lengths are shares of the photo's side, so that a scene looks the same at any size.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projects.pillsnap.standin.noise import cloud
from projects.pillsnap.standin.surfaces import FRAME_SHARE, make_surface

Image = NDArray[Any]  # float32
STUDIO_SURFACES = {"grey": 60, "white": 40}
REAL_SURFACES = {"wood": 20, "skin": 26, "textile": 14, "paper": 14, "granite": 10, "pattern": 8, "dark": 8}


@dataclass(frozen=True)
class Light:
    """Light of a scene.

    Attributes:
        toward: Unit vector to the main light, x right, y down, z to the viewer, (3,).
        ambient: Share of light from everywhere, 0 to 1.
        softness: 0 for a small lamp, 1 for a large one: edges of shadows and highlights.
        gains: Colour of the light as gains of red, green and blue, (3,).
        field: Unevenness over the photo as gains, a small square map.
    """

    toward: NDArray[np.float32]
    ambient: float
    softness: float
    gains: NDArray[np.float32]
    field: Image


@dataclass(frozen=True)
class Camera:
    """Camera of a scene.

    Attributes:
        tilt_deg: Rotations about the horizontal and the vertical axis.
        blur: Standard deviation of the defocus over the photo's side.
        motion: Length of the motion blur over the photo's side.
        motion_deg: Direction of the motion.
        noise: Standard deviation of the sensor's noise at white, in shares of full scale.
        jpeg_quality: 1 to 95.
    """

    tilt_deg: tuple[float, float]
    blur: float
    motion: float
    motion_deg: float
    noise: float
    jpeg_quality: int


@dataclass(frozen=True)
class Scene:
    """What all photos of one sitting share.

    Attributes:
        surface: Linear RGB texture, (T, T, 3), larger than the photo.
        light: The light.
        camera: The camera.
        size_px: Height and width of the photo.
        surface_deg: Rotation of the surface.
    """

    surface: Image
    light: Light
    camera: Camera
    size_px: int
    surface_deg: float


@dataclass(frozen=True)
class Pose:
    """Where a pill lies in one photo.

    Attributes:
        angle_deg: Rotation of the pill, clockwise.
        fill: Longest extent of the pill over the photo's side.
        shift: Centre of the pill off the photo's centre, over the photo's side: x, y.
        exposure: Gain of this photo.
    """

    angle_deg: float
    fill: float
    shift: tuple[float, float]
    exposure: float


def studio_light(rng: np.random.Generator) -> Light:
    """Return an even, soft, nearly white light from above."""
    gains = rng.normal(1, 0.006, 3).astype(np.float32)
    field = 1 + np.float32(0.02) * cloud(rng, 16, 2)
    return Light(_toward(rng, 25, 40), float(rng.uniform(0.5, 0.65)), float(rng.uniform(0.5, 0.8)), gains, field)


def studio_camera(rng: np.random.Generator) -> Camera:
    """Return a camera on a stand: sharp, quiet, straight down."""
    tilt = (float(rng.normal(0, 0.6)), float(rng.normal(0, 0.6)))
    return Camera(tilt, float(rng.uniform(0, 0.0016)), 0.0, 0.0, float(rng.uniform(0.003, 0.006)), 95)


def real_light(rng: np.random.Generator) -> Light:
    """Return room light or daylight: from one side, coloured, uneven, sometimes with the shadow of the phone."""
    warmth = float(rng.normal(0.03, 0.11))  # above 0 for lamps, below for a cloudy sky
    gains = np.array([1 + warmth, 1 + 0.1 * warmth + rng.normal(0, 0.015), 1 - 1.2 * warmth], np.float32)
    axis = np.linspace(-1, 1, 24, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    slope = rng.uniform(0, 0.32)
    angle = rng.uniform(0, 2 * np.pi)
    field = 1 + np.float32(slope) * (np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y)
    field -= np.float32(rng.uniform(0, 0.12)) * (x * x + y * y)
    if rng.random() < 0.35:
        edge = (
            np.float32(np.cos(angle + 1)) * x + np.float32(np.sin(angle + 1)) * y + np.float32(rng.uniform(-0.7, 0.7))
        )
        field *= 1 - np.float32(rng.uniform(0.15, 0.4)) / (1 + np.exp(-edge / np.float32(rng.uniform(0.05, 0.2))))
    toward = _toward(rng, 25, 60)
    return Light(toward, float(rng.uniform(0.3, 0.55)), float(rng.uniform(0.15, 0.9)), gains, np.maximum(field, 0.15))


def real_camera(rng: np.random.Generator) -> Camera:
    """Return a phone in a hand: tilted, now and then out of focus or moving, noisy, with a strong JPEG."""
    tilt = (float(np.clip(rng.normal(0, 9), -22, 22)), float(np.clip(rng.normal(0, 7), -18, 18)))
    blur = float(rng.uniform(0.001, 0.0035) if rng.random() < 0.75 else rng.uniform(0.0035, 0.0075))
    motion = float(rng.uniform(0.006, 0.022)) if rng.random() < 0.2 else 0.0
    noise = float(rng.uniform(0.008, 0.03))
    return Camera(tilt, blur, motion, float(rng.uniform(0, 180)), noise, int(rng.integers(60, 93)))


def studio_pose(rng: np.random.Generator) -> Pose:
    """Return a pill laid down with care: little rotation and little change of size."""
    shift = (float(rng.normal(0, 0.008)), float(rng.normal(0, 0.008)))
    return Pose(float(rng.normal(0, 2.5)), float(rng.uniform(0.58, 0.64)), shift, float(rng.normal(1, 0.015)))


def real_pose(rng: np.random.Generator) -> Pose:
    """Return a pill in a hand or on a table: turned by up to 30 degrees, now and then upside down, off-centre."""
    angle = float(rng.uniform(-30, 30)) + 180.0 * float(rng.random() < 0.15)
    fill = float(rng.uniform(0.47, 0.68))
    room = (0.94 - fill) / 2  # the pill stays inside the photo, also when the tilt brings it nearer
    shift = (float(np.clip(rng.normal(0, 0.05), -room, room)), float(np.clip(rng.normal(0, 0.05), -room, room)))
    return Pose(angle, fill, shift, float(np.exp(rng.normal(0, 0.12))))


def draw_scene(
    rng: np.random.Generator,
    surface_rng: np.random.Generator,
    size_px: int,
    *,
    studio: bool,
    background: str | None = None,
) -> Scene:
    """Return the scene of a sitting; light, camera and the turn of the surface do not depend on the background.

    Args:
        rng: Source of light, camera and kind of surface.
        surface_rng: Source of the surface's colour and pattern, a stream of its own.
        size_px: Height and width of the photo.
        studio: Studio or consumer scene.
        background: A surface in place of the drawn one.

    Raises:
        ValueError: No such background.
    """
    light = studio_light(rng) if studio else real_light(rng)
    camera = studio_camera(rng) if studio else real_camera(rng)
    shares = STUDIO_SURFACES if studio else REAL_SURFACES
    weights = np.array(list(shares.values()), float)
    own = str(rng.choice(list(shares), p=weights / weights.sum()))
    turn = float(rng.uniform(-180, 180))
    surface = make_surface(background or own, surface_rng, round(FRAME_SHARE * size_px))
    return Scene(surface, light, camera, size_px, turn)


def light_on_pill(light: Light, pose: Pose) -> NDArray[np.float32]:
    """Return the direction to the light in the frame of the turned pill, (3,)."""
    angle = np.deg2rad(pose.angle_deg)
    cos, sin = np.cos(angle), np.sin(angle)
    x, y, z = light.toward
    return np.array([x * cos + y * sin, y * cos - x * sin, z], np.float32)


def _toward(rng: np.random.Generator, lowest_deg: float, highest_deg: float) -> NDArray[np.float32]:
    """Return a unit vector to a light so many degrees off the vertical, from any side."""
    off, round_ = np.deg2rad(rng.uniform(lowest_deg, highest_deg)), rng.uniform(0, 2 * np.pi)
    return np.array([np.sin(off) * np.cos(round_), np.sin(off) * np.sin(round_), np.cos(off)], np.float32)
