"""A small network with what an exported pill network has: batch norm, SiLU, squeeze-and-excite, a residual."""

import numpy as np
import torch
from torch import nn


class SmallPillNetwork(nn.Module):
    """Photos (N, 3, S, S) to logits (N, K), with statistics in its batch norms that are not the first ones."""

    def __init__(self, num_classes=5, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.SiLU())
        self.body = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.SiLU())
        self.gate = nn.Sequential(nn.Conv2d(16, 4, 1), nn.SiLU(), nn.Conv2d(4, 16, 1), nn.Sigmoid())
        self.head = nn.Linear(16, num_classes)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
        nn.init.normal_(self.head.weight, 0, 3.0)
        self.eval()

    def forward(self, image):
        x = self.stem(image)
        y = self.body(x)
        x = x + y * self.gate(y.mean((2, 3), keepdim=True))
        return self.head(x.mean((2, 3)))


def plain_photos(count, size_px=64, seed=0):
    """Photos of one colour each with a little noise, (N, S, S, 3) uint8."""
    rng = np.random.default_rng(seed)
    colour = rng.integers(0, 256, (count, 1, 1, 3))
    return np.clip(colour + rng.integers(-30, 31, (count, size_px, size_px, 3)), 0, 255).astype(np.uint8)
