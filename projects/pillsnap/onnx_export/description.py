"""What an exported file says about itself: the strings in the ONNX metadata, written here and read by the server."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from projects.pillsnap.evaluation.open_set import NoneOfThese

MODEL_FORMAT = "pillsnap-1"
FORMS = ("photo", "pixels")


@dataclass(frozen=True)
class PillClass:
    """One answer that the network can give."""

    kcode: str
    name: str


UNFITTED = NoneOfThese("msp", slope=4.0, offset=-2.7725887, threshold=1.0)
"""Where no photos of other pills were at hand: one half at a highest probability of 1/2, and it never decides."""


@dataclass(frozen=True)
class ModelDescription:
    """All that a server must know about a model file.

    Attributes:
        form: "photo": input `photo` uint8 (N, H, W, 3), everything inside; "pixels": input `pixels` float32
            (N, 3, S, S), made by UnifiedPreprocessor.
        classes: In the order of the probabilities.
        preprocessing: `UnifiedPreprocessor.get_config()`.
        preprocessing_digest: `UnifiedPreprocessor.digest()`.
        calibration: {"method", "temperature"} (temperature None unless the method is that).
        none_of_these: The head of the open set.
        version: Name of this export.
        run: Name of the run directory.
        variant: "fp32", "int8", ...
    """

    form: str
    classes: tuple[PillClass, ...]
    preprocessing: Mapping[str, Any]
    preprocessing_digest: str
    calibration: Mapping[str, Any]
    none_of_these: NoneOfThese
    version: str
    run: str
    variant: str

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"form is {self.form!r}, allowed: {', '.join(FORMS)}")
        if len({pill.kcode for pill in self.classes}) != len(self.classes) or not self.classes:
            raise ValueError(
                f"classes are {[pill.kcode for pill in self.classes]}; one or more different kcodes are needed"
            )

    def as_metadata(self) -> dict[str, str]:
        """The same as `metadata_props`, every value a string."""
        return {
            "format": MODEL_FORMAT,
            "form": self.form,
            "classes": _dump([asdict(pill) for pill in self.classes]),
            "preprocessing": _dump(dict(self.preprocessing)),
            "preprocessing_digest": self.preprocessing_digest,
            "calibration": _dump(dict(self.calibration)),
            "none_of_these": _dump(self.none_of_these.as_dict() | {"fitted": self.none_of_these != UNFITTED}),
            "version": self.version,
            "run": self.run,
            "variant": self.variant,
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "ModelDescription":
        """Read `as_metadata` back.

        Raises:
            ValueError: With one clause that says what is wrong: another format, a missing or unusable entry.
        """
        if metadata.get("format") != MODEL_FORMAT:
            raise ValueError(f"has format {metadata.get('format')!r}, allowed: {MODEL_FORMAT!r}")
        missing = [key for key in _KEYS if key not in metadata]
        if missing:
            raise ValueError(f"lacks the metadata {', '.join(missing)}")
        try:
            return cls(
                form=metadata["form"],
                classes=tuple(_pill(entry) for entry in _load(metadata["classes"], list)),
                preprocessing=_load(metadata["preprocessing"], dict),
                preprocessing_digest=metadata["preprocessing_digest"],
                calibration=_load(metadata["calibration"], dict),
                none_of_these=NoneOfThese.from_dict(_load(metadata["none_of_these"], dict)),
                version=metadata["version"],
                run=metadata["run"],
                variant=metadata["variant"],
            )
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"has metadata that cannot be used ({error})") from error


_KEYS = (
    *("form", "classes", "preprocessing", "preprocessing_digest", "calibration", "none_of_these"),
    *("version", "run", "variant"),
)


def pill_classes(kcodes: Sequence[str], names: Sequence[str]) -> tuple[PillClass, ...]:
    """Classes in the order of the logits.

    Raises:
        ValueError: If there is not one name for each code.
    """
    if len(kcodes) != len(names):
        raise ValueError(f"there are {len(kcodes)} codes and {len(names)} names; one name for each code is needed")
    return tuple(PillClass(str(code), str(name)) for code, name in zip(kcodes, names, strict=True))


def _pill(entry: Mapping[str, Any]) -> PillClass:
    return PillClass(str(entry["kcode"]), str(entry["name"]))


def _dump(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, sort_keys=True)


def _load(text: str, kind: type) -> Any:
    content = json.loads(text)
    if not isinstance(content, kind):
        raise TypeError(f"{text[:40]} is no JSON {kind.__name__}")
    return content
