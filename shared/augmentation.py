"""A chain of Albumentations transforms as a function of (image, seed)."""

import random
from typing import Any

# `shared` comes first: it switches off the URL that Albumentations opens when it is imported.
import shared  # noqa: F401  isort: skip
import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

cv2.setNumThreads(0)  # loader workers are the parallelism


class Augmentation:
    """A chain of Albumentations transforms whose result is a function of (image, seed) alone.

    `Compose.set_random_seed` is not used, for two reasons (2.0.8, measured 2026-11-21): it gives every transform its
    own generator with the SAME seed, so that horizontal and vertical flip always happen together (0 of 400 seeds gave
    one alone), and it costs 63 us for this chain, as much as its most expensive transform. Here all transforms draw
    from one shared pair of generators whose state is overwritten in place, about 5 us.
    """

    def __init__(self, transforms: list[Any]) -> None:
        self._compose = A.Compose(transforms)
        # Philox is made to be keyed: neighbouring seeds give unrelated streams.
        self._philox = np.random.Philox(key=0)
        self._state = self._philox.state
        self._python = random.Random(0)
        self._compose.set_random_state(np.random.Generator(self._philox), self._python)

    def __call__(self, image: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Return a changed copy.

        Args:
            image: Pixels, (H, W) or (H, W, C) uint8, before normalisation.
            seed: Non-negative, below 2**64; see `shared.seeding.derive_seed`.

        Returns:
            Pixels of the same number of dimensions, uint8, contiguous; the size is what the chain makes of it.
        """
        self._state["state"]["key"][0] = seed
        self._philox.state = self._state  # the stored state has counter 0 and an empty buffer
        self._python.seed(seed)
        changed = self._compose(image=image)["image"]
        assert changed.ndim == image.ndim
        return np.ascontiguousarray(changed, dtype=np.uint8)

    def __getstate__(self) -> dict[str, Any]:
        # Pickled apart, compose and generators would come back as strangers to each other.
        return {"transforms": list(self._compose.transforms)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Augmentation.__init__(self, state["transforms"])
