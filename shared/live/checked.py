"""Takes from an event what the page can show; a run's file may be anybody's, so every value is looked at first."""

import math
from collections.abc import Mapping
from itertools import islice
from typing import Any

from shared.events import KINDS

MAX_TEXT = 2000
MAX_NAME = 120
MAX_METRICS = 100
MAX_FACTS = 40
MAX_CHANNELS = 16
MAX_CURVE = 2048
MAX_SIDE_PX = 512


def is_event(event: Mapping[str, Any]) -> bool:
    """Whether the fields that every event has are there and of their kind."""
    whole = all(_is_whole(event.get(key)) for key in ("seq", "step", "epoch"))
    return whole and number(event.get("t")) is not None and event.get("kind") in KINDS and isinstance(
        event.get("data"), dict
    )  # fmt: skip


def number(value: Any) -> float | None:
    """A finite number; None for anything else, booleans among them."""
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
        return None
    return value if math.isfinite(value) else None


def text(value: Any, limit: int = MAX_TEXT) -> str:
    """A string of bounded length; a longer one ends in an ellipsis."""
    found = value if isinstance(value, str) else str(value)
    return found if len(found) <= limit else found[: limit - 3] + "..."


def metrics(data: Mapping[str, Any]) -> dict[str, float | None]:
    """Names and numbers of an `epoch` event."""
    return {text(key, MAX_NAME): number(value) for key, value in islice(data.items(), MAX_METRICS)}


def facts(data: Mapping[str, Any]) -> dict[str, Any]:
    """What a `start` event tells about the run."""
    model = data.get("model")
    found: dict[str, Any] = {key: number(data.get(key)) for key in ("max_epochs", "batches_per_epoch")}
    if isinstance(model, dict):
        found["model"] = {text(key, MAX_NAME): text(value) for key, value in islice(model.items(), MAX_FACTS)}
    if isinstance(data.get("formula"), str):
        found["formula"] = text(data["formula"])
    if isinstance(data.get("monitor"), str):
        found["monitor"] = text(data["monitor"], MAX_NAME)
    return found


def sample(data: Mapping[str, Any]) -> dict[str, Any] | None:
    """A `sample` event's picture and curves.

    Returns:
        {"index", "image": {"side", "bits"} or None, "channels", "axis": {"name", "unit", "values"}, "target",
        "prediction"}, the last two (channels, L); None where these do not fit each other.
    """
    axis = data.get("axis")
    target, prediction = _curves(data.get("target")), _curves(data.get("prediction"))
    if not _is_whole(data.get("index")) or not isinstance(axis, dict) or target is None or prediction is None:
        return None
    values = _numbers(axis.get("values"))
    lengths = {len(curve) for curve in (*target, *prediction)}
    if values is None or lengths != {len(values)} or len(target) != len(prediction):
        return None
    names = data.get("channels")
    if not isinstance(names, list) or len(names) != len(target):
        names = list(range(len(target)))
    return {
        "index": data["index"],
        "image": _image(data.get("image")),
        "channels": [text(name, MAX_NAME) for name in names],
        "axis": {"values": values, **{key: text(axis.get(key, ""), MAX_NAME) for key in ("name", "unit")}},
        "target": target,
        "prediction": prediction,
    }  # fmt: skip


def _image(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, dict) or not _is_whole(value.get("side")) or not isinstance(value.get("bits"), str):
        return None
    side = value["side"]
    num_bytes = (side * side + 7) // 8
    fits = 0 < side <= MAX_SIDE_PX and len(value["bits"]) == 4 * math.ceil(num_bytes / 3)
    return {"side": side, "bits": value["bits"]} if fits else None


def _curves(value: Any) -> list[list[float | None]] | None:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_CHANNELS:
        return None
    curves = [_numbers(curve) for curve in value]
    return None if None in curves else [curve for curve in curves if curve is not None]


def _numbers(value: Any) -> list[float | None] | None:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_CURVE:
        return None
    return [number(item) for item in value]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
