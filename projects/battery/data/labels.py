"""The five classes of the CT task, and the JSON label of one image: parsed, then checked against its image."""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from shared.errors import DataError

KINDS: tuple[str, ...] = ("cell", "module")
"""What was scanned; the coarse half of the class."""

DEFECTS: tuple[str, ...] = ("porosity", "resin_overflow")
"""Defect names that a label may hold."""

CLASSES: tuple[str, ...] = (
    "cell_normal",
    "cell_porosity",
    "module_normal",
    "module_porosity",
    "module_resin_overflow",
)
"""Class names; the label code is the position."""

NORMAL_CLASSES: frozenset[str] = frozenset({"cell_normal", "module_normal", "functional"})
"""Classes without a defect, those of the photovoltaic set (`elpv.py`) included."""

BOX_TOLERANCE_PX = 1.0
"""How far a box may reach over the edge of its image: annotation tools round corners outwards."""


class LabelError(DataError):
    """One label cannot be used; `kind` sorts the reasons so that they can be counted."""

    def __init__(self, kind: str, message: str) -> None:
        """Store the reason's sort, one of the keys of `consistency.BAD_FILE_KINDS`, beside the sentence."""
        super().__init__(message)
        self.kind = kind


class Defect(NamedTuple):
    """One defect with its box [x, y, width, height] in pixels of the original image, origin at the top left."""

    name: str
    box: tuple[float, float, float, float]

    @property
    def area(self) -> float:
        """Box area in square pixels."""
        return self.box[2] * self.box[3]


class Label(NamedTuple):
    """The content of one JSON label; all coordinates are pixels of an image of `width` x `height`."""

    file_name: str
    width: int
    height: int
    is_normal: bool
    defects: tuple[Defect, ...]
    battery_outline: tuple[tuple[float, float], ...]


