"""Random changes of training photos, all on uint8 pixels and all before the preprocessor."""

from typing import Any

# `shared` comes first: it switches off the URL that Albumentations opens when it is imported.
import shared  # noqa: F401  isort: skip
import albumentations as A
import cv2

from shared.augmentation import Augmentation
from shared.errors import ConfigError


def build_augmentation(
    size_px: int,
    *,
    rotation_degrees: float = 30.0,
    flip_probability: float = 0.0,
    crop_scale: tuple[float, float] = (0.8, 1.0),
    crop_ratio: tuple[float, float] = (0.9, 1.1),
    brightness: float = 0.2,
    contrast: float = 0.2,
    saturation: float = 0.2,
    hue: float = 0.1,
    blur_kernel_px: int = 5,
    blur_sigma: tuple[float, float] = (0.1, 2.0),
    blur_probability: float = 0.5,
    erasing_probability: float = 0.2,
) -> Augmentation:
    """Build the project's augmentation: rotation, random crop to the network's size, colours, blur, erasing.

    What it returns is (S, S, 3), so that the preprocessor behind it neither crops nor resizes. A value of 0 leaves a
    step out. Mirroring is off by default: it turns an imprint into one that no pill has.

    Args:
        size_px: Side S of the result.
        rotation_degrees: Largest turn to either side, in [0, 180]; what it uncovers repeats the border.
        flip_probability: Chance of each of the two flips.
        crop_scale: Share of the area that the crop keeps.
        crop_ratio: Width over height of the crop.
        brightness: Largest change of the factor, in [0, 1]; so for contrast and saturation.
        contrast: See brightness.
        saturation: See brightness.
        hue: Largest turn of the hue, as a share of the circle, in [0, 0.5].
        blur_kernel_px: Side of the Gaussian kernel, odd, >= 3.
        blur_sigma: Smallest and largest sigma, px.
        blur_probability: Chance of blurring.
        erasing_probability: Chance that a rectangle of 2 to 20 % of the area is filled with grey.

    Raises:
        ConfigError: A value is outside its range.
    """
    shares = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    chances = {"flip_probability": flip_probability, "blur_probability": blur_probability}
    for name, share in {**shares, **chances, "erasing_probability": erasing_probability}.items():
        _check(name, share, 0.0, 1.0)
    _check("rotation_degrees", rotation_degrees, 0.0, 180.0)
    _check("hue", hue, 0.0, 0.5)
    if blur_kernel_px < 3 or blur_kernel_px % 2 == 0:
        raise ConfigError(f"data.augmentation.blur_kernel_px is {blur_kernel_px}; allowed are odd numbers from 3 on")
    _check_pair("crop_scale", crop_scale, 1.0)
    _check_pair("crop_ratio", crop_ratio, 10.0)
    transforms = _geometry(size_px, rotation_degrees, flip_probability, crop_scale, crop_ratio)
    if brightness or contrast or saturation or hue:
        transforms.append(
            A.ColorJitter(_about_one(brightness), _about_one(contrast), _about_one(saturation), (-hue, hue), p=1.0)
        )
    if blur_probability:
        kernel = (blur_kernel_px, blur_kernel_px)
        transforms.append(A.GaussianBlur(blur_limit=kernel, sigma_limit=tuple(blur_sigma), p=blur_probability))
    if erasing_probability:
        transforms.append(A.Erasing(scale=(0.02, 0.2), fill=124, p=erasing_probability))
    return Augmentation(transforms)


def _geometry(
    size_px: int, degrees: float, flip: float, scale: tuple[float, float], ratio: tuple[float, float]
) -> list[Any]:
    transforms: list[Any] = []
    if flip:
        transforms += [A.HorizontalFlip(p=flip), A.VerticalFlip(p=flip)]
    if degrees:
        transforms.append(A.Rotate(limit=(-degrees, degrees), border_mode=cv2.BORDER_REPLICATE, p=1.0))
    # Area filtering where the crop shrinks, as the preprocessor's own resize widens its filter.
    size = (size_px, size_px)
    transforms.append(
        A.RandomResizedCrop(size=size, scale=tuple(scale), ratio=tuple(ratio), interpolation=cv2.INTER_AREA, p=1.0)
    )
    return transforms


def _check(name: str, value: float, lowest: float, highest: float) -> None:
    if not lowest <= value <= highest:
        raise ConfigError(f"data.augmentation.{name} is {value}; allowed are {lowest:g} to {highest:g}")


def _check_pair(name: str, pair: tuple[float, float], highest: float) -> None:
    if len(pair) != 2 or not 0 < pair[0] <= pair[1] <= highest:
        raise ConfigError(f"data.augmentation.{name} is {pair}; it must be [smallest, largest] above 0")


def _about_one(width: float) -> tuple[float, float]:
    return (1.0 - width, 1.0 + width)
