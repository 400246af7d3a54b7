"""Mixup and CutMix by torchvision; which images went into which is kept, so that any label can be mixed alike."""

from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import CutMix, MixUp

from shared.errors import ConfigError


class _BoundedBeta:
    """Beta(alpha, alpha) of lambda with the pasted area 1 - lambda kept within bounds; for CutMix's `_dist`."""

    def __init__(self, alpha: float, area: tuple[float, float]) -> None:
        self.beta = torch.distributions.Beta(torch.tensor([alpha]), torch.tensor([alpha]))
        self.area = area

    def sample(self, shape: tuple[int, ...]) -> Tensor:
        """One lambda; rejection ends quickly, since the bounds leave most of the range."""
        for _ in range(1000):
            lam = self.beta.sample()
            if self.area[0] <= 1 - float(lam) <= self.area[1]:
                return lam
        raise ConfigError(f"model.mixing.cutmix_area {list(self.area)} is hardly ever drawn with this cutmix_alpha")


class Mixing:
    """Mixes the images of a training batch with each other, now and then.

    Args:
        mixup_alpha: Of mixup's Beta distribution; 0: no mixup.
        cutmix_alpha: Of CutMix's; 0: no CutMix.
        cutmix_area: Smallest and largest share of the area that CutMix draws; at the border less is pasted.
        probability: Chance that a batch is mixed at all; then mixup and CutMix are equally likely.

    Raises:
        ConfigError: If a value is out of range.
    """

    def __init__(
        self, mixup_alpha: float, cutmix_alpha: float, cutmix_area: tuple[float, float], probability: float
    ) -> None:
        if mixup_alpha < 0 or cutmix_alpha < 0:
            raise ConfigError(
                f"model.mixing has mixup_alpha {mixup_alpha} and cutmix_alpha {cutmix_alpha}; allowed: 0 and above"
            )
        if not 0 <= probability <= 1:
            raise ConfigError(f"model.mixing.probability is {probability}; allowed are 0 to 1")
        if len(cutmix_area) != 2 or not 0 <= cutmix_area[0] < cutmix_area[1] <= 1:
            raise ConfigError(
                f"model.mixing.cutmix_area is {list(cutmix_area)}; it must be [smallest, largest] in 0..1"
            )
        self.probability = probability
        self.alphas = [("mixup", mixup_alpha), ("cutmix", cutmix_alpha)]
        self.cutmix_area = (float(cutmix_area[0]), float(cutmix_area[1]))

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mix a batch, by torch's global generator.

        Args:
            image: (B, C, H, W) float.

        Returns:
            The images, and the shares (B, B): row i says which images make up image i; None where nothing was mixed.
        """
        ways = [(name, alpha) for name, alpha in self.alphas if alpha > 0]
        if not ways or len(image) < 2 or float(torch.rand(())) >= self.probability:
            return image, None
        name, alpha = ways[int(torch.randint(len(ways), ()))]
        # Each image is its own class to torchvision, so the soft labels that it returns are the shares.
        own = torch.arange(len(image), device=image.device)
        transform: Any
        if name == "mixup":
            transform = MixUp(alpha=alpha, num_classes=len(image))
        else:
            transform = CutMix(alpha=alpha, num_classes=len(image))
            transform._dist = _BoundedBeta(alpha, self.cutmix_area)
        mixed, shares = transform(image, own)
        return mixed, shares
