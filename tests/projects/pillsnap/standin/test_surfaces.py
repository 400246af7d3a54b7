import numpy as np
import pytest

from projects.pillsnap.standin.surfaces import BACKGROUNDS, make_surface


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_surfaces_are_finite_light_that_repeats_by_seed(name):
    for seed in range(12):
        texture = make_surface(name, np.random.default_rng(seed), 96)
        assert (texture.shape, texture.dtype) == ((96, 96, 3), np.float32)
        assert np.isfinite(texture).all()
        assert texture.min() >= 0
        assert texture.max() <= 1
    np.testing.assert_array_equal(texture, make_surface(name, np.random.default_rng(11), 96))
    assert np.abs(texture - make_surface(name, np.random.default_rng(12), 96)).mean() > 1e-4


def test_surfaces_look_like_what_they_are_called():
    def mean_of(name):
        textures = [make_surface(name, np.random.default_rng(seed), 64) for seed in range(8)]
        return np.mean(textures, axis=(0, 1, 2)), np.mean([texture.std() for texture in textures])

    means, contrasts = zip(*(mean_of(name) for name in BACKGROUNDS), strict=True)
    light = dict(zip(BACKGROUNDS, (mean.mean() for mean in means), strict=True))
    contrast = dict(zip(BACKGROUNDS, contrasts, strict=True))
    color = dict(zip(BACKGROUNDS, means, strict=True))
    assert light["black"] < 0.01 < light["dark"] < 0.1 < light["grey"] < 0.65 < light["white"]
    for name in ("skin", "wood"):
        assert color[name][0] > color[name][1] > color[name][2]
    assert contrast["grey"] < 0.06
    assert min(contrast["granite"], contrast["pattern"]) > 0.1


def test_unknown_surfaces_are_refused():
    with pytest.raises(ValueError, match=r"background is 'lava'; allowed: grey, white, black"):
        make_surface("lava", np.random.default_rng(0), 32)
