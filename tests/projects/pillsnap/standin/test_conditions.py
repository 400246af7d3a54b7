import numpy as np
import pytest

from projects.pillsnap.standin import conditions
from projects.pillsnap.standin.conditions import Light, Pose, draw_scene, light_on_pill, real_pose, studio_pose


def scenes(studio, count=30, **changes):
    rngs = ((np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])) for seed in range(count))
    return [draw_scene(*pair, 48, studio=studio, **changes) for pair in rngs]


def test_lights_are_unit_vectors_from_above_with_positive_gains():
    for scene in scenes(True, 10) + scenes(False, 60):
        light = scene.light
        assert np.linalg.norm(light.toward) == pytest.approx(1, abs=1e-6)
        assert light.toward[2] > 0.45
        assert light.field.min() > 0.1
        assert light.gains.min() > 0.4
        assert 0 < light.ambient < 1
        assert 60 <= scene.camera.jpeg_quality <= 95


def test_consumer_scenes_are_harder_than_the_studio_in_every_way():
    studio, real = scenes(True), scenes(False)

    def mean(group, measure):
        return np.mean([measure(scene) for scene in group])

    measures = {
        "tilt": lambda scene: np.abs(scene.camera.tilt_deg).max(),
        "blur": lambda scene: scene.camera.blur,
        "noise": lambda scene: scene.camera.noise,
        "compression": lambda scene: 100 - scene.camera.jpeg_quality,
        "colour of light": lambda scene: np.ptp(scene.light.gains),
        "uneven light": lambda scene: scene.light.field.std(),
    }
    for name, measure in measures.items():
        assert mean(real, measure) > 2 * mean(studio, measure), name
    assert any(scene.camera.motion > 0 for scene in real)
    assert not any(scene.camera.motion for scene in studio)


def test_poses_keep_to_what_was_promised():
    rng = np.random.default_rng(0)
    real, studio = [real_pose(rng) for _ in range(400)], [studio_pose(rng) for _ in range(400)]
    angles = np.array([pose.angle_deg for pose in real])
    flipped = angles > 90
    assert np.abs(angles[~flipped]).max() <= 30
    assert np.abs(angles[flipped] - 180).max() <= 30
    assert 0.1 < flipped.mean() < 0.2
    assert 0.45 <= min(pose.fill for pose in real + studio) <= max(pose.fill for pose in real + studio) <= 0.70
    for pose in real:
        assert max(np.abs(pose.shift)) + pose.fill / 2 <= 0.47 + 1e-9
    assert np.abs([pose.angle_deg for pose in studio]).max() < 12


def test_a_swapped_background_leaves_light_and_camera():
    own, swapped = scenes(False, 5), scenes(False, 5, background="granite")
    for first, second in zip(own, swapped, strict=True):
        assert (first.camera, first.surface_deg) == (second.camera, second.surface_deg)
        np.testing.assert_array_equal(first.light.toward, second.light.toward)
        np.testing.assert_array_equal(first.light.field, second.light.field)
    assert any(np.abs(a.surface - b.surface).mean() > 0.02 for a, b in zip(own, swapped, strict=True))


def test_all_surfaces_of_a_domain_are_drawn(monkeypatch):
    drawn = []
    monkeypatch.setattr(conditions, "make_surface", lambda name, rng, size_px: drawn.append(name))
    scenes(False, 150)
    assert set(drawn) == set(conditions.REAL_SURFACES)
    drawn.clear()
    scenes(True, 20)
    assert set(drawn) == set(conditions.STUDIO_SURFACES)


def test_light_turns_against_the_pill():
    even = np.ones((4, 4), np.float32)
    light = Light(np.float32([0.6, 0, 0.8]), 0.4, 0.5, np.ones(3, np.float32), even)
    # The pill is turned clockwise by a quarter: what shines from the right meets the side that was its top.
    np.testing.assert_allclose(light_on_pill(light, Pose(90, 0.5, (0, 0), 1)), [0, -0.6, 0.8], atol=1e-6)
    np.testing.assert_allclose(light_on_pill(light, Pose(0, 0.5, (0, 0), 1)), light.toward, atol=1e-6)
