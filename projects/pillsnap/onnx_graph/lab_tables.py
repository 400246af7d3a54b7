"""OpenCV's conversion between 8-bit RGB and LAB as tables and whole-number arithmetic.

OpenCV does it in fixed point so that every machine agrees: RGB -> linear light with 11 bits -> XYZ with 12-bit
coefficients -> f(X), f(Y), f(Z) with 15 bits -> L, a, b; and back over X, Y, Z with 14 bits and an inverse gamma table
of 4096 entries. The tables are computed here from the definition of the colour spaces, and a test compares the two
conversions with OpenCV's for all 2^24 colours each.

Source: CIE 1976 L*a*b* and IEC 61966-2-1 (sRGB), white D65; the bit widths are those of OpenCV's `color_lab.cpp`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

GAMMA_SCALE = 255 * 8
XYZ_SHIFT = 12
F_SHIFT = 15
BASE = 1 << 14
INVERSE_GAMMA_SIZE = 1 << 12
INVERSE_SHIFT = XYZ_SHIFT + 14 - 12
XZ_OFFSET = 8145
"""What is added to f(X) or f(Z) to index `xz`, so that no index is negative."""

_WHITE = np.array([0.950456, 1.0, 1.088754])
_RGB_TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_XYZ_TO_RGB = np.array(
    [[3.240479, -1.53715, -0.498535], [-0.969256, 1.875991, 0.041556], [0.055648, -0.204043, 1.057311]]
)
_CLOSE_CALLS = {49: 9454, 628: 22126}
"""Two entries of `root`, 9454.50014 and 22125.499995 before rounding, which OpenCV's float32 rounds the other way."""


@dataclass(frozen=True)
class LabTables:
    """The tables, whole numbers.

    Attributes:
        gamma: Linear light of a grey level, (256,), 0 to 2040.
        to_xyz: Coefficients from linear R, G, B to X, Y, Z over white, (3, 3), in units of 2^-12.
        root: f(t) of an 11-bit t, (3072,), in units of 2^-15.
        y: Y of an 8-bit L, (256,), in units of 2^-14.
        f_y: f(Y) of an 8-bit L, (256,), in units of 2^-14.
        a_step: f(X) - f(Y) of an 8-bit a, (256,), in units of 2^-14.
        b_step: f(Y) - f(Z) of an 8-bit b, (256,), in units of 2^-14.
        xz: X or Z of f(X) or f(Z) + XZ_OFFSET, (36864,), in units of 2^-14.
        to_rgb: Coefficients from X, Y, Z to linear R, G, B, (3, 3), in units of 2^-12.
        inverse_gamma: Grey level of 12-bit linear light, (4096,).
    """

    gamma: Integers
    to_xyz: Integers
    root: Integers
    y: Integers
    f_y: Integers
    a_step: Integers
    b_step: Integers
    xz: Integers
    to_rgb: Integers
    inverse_gamma: Integers


def lab_tables() -> LabTables:
    """Compute the tables."""
    level = np.arange(256)
    light = np.arange(INVERSE_GAMMA_SIZE) / INVERSE_GAMMA_SIZE
    y, f_y = _from_lightness(level)
    return LabTables(
        gamma=_rounded(GAMMA_SCALE * _to_linear(level / 255)),
        to_xyz=_rounded((1 << XYZ_SHIFT) * _RGB_TO_XYZ / _WHITE[:, None]),
        root=_root(),
        y=y,
        f_y=f_y,
        a_step=((5 * level * 53687 + (1 << 7)) >> 13) - 128 * BASE // 500,
        b_step=((level * 41943 + (1 << 4)) >> 9) - 128 * BASE // 200 + 1,
        xz=_inverse_f(np.arange(BASE * 9 // 4) - XZ_OFFSET),
        to_rgb=_rounded((1 << XYZ_SHIFT) * _XYZ_TO_RGB * _WHITE[None, :]),
        inverse_gamma=_rounded(255 * _from_linear(light)),
    )


def _rounded(values: NDArray[np.float64]) -> Integers:
    return np.rint(values).astype(np.int64)


def _to_linear(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The gamma of sRGB, from a level to linear light."""
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def _from_linear(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(x <= 0.0031308, x * 12.92, 1.055 * x ** (1 / 2.4) - 0.055)


def _root() -> Integers:
    """The cube root of CIE LAB with its linear piece near black."""
    t = np.arange(256 * 3 // 2 * 8) / GAMMA_SCALE
    table = _rounded((1 << F_SHIFT) * np.where(t < 216 / 24389, t * 841 / 108 + 16 / 116, np.cbrt(t)))
    for index, value in _CLOSE_CALLS.items():
        table[index] = value
    return table


def _from_lightness(level: Integers) -> tuple[Integers, Integers]:
    """Y and f(Y) of an 8-bit L; f is taken as linear up to level 20, and as a cube above."""
    f_y = BASE * (level * 100 / 255 + 16) / 116
    low = _rounded(BASE * level * (100 / 255) * 27 / 29**3)
    return np.where(level <= 20, low, _rounded(f_y**3 / BASE**2)), _rounded(f_y)


def _inverse_f(f: Integers) -> Integers:
    """The inverse of `_root`, in units of 1 / BASE; divisions cut towards zero, as in C."""
    low = _cut(f * 108, 841) - BASE * 16 // 116 * 108 // 841
    high = _cut(_cut(f * f, BASE) * f, BASE)
    return np.where(f <= 3390, low, high)


def _cut(value: Integers, divisor: int) -> Integers:
    quotient: Integers = np.abs(value) // divisor
    return np.where(value < 0, -quotient, quotient)
