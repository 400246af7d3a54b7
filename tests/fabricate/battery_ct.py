"""A handful of tiny CT slices in the real file format, written without OpenCV: its decoder is what is tested."""

import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATTERIES: tuple[tuple[str, str, str], ...] = (
    ("cell", "pouch", "0101"),
    ("cell", "pouch", "0102"),
    ("cell", "cylindrical", "0103"),
    ("module", "prismatic", "0201"),
    ("module", "prismatic", "0202"),
    ("module", "pouch", "0203"),
)


@dataclass
class FabricatedSlice:
    """One image with its label, as they were written."""

    image_path: Path
    label_path: Path
    pixels: NDArray[np.uint8]
    label: dict[str, Any]
    class_name: str
    kind: str
    form: str
    battery: str
    axis: str
    number: int

    def rewrite_label(self, **changes: Any) -> None:
        """Write the label again with some fields changed."""
        self.label_path.write_text(json.dumps(self.label | changes))


def png_bytes(pixels: NDArray[Any]) -> bytes:
    """Encode (H, W) uint8 or uint16 as a grey PNG."""
    height, width = pixels.shape
    depth = 8 * pixels.dtype.itemsize
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    stride = width * depth // 8
    raw = b"".join(b"\0" + rows[at : at + stride] for at in range(0, len(rows), stride))
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(raw, 1)) + _chunk(b"IEND", b"")
    )


def write_ct(
    root: Path, *, seed: int = 0, size: tuple[int, int] = (48, 64), images: str = "images", labels: str = "labels"
) -> list[FabricatedSlice]:
    """Write two slices an axis of six batteries; x slices are normal, every other y and z slice shows a defect.

    Args:
        root: Data root.
        seed: Seeds the pixels.
        size: Height and width in pixels.
        images: Folder of the images below the root.
        labels: Folder of the labels below the root.

    Returns:
        The slices, ordered by image path.
    """
    generator = np.random.default_rng(seed)
    slices = []
    for battery in BATTERIES:
        for axis in "xyz":
            for number in (10, 20):
                slices.append(_write_slice(root, battery, axis, number, size, (images, labels), generator))
    return sorted(slices, key=lambda each: each.image_path.as_posix())


def _write_slice(
    root: Path,
    battery: tuple[str, str, str],
    axis: str,
    number: int,
    size: tuple[int, int],
    folders: tuple[str, str],
    generator: np.random.Generator,
) -> FabricatedSlice:
    kind, form, name = battery
    stem = f"CT_{kind}_{form}_{name}_{axis}_{number:04d}"
    pixels = generator.integers(60, 200, size, dtype=np.uint8)
    defects, defect = None, "normal"
    if axis != "x" and number == 20:
        defect = "resin_overflow" if name == "0203" and axis == "z" else "porosity"
        pixels[8:28, 12:14] = 5
        defects = [{"class": defect, "box": [12, 8, 2, 20]}, {"class": defect, "box": [3, 3, 1, 2]}]
    label = {
        "file_name": f"{stem}.png",
        "width": size[1],
        "height": size[0],
        "is_normal": defects is None,
        "defects": defects,
        "battery_outline": [[1, 1], [size[1] - 2, 1], [size[1] - 2, size[0] - 2]],
    }
    image_path = root / folders[0] / f"{stem}.png"
    label_path = root / folders[1] / f"{stem}.json"
    for path, content in ((image_path, png_bytes(pixels)), (label_path, json.dumps(label).encode())):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return FabricatedSlice(image_path, label_path, pixels, label, f"{kind}_{defect}", kind, form, name, axis, number)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
