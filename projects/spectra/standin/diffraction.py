"""Scalar diffraction behind a periodic phase mask: the power in each quadrant of the cell, plain and fast.

The field behind the mask is exp(i phi S), phi = 2 pi (n - 1) h / wavelength, for the binary pattern S. Over the
distance z the order (m, n) gains the factor H = exp(i kz z), kz = 2 pi sqrt(1 / wavelength^2 - (m^2 + n^2) / pitch^2),
imaginary and so a decay for the evanescent ones. Power is |u|^2 summed over the pixels of a quadrant and divided by the
number of all pixels, so the incident power is 1.

The fast form: exp(i phi S) = 1 + g S with g = exp(i phi) - 1, so one transform of S serves all wavelengths. S is real
and H depends on s = m^2 + n^2 only, so u = H_0 + g sum_s H_s f_s, where f_s, all orders of equal s, is a real field
without a wavelength, and

    power_q(wavelength) = sum_{s, t} Re(h_s conj(h_t)) <f_s, f_t>_q

parts pattern and wavelength: small real Gram matrices of each pattern, then one matrix product over all wavelengths.
With D = (first half of the pixels) - (second half) along an axis, the four quadrants are
(1 +- D_x)(1 +- D_y) / 4, which is the sum over the very pixels and not an integral.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from projects.spectra.standin.config import StandinConfig
from shared.errors import ConfigError

# An evanescent order weaker than this behind the distance is left out. What is left out has a norm d of at most
# |g| * std(S) * WEAKEST_ORDER <= WEAKEST_ORDER, and a power changes by at most 2 d + d^2: well below 1e-5.
WEAKEST_ORDER = 1e-6
MOST_SHELLS = 256  # distinct m^2 + n^2; beyond, the Gram matrices cost more than plain transforms
CACHED_NUMBERS = 1 << 17  # of one intermediate array at a time, so that all of them stay in the processor's cache


def quadrant_power(
    structures: NDArray[np.uint8], config: StandinConfig, wavelengths_nm: ArrayLike
) -> NDArray[np.float32]:
    """Return the power in each quadrant at each wavelength by the fast form; see the head of this file.

    Args:
        structures: Patterns [sample, y, x], (B, side, side), 0 or 1, side even; `config.side_px` is not read.
        config: Physics.
        wavelengths_nm: (L,) in nanometres.

    Returns:
        (B, 2, 2, L), [sample, lower, right, wavelength], shares of the incident power.

    Raises:
        ValueError: Patterns are not (B, side, side) with an even side, or a wavelength is not a positive number.
        ConfigError: The distance is so short, or the pitch so long, that too many orders matter.
    """
    side, wavelengths = _checked(structures, wavelengths_nm)
    return _order_form(config, side, tuple(wavelengths.tolist()))(structures)


def quadrant_power_reference(
    structures: NDArray[np.uint8], config: StandinConfig, wavelengths_nm: ArrayLike
) -> NDArray[np.float64]:
    """Return what `quadrant_power` does, by one plain Fourier transform and its inverse a wavelength, in float64.

    Args:
        structures: As for `quadrant_power`.
        config: Physics.
        wavelengths_nm: (L,) in nanometres.

    Returns:
        (B, 2, 2, L).

    Raises:
        ValueError: As for `quadrant_power`.
    """
    side, wavelengths = _checked(structures, wavelengths_nm)
    orders = np.fft.fftfreq(side, 1 / side)
    squares = orders[:, None] ** 2 + orders**2
    power = np.empty((len(structures), 2, 2, len(wavelengths)))
    for place, wavelength in enumerate(wavelengths / 1000):
        mask = np.exp(1j * _phase(config, wavelength) * structures.astype(np.float64))
        field = np.fft.ifft2(np.fft.fft2(mask) * _propagator(config, wavelength, squares))
        pixels = (np.abs(field) ** 2).reshape(-1, 2, side // 2, 2, side // 2)
        power[..., place] = pixels.sum((2, 4)) / side**2
    return power


def order_radius(config: StandinConfig, shortest_nm: float) -> float:
    """Return the largest sqrt(m^2 + n^2) of the orders that matter at this wavelength and all longer ones.

    Args:
        config: `pitch_um` and `distance_um` are read.
        shortest_nm: The shortest wavelength in nanometres.

    Returns:
        Radius in orders: propagating ones and those evanescent ones that keep `WEAKEST_ORDER` of their amplitude.
    """
    evanescent = math.log(1 / WEAKEST_ORDER) / (2 * math.pi * config.distance_um)
    return config.pitch_um * math.hypot(1000 / shortest_nm, evanescent)


def real_orders(highest: int, side: int) -> NDArray[np.int64]:
    """Return the order of each column of `trigonometric_basis`: 0, 1, 1, 2, 2, ...; half the side stands once."""
    orders = np.repeat(np.arange(highest + 1), 2)[1:]
    return orders[:-1] if 2 * highest == side else orders


def trigonometric_basis(highest: int, side: int) -> NDArray[np.float64]:
    """Return 1, cosines and sines up to order `highest` on `side` points, orthonormal under the mean over the points.

    Args:
        highest: Highest order, at most side / 2.
        side: Number of points, even.

    Returns:
        (side, columns); columns as in `real_orders`, the cosine before the sine.

    Example:
        >>> trigonometric_basis(1, 4).round(3).tolist()
        [[1.0, 1.414, 0.0], [1.0, 0.0, 1.414], [1.0, -1.414, 0.0], [1.0, -0.0, -1.414]]
    """
    orders = real_orders(highest, side)
    is_sine = np.arange(len(orders)) % 2 == 0
    angle = 2 * math.pi * orders * np.arange(side)[:, None] / side
    scale = np.where((orders == 0) | (2 * orders == side), 1.0, math.sqrt(2))
    return np.where(is_sine & (orders > 0), np.sin(angle), np.cos(angle)) * scale


class OrderForm:
    """The fast form for one physics, one side and one set of wavelengths; what does not depend on the pattern is here.

    Args:
        config: Physics.
        side: Height and width of the patterns in pixels, even.
        wavelengths_nm: (L,) in nanometres.

    Raises:
        ConfigError: More than `MOST_SHELLS` distinct m^2 + n^2 matter.
    """

    def __init__(self, config: StandinConfig, side: int, wavelengths_nm: NDArray[np.float64]) -> None:
        radius = order_radius(config, float(wavelengths_nm.min()))
        highest = min(int(radius), side // 2)
        orders = real_orders(highest, side)
        squares = orders[:, None] ** 2 + orders**2  # (n, n)
        shells = np.unique(squares[squares <= radius**2])
        if len(shells) > MOST_SHELLS:
            raise ConfigError(
                f"standin.distance_um {config.distance_um} and standin.pitch_um {config.pitch_um} leave "
                f"{len(shells)} rings of diffraction orders that matter; allowed: {MOST_SHELLS}, so a longer distance "
                "or a shorter pitch."
            )
        basis = trigonometric_basis(highest, side)
        signs = np.where(np.arange(side) < side // 2, 1.0, -1.0)
        self.side = side
        self.analysis = (basis / side).astype(np.float32)  # (side, n)
        self.half_difference = (basis.T @ (signs[:, None] * basis) / side).astype(np.float32)  # D, (n, n)
        self.masks = (squares == shells[:, None, None]).astype(np.float32)  # (s, n, n)
        self.weights = _wavelength_weights(config, shells, wavelengths_nm)  # ((1 + s)^2, L)

    def __call__(self, structures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (B, 2, 2, L) for patterns (B, side, side)."""
        power = np.empty((len(structures), 2, 2, self.weights.shape[1]), np.float32)
        step = max(1, CACHED_NUMBERS // max(self.masks.size, self.side**2))
        for first in range(0, len(structures), step):
            part = structures[first : first + step]
            total, x, y, xy = self._grams(self._coefficients(part)) @ self.weights  # (4, b, L)
            upper, lower, upper_x, lower_x = total + y, total - y, x + xy, x - xy
            into = power[first : first + step]
            np.add(upper, upper_x, out=into[:, 0, 0])
            np.subtract(upper, upper_x, out=into[:, 0, 1])
            np.add(lower, lower_x, out=into[:, 1, 0])
            np.subtract(lower, lower_x, out=into[:, 1, 1])
        return power

    def _coefficients(self, structures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the real Fourier coefficients of the patterns, (b, n, n)."""
        rows = structures.astype(np.float32).reshape(-1, self.side) @ self.analysis
        return self.analysis.T @ rows.reshape(len(structures), self.side, -1)

    def _grams(self, coefficients: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return <f_s, f_t> under 1, D_x, D_y and D_x D_y, (4, b, (1 + s)^2); the first field is the plain wave 1."""
        count, num_orders, _ = coefficients.shape
        num_fields = 1 + len(self.masks)
        fields = np.zeros((2, count, num_fields, num_orders, num_orders), np.float32)  # of [y, x] and of [x, y]
        fields[:, :, 0, 0, 0] = 1
        np.multiply(coefficients[:, None], self.masks, out=fields[0, :, 1:])
        np.multiply(coefficients.swapaxes(1, 2)[:, None], self.masks, out=fields[1, :, 1:])
        halves = (fields.reshape(-1, num_orders) @ self.half_difference).reshape(fields.shape)
        shape = (count, num_fields, num_orders**2)
        plain, plain_x = fields[0].reshape(shape), halves[0].reshape(shape)
        across, across_y = fields[1].reshape(shape), halves[1].reshape(shape)
        plain_y = np.ascontiguousarray(halves[1].swapaxes(2, 3)).reshape(shape)
        pairs = ((plain, plain), (plain, plain_x), (across, across_y), (plain_x, plain_y))
        grams = np.empty((4, count, num_fields, num_fields), np.float32)
        for gram, (left, right) in zip(grams, pairs, strict=True):
            np.matmul(left, right.swapaxes(1, 2), out=gram)
        return grams.reshape(4, count, -1)


@lru_cache(maxsize=8)
def _order_form(config: StandinConfig, side: int, wavelengths_nm: tuple[float, ...]) -> OrderForm:
    return OrderForm(config, side, np.array(wavelengths_nm))


def _wavelength_weights(
    config: StandinConfig, shells: NDArray[np.int64], wavelengths_nm: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return Re(h_s conj(h_t)) / 4 at each wavelength, ((1 + s)^2, L); the first h is that of the plain wave."""
    factors = np.empty((1 + len(shells), len(wavelengths_nm)), np.complex128)
    for place, wavelength in enumerate(wavelengths_nm / 1000):
        propagator = _propagator(config, wavelength, shells)
        factors[0, place] = propagator[0]
        factors[1:, place] = (np.exp(1j * _phase(config, wavelength)) - 1) * propagator
    products = (factors[:, None] * factors.conj()).real / 4
    return products.reshape(-1, len(wavelengths_nm)).astype(np.float32)


def _phase(config: StandinConfig, wavelength_um: float) -> float:
    """Return phi, what the material adds to the phase of the wave."""
    index = config.index_a + config.index_b_um2 / wavelength_um**2
    return 2 * math.pi * (index - 1) * config.thickness_um / wavelength_um


def _propagator(config: StandinConfig, wavelength_um: float, squares: NDArray[np.generic]) -> NDArray[np.complex128]:
    """Return H of orders with these m^2 + n^2."""
    inside = 1 / wavelength_um**2 - squares.astype(np.complex128) / config.pitch_um**2
    return np.exp(2j * math.pi * np.sqrt(inside) * config.distance_um)


def _checked(structures: NDArray[np.uint8], wavelengths_nm: ArrayLike) -> tuple[int, NDArray[np.float64]]:
    """Return the side and the wavelengths, or refuse them."""
    wavelengths = np.asarray(wavelengths_nm, dtype=np.float64)
    if structures.ndim != 3 or structures.shape[1] != structures.shape[2] or structures.shape[2] % 2:
        raise ValueError(f"structures have shape {structures.shape}; allowed: (B, side, side) with an even side")
    if wavelengths.ndim != 1 or not len(wavelengths) or not (np.isfinite(wavelengths) & (wavelengths > 0)).all():
        raise ValueError(f"wavelengths_nm is {wavelengths_nm!r}; allowed: one or more finite numbers above 0")
    return structures.shape[2], wavelengths
