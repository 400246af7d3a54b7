import tracemalloc

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist
from sklearn.metrics import r2_score
from sklearn.neighbors import KNeighborsRegressor

from projects.spectra.baselines import fourier_features, nearest_index, nearest_neighbour, ridge_fourier


def patterns(count: int, side: int, seed: int, sigma: float = 1.5) -> np.ndarray:
    """Return smooth periodic patterns, (count, side, side) of 0 and 1."""
    noise = np.random.default_rng(seed).standard_normal((count, side, side))
    return (gaussian_filter(noise, (0, sigma, sigma), mode="wrap") > 0).astype(np.uint8)


def packed(pixels: np.ndarray) -> np.ndarray:
    return np.packbits(pixels.reshape(len(pixels), -1), axis=1)


@pytest.mark.parametrize(("side", "max_order"), [(16, 0), (16, 3), (32, 5), (16, 7)])
def test_features_are_numpys_fourier_orders(side: int, max_order: int) -> None:
    pixels = patterns(5, side, 0)
    features = fourier_features(packed(pixels), side, max_order)
    spectrum = np.fft.fft2(pixels) / side**2
    assert features.shape == (5, (2 * max_order + 1) ** 2)
    expected = [pixels.mean(axis=(1, 2))]
    half = [(m, n) for m in range(-max_order, max_order + 1) for n in range(-max_order, max_order + 1)]
    half = [(m, n) for m, n in half if m > 0 or (m == 0 and n > 0)]
    expected += [spectrum[:, m, n].real for m, n in half] + [spectrum[:, m, n].imag for m, n in half]
    np.testing.assert_allclose(features, np.stack(expected, axis=1), atol=1e-6)


def test_ridge_finds_what_is_linear_in_the_orders_and_nothing_else() -> None:
    train, test = patterns(400, 16, 1), patterns(100, 16, 2)
    mix = np.random.default_rng(3).standard_normal((9, 2 * 3))

    def linear(pixels: np.ndarray) -> np.ndarray:
        spectrum = np.fft.fft2(pixels)[:, :2, :2].reshape(len(pixels), -1) / 256
        parts = np.hstack([spectrum.real, spectrum.imag, np.ones((len(pixels), 1))])
        return (parts @ mix).reshape(-1, 2, 3)

    predicted = ridge_fourier(packed(train), linear(train), packed(test), 16, max_order=1)
    assert predicted.shape == (100, 2, 3)
    assert predicted.dtype == np.float64
    assert r2_score(linear(test).reshape(100, -1), predicted.reshape(100, -1)) > 0.999

    def parity(pixels: np.ndarray) -> np.ndarray:
        return pixels.sum(axis=(1, 2)).astype(float)[:, None] % 2

    blind = ridge_fourier(packed(train), parity(train), packed(test), 16, max_order=1)
    assert r2_score(parity(test), blind) < 0.1


def test_strength_is_chosen_so_that_noise_is_not_learnt() -> None:
    train, test = packed(patterns(60, 16, 1)), packed(patterns(40, 16, 2))
    noise = np.random.default_rng(4).standard_normal((60, 5))
    spread = ridge_fourier(train, noise, test, 16, max_order=3).std(axis=0)
    loose = ridge_fourier(train, noise, test, 16, max_order=3, alphas=(1e-9,)).std(axis=0)
    assert spread.mean() < 0.3 * loose.mean()


@pytest.mark.parametrize(("side", "sigma", "count"), [(16, 0.5, 300), (32, 3.0, 300), (48, 1.0, 50), (16, 1.0, 1)])
def test_nearest_equals_brute_force(side: int, sigma: float, count: int) -> None:
    train, test = patterns(count, side, 5, sigma), patterns(40, side, 6, sigma)
    index, differing = nearest_index(packed(train), packed(test), side)
    distance = cdist(test.reshape(40, -1), train.reshape(count, -1), "cityblock")
    assert (differing == distance.min(axis=1)).all()
    assert (index == distance.argmin(axis=1)).all()


@pytest.mark.parametrize(("train_chunk", "test_chunk", "bounds"), [(7, 40, 16_000_000), (64, 9, 200), (300, 1, 1)])
def test_nearest_does_not_depend_on_the_chunks(train_chunk, test_chunk, bounds, monkeypatch) -> None:
    train, test = patterns(300, 16, 5, 1.5), patterns(40, 16, 6, 1.5)
    train[[90, 200, 299]] = train[[3, 3, 150]]  # ties over the borders of chunks
    test[:2] = train[[200, 299]]
    for name, size in (("CHUNK", 5), ("TRAIN_CHUNK", train_chunk), ("TEST_CHUNK", test_chunk), ("BOUNDS", bounds)):
        monkeypatch.setattr(f"projects.spectra.baselines.{name}", size)
    index, differing = nearest_index(packed(train), packed(test), 16)
    distance = cdist(test.reshape(40, -1), train.reshape(300, -1), "cityblock")
    np.testing.assert_array_equal(differing, distance.min(axis=1))
    np.testing.assert_array_equal(index, distance.argmin(axis=1))


def test_memory_does_not_grow_with_the_patterns_to_choose_from(monkeypatch) -> None:
    for name, size in (("CHUNK", 64), ("TRAIN_CHUNK", 256)):
        monkeypatch.setattr(f"projects.spectra.baselines.{name}", size)
    train, test = packed(patterns(4096, 32, 1)), packed(patterns(8, 32, 2))

    def peak(count: int) -> int:
        tracemalloc.start()
        nearest_index(train[:count], test, 32)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(256)  # what is imported and cached on first use
    assert peak(4096) < 1.2 * peak(512)


def test_first_of_equal_patterns_wins_and_a_twin_is_found() -> None:
    train = patterns(200, 16, 7)
    train[150] = train[20]
    index, differing = nearest_index(packed(train), packed(train[[150, 3]]), 16)
    assert index.tolist() == [20, 3]
    assert differing.tolist() == [0, 0]


def test_neighbours_curves_equal_scikit_learns() -> None:
    train, test = patterns(150, 16, 8, 0.7), patterns(30, 16, 9, 0.7)
    target = np.random.default_rng(0).random((150, 2, 2, 4)).astype(np.float32)
    theirs = KNeighborsRegressor(1, metric="manhattan", algorithm="brute")
    theirs.fit(train.reshape(150, -1), target.reshape(150, -1))
    ours = nearest_neighbour(packed(train), target, packed(test), 16)
    distance = cdist(test.reshape(30, -1), train.reshape(150, -1), "cityblock")
    unique = (distance == distance.min(axis=1, keepdims=True)).sum(axis=1) == 1  # it breaks ties in its own way
    assert unique.sum() > 10
    expected = theirs.predict(test.reshape(30, -1)).reshape(-1, 2, 2, 4)
    np.testing.assert_allclose(ours[unique], expected[unique], rtol=1e-6)
    assert ours.dtype == np.float64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b: fourier_features(b, 16, 8), "max_order is 8, allowed: 0 to 7"),
        (
            lambda b: fourier_features(b, 32, 2),
            r"bits are uint8 of shape \(4, 32\), allowed for side 32: uint8 \(N, 128\)",
        ),
        (lambda b: nearest_index(b.astype(bool), b, 16), "bits are bool"),
        (lambda b: ridge_fourier(b, np.zeros((3, 2)), b, 16), "4 patterns and 3 targets, allowed: as many of both"),
        (lambda b: nearest_neighbour(b[:0], np.zeros((0, 2)), b, 16), "0 patterns and 0 targets.* 1 or more"),
    ],
)
def test_what_does_not_fit_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(packed(patterns(4, 16, 0)))
