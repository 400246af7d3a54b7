"""Random changes of training images of the battery project."""

from typing import Any

# `shared` comes first: it switches off the URL that Albumentations opens when it is imported.
import shared  # noqa: F401  isort: skip
import albumentations as A
import cv2

from shared.augmentation import Augmentation


def build_augmentation(
    image_size_px: int,
    *,
    flip_probability: float = 0.5,
    rotation_degrees: float = 30.0,
    shift: float = 0.1,
    scale: tuple[float, float] = (0.9, 1.1),
    brightness: float = 0.3,
    contrast: float = 0.3,
    blur_kernel_px: int = 3,
    blur_probability: float = 0.3,
    clahe_probability: float = 0.0,
    sharpen_probability: float = 0.0,
    elastic_probability: float = 0.0,
) -> Augmentation:
    """Build the augmentation of the battery project: geometry first, then photometry, then blur; all on uint8.

    Rotation, shift and scale are one warp, which interpolates once. What it uncovers is black, as the air around a
    battery is. A value of 0 (scale: (1, 1)) leaves the step out. CLAHE, sharpening and elastic bending are off by
    default.

    Args:
        image_size_px: Side of the images, > 0; elastic bending is scaled to it.
        flip_probability: Chance of each of the two flips, independently.
        rotation_degrees: Largest turn to either side, in [0, 180].
        shift: Largest shift along each axis as a share of the side, in [0, 1].
        scale: Smallest and largest factor, both > 0; the same for both axes.
        brightness: Largest change as a share of 255, in [0, 1].
        contrast: Largest change of the factor, in [0, 1].
        blur_kernel_px: Side of the Gaussian kernel, odd, >= 3; sigma is drawn from 0.1 to 2 pixels.
        blur_probability: Chance of blurring.
        clahe_probability: Chance of local histogram equalisation.
        sharpen_probability: Chance of sharpening.
        elastic_probability: Chance of elastic bending.

    Raises:
        ValueError: A value is outside its range.
    """
    _check_shares(
        flip_probability=flip_probability,
        shift=shift,
        brightness=brightness,
        contrast=contrast,
        blur_probability=blur_probability,
        clahe_probability=clahe_probability,
        sharpen_probability=sharpen_probability,
        elastic_probability=elastic_probability,
    )
    if image_size_px <= 0:
        raise ValueError(f"image_size_px must be positive, got {image_size_px}")
    if not 0 <= rotation_degrees <= 180:
        raise ValueError(f"rotation_degrees must be in [0, 180], got {rotation_degrees}")
    if not 0 < scale[0] <= scale[1]:
        raise ValueError(f"scale must be (smallest, largest) with 0 < smallest <= largest, got {scale}")
    if blur_kernel_px < 3 or blur_kernel_px % 2 == 0:
        raise ValueError(f"blur_kernel_px must be odd and at least 3, got {blur_kernel_px}")
    geometry = _geometry(image_size_px, flip_probability, rotation_degrees, shift, scale, elastic_probability)
    transforms = [*geometry, *_photometry(brightness, contrast, clahe_probability, sharpen_probability)]
    if blur_probability:
        kernel = (blur_kernel_px, blur_kernel_px)
        transforms.append(A.GaussianBlur(blur_limit=kernel, sigma_limit=(0.1, 2.0), p=blur_probability))
    return Augmentation(transforms)


def _geometry(
    size_px: int, flip: float, degrees: float, shift: float, scale: tuple[float, float], elastic: float
) -> list[Any]:
    transforms: list[Any] = []
    if flip:
        transforms += [A.HorizontalFlip(p=flip), A.VerticalFlip(p=flip)]
    if degrees or shift or tuple(scale) != (1.0, 1.0):
        transforms.append(
            A.Affine(
                rotate=(-degrees, degrees),
                # One entry an axis: a bare pair would shift along the diagonal only in some releases.
                translate_percent={"x": (-shift, shift), "y": (-shift, shift)},
                scale=tuple(scale),
                keep_ratio=True,
                border_mode=cv2.BORDER_CONSTANT,
                fill=0,
                p=1.0,
            )
        )
    if elastic:
        # Displacements of up to about 2 % of the side, smooth over 5 %: bends layers, never tears a thin void apart.
        transforms.append(A.ElasticTransform(alpha=0.4 * size_px, sigma=0.05 * size_px, p=elastic))
    return transforms


def _photometry(brightness: float, contrast: float, clahe: float, sharpen: float) -> list[Any]:
    transforms: list[Any] = []
    if clahe:
        transforms.append(A.CLAHE(clip_limit=(1.0, 2.0), tile_grid_size=(8, 8), p=clahe))
    if brightness or contrast:
        transforms.append(
            A.RandomBrightnessContrast(
                brightness_limit=(-brightness, brightness), contrast_limit=(-contrast, contrast), p=1.0
            )
        )
    if sharpen:
        transforms.append(A.Sharpen(alpha=(0.2, 0.5), lightness=(1.0, 1.0), p=sharpen))
    return transforms


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {share}")
