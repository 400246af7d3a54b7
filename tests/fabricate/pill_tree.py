"""A raw tree of pill photos as a user has it: a list of drugs, studio, real and others, JPEGs of about a kB."""

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image


def jpeg(seed: int, size_px: int = 24) -> bytes:
    """Return a JPEG whose pixels, and so bytes, depend on the seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size_px, size_px, 3), dtype=np.uint8)
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=60)
    return stream.getvalue()


def write_drugs(path: Path, kcodes: list[str]) -> Path:
    """Write the list of drugs."""
    drugs = [
        {"kcode": kcode, "name": f"Drug {kcode}", "manufacturer": "Maker", "form": "tablet", "weight": 1.0}
        for kcode in kcodes
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(drugs), encoding="utf-8")
    return path


def write_photos(root: Path, kcode: str, captures: Mapping[str, int], salt: str = "") -> list[Path]:
    """Write `<root>/<kcode>/<capture>_<nn>.jpg` for capture -> number of photos; all bytes differ."""
    folder = root / kcode
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for capture, count in captures.items():
        for number in range(count):
            path = folder / f"{capture}_{number:02d}.jpg"
            seed = int.from_bytes(f"{root.name}/{kcode}/{path.name}/{salt}".encode(), "little")
            path.write_bytes(jpeg(seed))
            written.append(path)
    return written


def sittings(letter: str, count: int, photos_each: int) -> dict[str, int]:
    """Return `count` captures named r00, r01, ... of `photos_each` photos."""
    return {f"{letter}{number:02d}": photos_each for number in range(count)}


def write_pill_tree(
    root: Path,
    num_classes: int = 4,
    *,
    studio: tuple[int, int] = (8, 2),
    real: tuple[int, int] = (12, 3),
    num_others: int = 4,
) -> Path:
    """Write a whole tree: classes K-000001 on, others K-900001 on; (sittings, photos a sitting) of each domain.

    With the defaults a class has 16 studio and 36 real photos, so 15 and 35 of them hold 3:7 and make just 50.
    """
    kcodes = [f"K-{number:06d}" for number in range(1, num_classes + 1)]
    write_drugs(root / "top_100_drugs.json", kcodes)
    for kcode in kcodes:
        write_photos(root / "studio", kcode, sittings("s", *studio))
        write_photos(root / "real", kcode, sittings("r", *real))
    for number in range(1, num_others + 1):
        write_photos(root / "others", f"K-9{number:05d}", sittings("r", 3, 2))
    return root
