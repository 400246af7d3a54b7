"""Consumer scenes rendered around the NIH photographs, made once and kept as JPEG files: no real ones can be had."""

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from projects.pillsnap.data.folded import decoded
from projects.pillsnap.nih_scenes import render_nih
from shared.atomic import write_bytes
from shared.readers import ImageReader
from shared.seeding import derive_seed

RECIPE = 1
"""Raised when `render_nih` gives other pictures, so that a cache of the former ones is not taken for theirs."""

QUALITY = (60, 92)
"""Smallest and largest JPEG quality, as phones and messengers write."""


def rendered_name(file: str, number: int) -> str:
    """Name of the `number`-th rendering of a photograph."""
    return f"{Path(file).stem}_r{number}.jpg"


def rendered_folder(cache: Path, files: Sequence[str], size_px: int, per_photo: int, seed: int) -> Path:
    """Folder of one configuration and list of photographs, since a scene's seed is the place in that list."""
    what = {"recipe": RECIPE, "files": list(files), "size_px": size_px, "per_photo": per_photo, "seed": seed}
    key = hashlib.blake2b(json.dumps(what, sort_keys=True).encode(), digest_size=4).hexdigest()
    return cache / "pillsnap" / f"nih-rendered-{per_photo}x{size_px}px-{key}"


def scene_bytes(
    image: NDArray[np.uint8], place: int, number: int, *, size_px: int, seed: int, background: str | None = None
) -> bytes:
    """The JPEG file of one scene.

    Args:
        image: The photograph, RGB (H, W, 3) uint8.
        place: Its place in the list of photographs.
        number: Which of its scenes.
        size_px: Side of the scene.
        seed: Of all scenes.
        background: Takes the place of the scene's own surface; all else stays.
    """
    scene_seed = derive_seed(seed, place, number)
    picture = render_nih(image, scene_seed, size_px=size_px, background=background)
    quality = int(np.random.default_rng(scene_seed).integers(QUALITY[0], QUALITY[1] + 1))
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def render_all(
    files: Sequence[str],
    reader: ImageReader,
    folder: Path,
    *,
    size_px: int,
    per_photo: int,
    seed: int,
    on_progress: Callable[[int, int], None],
) -> None:
    """Render what is not there yet; a killed call is completed by the next.

    Args:
        files: Photographs, each its name for `reader`.
        reader: Gives their bytes.
        folder: Where the JPEG files go.
        size_px: Side of a rendering.
        per_photo: Renderings of each photograph.
        seed: Of the scenes.
        on_progress: Called with the number of photographs done and their number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        (place, file)
        for place, file in enumerate(files)
        if not all((folder / rendered_name(file, number)).is_file() for number in range(per_photo))
    ]

    def one(job: tuple[int, str]) -> None:
        place, file = job
        image = decoded(reader.read(file), file)
        for number in range(per_photo):
            content = scene_bytes(image, place, number, size_px=size_px, seed=seed)
            write_bytes(folder / rendered_name(file, number), content)

    with ThreadPoolExecutor(2) as pool:
        for done, _ in enumerate(pool.map(one, jobs), start=1):
            on_progress(len(files) - len(jobs) + done, len(files))
