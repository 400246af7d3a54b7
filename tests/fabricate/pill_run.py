"""Pillsnap configurations small enough to run through the whole engine in a few seconds, and a tiny NIH folder."""

import csv
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from PIL import Image, ImageDraw

from tests.fabricate.battery_run import composed
from tests.fabricate.pill_standin import tiny_config

TINY = (
    "data.preprocessing.size_px=32",
    "data.num_workers=0",
    "data.batch_size=8",
    "model.parameters.backbone=test_resnet",
    "model.parameters.drop_path_rate=0.0",
    "trainer.max_epochs=2",
    "runtime.threads=1",
    "callbacks.progress.enabled=false",
)
"""Overrides that shrink any pillsnap experiment: 32 px, a network of half a million weights, two epochs."""

COLUMNS = ("file", "pill_id", "labeler", "surface", "shape", "color", "n_colors", "shape_color", "split")
LOOKS = (("ROUND", "WHITE"), ("ROUND", "RED"), ("OVAL", "WHITE"))


def tiny_pill_run(outputs: Path, cache: Path, *overrides: Any, experiment: str = "pills") -> DictConfig:
    """Compose a tiny run on rendered pills that writes below `outputs` and keeps its data in `cache`."""
    standin = [f"data.standin.{key}={value}" for key, value in tiny_config().as_dict().items()]
    places = (f"paths.outputs={outputs}", f"paths.cache={cache}")
    return composed("pillsnap", f"+experiment={experiment}", *TINY, *standin, *places, *overrides)


def tiny_nih_run(folder: Path, outputs: Path, cache: Path, *overrides: Any, experiment: str = "nih") -> DictConfig:
    """Compose a tiny run on the NIH folder that `write_nih` made."""
    places = (f"paths.outputs={outputs}", f"paths.cache={cache}", f"data.root={folder}", "data.rendered_size_px=64")
    return composed("pillsnap", f"+experiment={experiment}", *TINY, *places, *overrides)


def write_nih(folder: Path, pills_per_look: int = 14) -> Path:
    """Write a folder like that of the NIH photographs: discs and ellipses on black, front and back of each pill."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows = []
    with zipfile.ZipFile(folder / "nih_pills.zip", "w") as archive:
        for look, (shape, color) in enumerate(LOOKS):
            for number in range(pills_per_look):
                part = "test" if number % 5 == 0 else "val" if number % 5 == 1 else "train"
                pill = f"{look}-{number:04d}"
                for side, surface in enumerate(("front", "back")):
                    file = f"images/{pill}_{side}.jpg"
                    archive.writestr(file, _photo(shape, color, rng))
                    labeler = f"{number % 7:05d}"
                    rows.append((file, pill, labeler, surface, shape, color, 1, f"{shape}__{color}", part))
    with (folder / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS, *rows])
    return folder


def _photo(shape: str, color: str, rng: np.random.Generator) -> bytes:
    picture = Image.new("RGB", (64, 64))
    shade = int(rng.integers(170, 240))
    fill = (shade, shade, shade) if color == "WHITE" else (shade, 30, 40)
    width, height = (20, 20) if shape == "ROUND" else (28, 14)
    ImageDraw.Draw(picture).ellipse((32 - width, 32 - height, 32 + width, 32 + height), fill=fill)
    x, y = (int(value) for value in rng.integers(26, 38, 2))  # a speck: two equal files would be a leak
    ImageDraw.Draw(picture).point((x, y), fill=tuple(int(value) for value in rng.integers(0, 120, 3)))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=95)
    return stream.getvalue()
