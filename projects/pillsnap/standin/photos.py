"""One photo of the stand-in set from its names alone, and the same photo again on another background."""

from functools import lru_cache

from projects.pillsnap.standin import scenes
from projects.pillsnap.standin.conditions import Scene, draw_scene, light_on_pill, real_pose, studio_pose
from projects.pillsnap.standin.config import DOMAINS, StandinConfig, sitting_number, stream
from projects.pillsnap.standin.drugs import Drug, plan_drugs
from projects.pillsnap.standin.scenes import Photo
from projects.pillsnap.standin.specimen import Specimen, make_specimen, shade

BUFFER_SHARE = 0.85  # side of the pill's maps over the photo's side: a little finer than the pill in the photo


def render_photo(
    config: StandinConfig, domain: str, kcode: str, sitting: str, shot: int, *, background: str | None = None
) -> Photo:
    """Return the pixels of a photo as its JPEG file decodes, RGB, (size_px, size_px, 3).

    Args:
        config: The set it belongs to.
        domain: studio, real or others.
        kcode: A class for studio and real, an unknown drug for others.
        sitting: For example `r07`; s.. in the studio, r.. elsewhere. Need not be among those the set holds.
        shot: Number of the photo in its sitting, at least 0.
        background: One of `surfaces.BACKGROUNDS` in place of the sitting's own surface; pill, pose, light, camera and
            noise stay.

    Raises:
        ValueError: An unknown domain, K-code, sitting, shot or background; the sentence names what is allowed.
    """
    return scenes.through_jpeg(photo_bytes(config, domain, kcode, sitting, shot, background=background))


def photo_bytes(
    config: StandinConfig, domain: str, kcode: str, sitting: str, shot: int, *, background: str | None = None
) -> bytes:
    """Return a photo as the JPEG file of the set; arguments and errors as in `render_photo`."""
    number = sitting_number(domain, sitting)
    if shot < 0:
        raise ValueError(f"shot is {shot}; allowed: 0 or more.")
    drug = plan_drugs(config).find(domain, kcode)
    ids = (DOMAINS.index(domain), drug.number, number)
    scene = _scene(config.seed, config.size_px, ids, background)
    rng = stream("shot", config.seed, *ids, shot)
    pose = studio_pose(rng) if domain == "studio" else real_pose(rng)
    pill = _specimen(drug, config.seed, config.size_px, ids)
    lit = shade(pill, light_on_pill(scene.light, pose), scene.light.ambient, scene.light.softness)
    noise = stream("noise", config.seed, *ids, shot)
    photo = scenes.composite(lit, pill.half_extent_px, pill.thickness, scene, pose, noise)
    return scenes.jpeg_bytes(photo, scene.camera.jpeg_quality)


@lru_cache(maxsize=4)
def _specimen(drug: Drug, seed: int, size_px: int, ids: tuple[int, ...]) -> Specimen:
    return make_specimen(drug, stream("specimen", seed, *ids), round(BUFFER_SHARE * size_px))


@lru_cache(maxsize=4)
def _scene(seed: int, size_px: int, ids: tuple[int, ...], background: str | None) -> Scene:
    rngs = stream("scene", seed, *ids), stream("surface", seed, *ids)
    return draw_scene(*rngs, size_px, studio=ids[0] == DOMAINS.index("studio"), background=background)
