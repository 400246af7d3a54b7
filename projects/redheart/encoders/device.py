"""Where an encoder computes."""

import torch


def pick_device(name: str) -> str:
    """Return the device for a name; "auto" is the accelerator where there is one."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def empty_cache() -> None:
    """Give the accelerator's cached memory back, where there is one in use."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # nothing happens where the accelerator was never used