def parse_label(content: bytes, where: str) -> Label:
    """Read a JSON label.

    Args:
        content: The file's bytes, UTF-8 with or without a byte order mark.
        where: Path of the label, for the message.

    Raises:
        LabelError: The text is no JSON, or a field is missing, of another type or unknown.
    """
    try:
        fields = json.loads(content.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise LabelError(
            "broken label", f"label {where} is no valid JSON ({error}); write or copy it again."
        ) from error
    if not isinstance(fields, dict):
        raise LabelError("broken label", f"label {where} holds a {type(fields).__name__}, not a JSON object.")
    file_name = _field(fields, "file_name", where)
    if not isinstance(file_name, str):
        raise _wrong(where, "file_name", file_name, "a string")
    is_normal = _field(fields, "is_normal", where)
    if not isinstance(is_normal, bool):
        raise _wrong(where, "is_normal", is_normal, "true or false")
    return Label(
        file_name=file_name,
        width=_positive_int(fields, "width", where),
        height=_positive_int(fields, "height", where),
        is_normal=is_normal,
        defects=_defects(_field(fields, "defects", where), where),
        battery_outline=_outline(fields.get("battery_outline"), where),
    )


def check_label(label: Label, image_name: str, width_px: int, height_px: int, where: str) -> None:
    """Check a label against its image, so that coordinates and class can be trusted.

    Args:
        label: The parsed label.
        image_name: File name of the image.
        width_px: Width of the image.
        height_px: Height of the image.
        where: Path of the label, for the message.

    Raises:
        LabelError: It names another image or size, a box is empty or outside, or `is_normal` contradicts `defects`.
    """
    if label.file_name != image_name:
        raise LabelError(
            "other image",
            f"label {where} says file_name {label.file_name!r}, but it lies beside {image_name!r}; "
            "give each image its own label.",
        )
    if (label.width, label.height) != (width_px, height_px):
        raise LabelError(
            "other size",
            f"label {where} was made for {label.width} x {label.height} pixels, but the image has {width_px} x "
            f"{height_px}, so its coordinates would be wrong; use the image and the label of the same size.",
        )
    if label.is_normal and label.defects:
        raise LabelError(
            "contradiction",
            f"label {where} says is_normal true but lists {len(label.defects)} defects; correct one of the two.",
        )
    if not label.is_normal and not label.defects:
        raise LabelError(
            "contradiction", f"label {where} says is_normal false but lists no defect; correct one of the two."
        )
    for defect in label.defects:
        _check_box(defect, width_px, height_px, where)


def class_code(kind: str, defects: Sequence[Defect], where: str) -> int:
    """Return the code into `CLASSES` of one slice.

    A slice has one class: with both defects on it resin overflow wins, since it is the rare one (1 % of the slices)
    and a missed one costs more than a missed porosity.

    Raises:
        LabelError: The kind is not one of `KINDS`, or a cell is said to have resin overflow.
    """
    if kind not in KINDS:
        raise LabelError("unknown kind", f"{where} is of kind {kind!r}; allowed are {', '.join(KINDS)}.")
    names = {defect.name for defect in defects}
    name = "resin_overflow" if "resin_overflow" in names else "porosity" if names else "normal"
    if f"{kind}_{name}" not in CLASSES:
        raise LabelError(
            "unknown class",
            f"{where} is a {kind} with {name}, which is none of the classes {', '.join(CLASSES)}; correct its label.",
        )
    return CLASSES.index(f"{kind}_{name}")


def largest_defect(defects: Sequence[Defect]) -> Defect | None:
    """Return the defect with the largest box among those that give the slice its class, None without a defect."""
    deciding = [defect for defect in defects if defect.name == "resin_overflow"] or list(defects)
    return max(deciding, key=lambda defect: defect.area, default=None)


def _check_box(defect: Defect, width_px: int, height_px: int, where: str) -> None:
    x, y, width, height = defect.box
    if width <= 0 or height <= 0:
        raise LabelError(
            "empty box", f"label {where} has a {defect.name} box of {width:g} x {height:g} pixels; draw it again."
        )
    edge = BOX_TOLERANCE_PX
    if x < -edge or y < -edge or x + width > width_px + edge or y + height > height_px + edge:
        raise LabelError(
            "box outside",
            f"label {where} has a {defect.name} box from ({x:g}, {y:g}) to ({x + width:g}, {y + height:g}), outside "
            f"the image of {width_px} x {height_px} pixels; boxes are [x, y, width, height] in pixels of this image.",
        )


def _defects(value: Any, where: str) -> tuple[Defect, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise _wrong(where, "defects", value, "null or a list")
    return tuple(_defect(entry, where) for entry in value)


def _defect(entry: Any, where: str) -> Defect:
    if not isinstance(entry, dict):
        raise _wrong(where, "defects", entry, "a list of objects with class and box")
    name = _field(entry, "class", where)
    if name not in DEFECTS:
        raise LabelError(
            "unknown class", f"label {where} has a defect of class {name!r}; allowed are {', '.join(DEFECTS)}."
        )
    box = _field(entry, "box", where)
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(number) for number in box):
        raise _wrong(where, "box", box, "[x, y, width, height] as four numbers")
    x, y, width, height = (float(number) for number in box)
    return Defect(name, (x, y, width, height))


def _outline(value: Any, where: str) -> tuple[tuple[float, float], ...]:
    """Read the polygon; null and absent mean that nobody drew one."""
    points = [] if value is None else value
    if not isinstance(points, list) or not all(
        isinstance(point, list) and len(point) == 2 and all(_is_number(number) for number in point) for point in points
    ):
        raise _wrong(where, "battery_outline", value, "a list of [x, y] points")
    return tuple((float(x), float(y)) for x, y in points)


def _field(fields: dict[str, Any], key: str, where: str) -> Any:
    if key not in fields:
        found = ", ".join(sorted(fields)) or "nothing"
        raise LabelError("broken label", f"label {where} lacks the field {key!r}; it holds {found}.")
    return fields[key]


def _positive_int(fields: dict[str, Any], key: str, where: str) -> int:
    value = _field(fields, key, where)
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise _wrong(where, key, value, "a positive whole number of pixels")
    return value


def _is_number(value: Any) -> bool:
    # JSON true is a Python int, and 1e999 parses as infinity.
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _wrong(where: str, key: str, value: Any, allowed: str) -> LabelError:
    return LabelError("broken label", f"label {where} has {key} {value!r:.80}; it must be {allowed}.")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
