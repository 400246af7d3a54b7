"""Whether a variant may be served: what it must keep to on photos that did not shape it, and what speaks against it."""

from collections.abc import Mapping
from typing import Any

from scipy.stats import beta

JUDGED_ON = "accept"
"""Fold of the certificate: 8-bit ranges come from train and the options from val, so neither tells how well they do."""

TOLERANCES: Mapping[str, Mapping[str, float]] = {
    variant: {
        "max_abs_probability": most,
        "top1_agreement": 0.99,
        "none_of_these_agreement": 0.99,
        "accuracy_loss": 0.005,
        "least_images": least,
    }
    for variant, most, least in (("fp32", 1e-3, 1), ("fp16", 0.05, 100), ("int8", 1.0, 100))
}
"""What a variant must keep to; 8 bits may shift a probability, not the answers, and answers must be many to be counted.
float32 is the same arithmetic, so that its largest difference on any photo tells; the others are judged by shares."""

GREY_LEVELS = 1
"""Allowed difference of the preprocessing in the file from the preprocessor, on squares of the right size."""


def agreement_lower_bound(agreement: float, images: int) -> float:
    """Lower end of the 95 % interval of a share found on some photos, as if they were drawn independently.

    Args:
        agreement: Share in [0, 1] of the photos that agree.
        images: Photos, >= 1.

    Raises:
        ValueError: If there is no photo or the share is outside [0, 1].

    Source: Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
    Biometrika 26 (1934); two-sided, so 2.5 % lie below.

    Example:
        >>> round(agreement_lower_bound(1.0, 100), 4)
        0.9638
    """
    if images < 1 or not 0.0 <= agreement <= 1.0:
        raise ValueError(f"agreement is {agreement} on {images} photos; a share in [0, 1] of 1 or more is needed")
    agreeing = round(agreement * images)
    return float(beta.ppf(0.025, agreeing, images - agreeing + 1)) if agreeing else 0.0


def reasons_against(variant: str, measured: Mapping[str, Any], preprocessing: Mapping[str, Any]) -> list[str]:
    """Why a variant may not be served, one clause each; empty if it may.

    Args:
        variant: A key of `TOLERANCES`.
        measured: {"images", "max_abs_probability", "top1_agreement", "none_of_these_agreement", "accuracy_loss"} on
            `JUDGED_ON`. A number that is not finite is a reason.
        preprocessing: {"max_grey_levels", "tolerance"} of the preprocessing in the file.
    """
    limit = TOLERANCES[variant]
    images, difference, lost = (measured[key] for key in ("images", "max_abs_probability", "accuracy_loss"))
    levels, allowed = preprocessing["max_grey_levels"], preprocessing["tolerance"]
    checks = [
        (
            images >= limit["least_images"],
            f"too few photos to certify: {images}, {limit['least_images']:.0f} are needed",
        ),
        (
            difference <= limit["max_abs_probability"],
            f"a probability differs by {difference:.2g}, allowed: {limit['max_abs_probability']:g}",
        ),
        *(
            (measured[key] >= limit[key], f"{words} {100 * measured[key]:.2f} %, {100 * limit[key]:g} % are needed")
            for key, words in _AGREEMENTS.items()
        ),
        (
            lost <= limit["accuracy_loss"],
            f"{100 * lost:.2f} points of accuracy are lost, allowed: {100 * limit['accuracy_loss']:g}",
        ),
        (levels <= allowed, f"the preprocessing differs by {levels} grey levels, allowed: {allowed}"),
    ]
    return [reason for kept, reason in checks if not kept]


_AGREEMENTS = {
    "top1_agreement": "the most probable class agrees on",
    "none_of_these_agreement": "the decision 'none of these' agrees on",
}
