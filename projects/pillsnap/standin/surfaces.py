"""What a pill lies on: rendered surfaces as linear RGB textures, seen from straight above in even light."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from projects.pillsnap.standin.noise import cloud

Texture = NDArray[Any]  # float32; the stubs of OpenCV say less
FRAME_SHARE = 1.6  # sides of a texture over sides of a photo: room for tilt, rotation and shift


def make_surface(name: str, rng: np.random.Generator, size_px: int) -> Texture:
    """Return a surface as linear light 0 to 1, (size_px, size_px, 3).

    Args:
        name: One of `BACKGROUNDS`.
        rng: Source of its colour and pattern.
        size_px: Height and width; `FRAME_SHARE` of the photo's side.

    Raises:
        ValueError: No such surface.
    """
    if name not in _SURFACES:
        raise ValueError(f"background is {name!r}; allowed: {', '.join(BACKGROUNDS)}.")
    texture: Texture = np.clip(_SURFACES[name](rng, size_px), 0, 1).astype(np.float32, copy=False)
    texture *= texture
    return texture


def _mix(low: Texture, high: Texture, share: Texture) -> Texture:
    """Return colours between two sRGB colours, (H, W, 3), by a map of shares."""
    colors: Texture = low + share[..., None] * (high - low)
    return colors


def _rgb(*values: float) -> Texture:
    return np.array(values, np.float32) / np.float32(255)


def _any_of(rng: np.random.Generator, *colors: tuple[int, int, int], spread: float = 0.012) -> Texture:
    """Return one of several sRGB colours, slightly changed."""
    chosen = np.array(colors[int(rng.integers(len(colors)))], float)
    tint = rng.normal(0, spread * chosen.max(), 3)
    return (np.clip(chosen * rng.uniform(0.92, 1.06) + tint, 4, 250) / 255).astype(np.float32)


def _axes(rng: np.random.Generator, size_px: int, most_deg: float = 180.0) -> tuple[Texture, Texture]:
    """Return coordinates -1 to 1 in a frame turned by a random angle."""
    angle = np.deg2rad(rng.uniform(-most_deg, most_deg))
    axis = np.linspace(-1, 1, size_px, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def _plain(*colors: tuple[int, int, int], grain: float = 0.006) -> Callable[[np.random.Generator, int], Texture]:
    def surface(rng: np.random.Generator, size_px: int) -> Texture:
        tone = cloud(rng, size_px, 3) * np.float32(0.008) + cloud(rng, size_px, size_px) * np.float32(grain)
        return _any_of(rng, *colors, spread=0.004) + tone[..., None]

    return surface


def _wood(rng: np.random.Generator, size_px: int) -> Texture:
    low = _any_of(rng, (96, 58, 34), (140, 92, 54), (176, 132, 88), (70, 44, 30), (196, 160, 118))
    high = np.minimum(low * np.float32(rng.uniform(1.2, 1.45)), 1)
    x, y = _axes(rng, size_px)
    bend = cloud(rng, size_px, (2, 3)) * np.float32(0.16)
    rings = 0.5 + 0.5 * np.sin((y + bend) * np.float32(rng.uniform(14, 34)) + x * np.float32(rng.uniform(-2, 2)))
    # Fibres run along the grain: noise sampled on the turned axes, coarse along and fine across.
    fine = rng.standard_normal((size_px, 12), dtype=np.float32)
    to_row = (y + bend * np.float32(0.3)) * np.float32(size_px / 3) + np.float32(size_px / 2)
    fibres = cv2.remap(fine, x * 4 + 5.5, to_row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    wood = _mix(low, high, np.clip(0.55 * rings + 0.22 + 0.13 * fibres, 0, 1))
    if rng.random() < 0.5:  # gaps between planks
        gap = np.abs((y * np.float32(rng.uniform(0.8, 1.6)) + np.float32(rng.random())) % 1 - 0.5)
        wood *= (1 - np.float32(0.65) * np.exp(-((gap / np.float32(0.012)) ** 2)))[..., None]
    return wood


def _skin(rng: np.random.Generator, size_px: int) -> Texture:
    """Return a palm: a skin tone, redder in places, with creases and the fine lines of the skin."""
    tone = _any_of(rng, (226, 178, 152), (208, 156, 126), (236, 196, 172), (172, 120, 90), (128, 84, 62))
    x, y = _axes(rng, size_px)
    red = np.clip(0.35 * cloud(rng, size_px, 3, octaves=2), -1, 1)
    skin: Texture = tone + red[..., None] * _rgb(6, -6, -6)
    stretched = cloud(rng, size_px, (size_px // 5, size_px // 9)) + cloud(rng, size_px, (size_px // 10, size_px // 4))
    shade = 1 + np.float32(0.014) * stretched
    for _ in range(int(rng.integers(1, 4))):  # creases: soft arcs between two swellings, deeper in places
        bow, where = rng.uniform(-0.5, 0.5), rng.uniform(-0.9, 0.9)
        wobble = np.float32(0.03) * cloud(rng, size_px, 4)
        distance = y * np.float32(np.cos(bow)) + x * np.float32(np.sin(bow)) + np.float32(bow) * x * x + wobble - where
        deep = np.float32(rng.uniform(0.08, 0.18)) * np.clip(1 + 0.5 * cloud(rng, size_px, 3), 0.1, 1.6)
        shade -= deep * np.exp(-((distance / np.float32(0.03)) ** 2))
        shade -= np.float32(0.09) * np.exp(-np.abs(distance) / np.float32(0.14))
    hollow = cv2.resize(cloud(rng, 16, 2), (size_px, size_px), interpolation=cv2.INTER_CUBIC)
    shade += np.float32(0.1) * np.clip(hollow, -1.5, 1.2)
    # Light that dives into skin comes back red: the dark places are redder.
    skin *= np.maximum(shade, 0.1)[..., None] ** np.array([0.75, 1.1, 1.15], np.float32)
    return skin


def _textile(rng: np.random.Generator, size_px: int) -> Texture:
    """Return a weave of two threads with folds."""
    warp = _any_of(rng, (60, 78, 112), (150, 150, 148), (190, 176, 150), (126, 50, 52), (66, 96, 78), (220, 216, 206))
    weft = np.clip(warp * np.float32(rng.uniform(0.8, 1.25)) + np.float32(rng.uniform(-0.06, 0.06)), 0, 1)
    x, y = _axes(rng, size_px, 40)
    threads = np.float32(rng.uniform(90, 170))
    jitter = cloud(rng, size_px, 9) * np.float32(0.6)
    over = np.sin(x * threads + jitter) * np.sin(y * threads - jitter)
    relief = np.abs(np.sin(x * threads * 0.5 + jitter)) * np.abs(np.sin(y * threads * 0.5))
    folds = cloud(rng, size_px, (2, 4), octaves=2) * np.float32(0.07)
    cloth = _mix(warp, weft, (over > 0).astype(np.float32))
    cloth *= (0.82 + 0.22 * relief + folds)[..., None]
    return cloth


def _paper(rng: np.random.Generator, size_px: int) -> Texture:
    """Return paper with lines of print or ruling."""
    sheet = _any_of(rng, (240, 238, 230), (232, 228, 214), (246, 246, 246))
    ink = _any_of(rng, (50, 50, 56), (60, 80, 140), (120, 120, 124))
    if rng.random() < 0.65:
        marks = _print(rng, size_px)
    else:
        _, y = _axes(rng, size_px, 35)
        row = y / np.float32(rng.uniform(0.1, 0.2))
        marks = np.exp(-(((row % 1 - 0.5) / np.float32(0.05)) ** 2)) * np.float32(0.5)
    fibre = cloud(rng, size_px, size_px // 3) * np.float32(0.008) + cloud(rng, size_px, 3) * np.float32(0.012)
    return _mix(sheet, ink, np.float32(0.8) * marks) + fibre[..., None]


def _print(rng: np.random.Generator, size_px: int) -> Texture:
    """Return lines of meaningless words as coverage 0 to 1."""
    height = float(rng.uniform(0.028, 0.06) * size_px)
    font = ImageFont.load_default(height)
    canvas = Image.new("L", (size_px, size_px), 0)
    pen = ImageDraw.Draw(canvas)
    for line in range(int(size_px / (1.5 * height)) + 1):
        letters = rng.choice(list("aaeeiioouunrstlmdcpbgfhv    "), int(2.4 * size_px / height))
        pen.text((0, 1.5 * height * line), "".join(letters), fill=255, font=font)
    marks: Texture = np.asarray(canvas, np.float32) / np.float32(255)
    return marks


def _granite(rng: np.random.Generator, size_px: int) -> Texture:
    stone = _any_of(rng, (150, 146, 142), (110, 108, 110), (188, 178, 168), (74, 74, 78))
    coarse = cloud(rng, size_px, size_px // 9)
    fine = cloud(rng, size_px, size_px // 3)
    dark = np.clip(coarse - 0.7, 0, 1) + 0.5 * np.clip(fine - 0.9, 0, 1)
    light = np.clip(-coarse - 0.8, 0, 1) + 0.5 * np.clip(-fine - 1.0, 0, 1)
    base = stone * (1 + np.float32(0.05) * cloud(rng, size_px, 4, octaves=3))[..., None]
    return base * (1 - np.clip(dark, 0, 0.8))[..., None] + (np.float32(0.35) * np.clip(light, 0, 1))[..., None]


def _pattern(rng: np.random.Generator, size_px: int) -> Texture:
    """Return a printed cloth or tray: checks, stripes, dots or zigzags in two or three colours."""
    colors = [(206, 60, 58), (240, 236, 226), (52, 92, 150), (240, 200, 80), (84, 150, 110), (60, 60, 64)]
    first, second, third = (np.array(colors[at], np.float32) / 255 for at in rng.choice(len(colors), 3, replace=False))
    x, y = _axes(rng, size_px)
    pitch = np.float32(rng.uniform(3, 9))
    kind = int(rng.integers(4))
    u, v = x * pitch, y * pitch
    if kind == 0:
        share = ((u % 1 < 0.5).astype(np.float32) + (v % 1 < 0.5)) / 2
    elif kind == 1:
        share = (u % 1 < 0.5).astype(np.float32)
    elif kind == 2:
        share = (np.hypot(u % 1 - 0.5, v % 1 - 0.5) < rng.uniform(0.2, 0.38)).astype(np.float32)
    else:
        share = ((v + np.abs(u % 1 - 0.5)) % 1 < 0.5).astype(np.float32)
    cloth = _mix(first, second, cv2.GaussianBlur(share, (0, 0), 0.7))
    if rng.random() < 0.4:
        cloth = _mix(cloth, third, ((v * 0.5) % 1 < 0.12).astype(np.float32))
    return cloth * (1 + np.float32(0.02) * cloud(rng, size_px, size_px // 2))[..., None]


_SURFACES: dict[str, Callable[[np.random.Generator, int], Texture]] = {
    "grey": _plain((176, 177, 180), (196, 196, 198), (150, 152, 156)),
    "white": _plain((238, 238, 238), (244, 243, 240)),
    "black": _plain((14, 14, 15), grain=0.002),
    "dark": _plain((42, 42, 46), (52, 46, 42), (36, 44, 56), grain=0.012),
    "wood": _wood,
    "skin": _skin,
    "textile": _textile,
    "paper": _paper,
    "granite": _granite,
    "pattern": _pattern,
}
BACKGROUNDS: tuple[str, ...] = tuple(_SURFACES)
