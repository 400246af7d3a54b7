"""A tiny set of rendered pills for tests of what reads one."""

from pathlib import Path

from projects.pillsnap.standin import StandinConfig, generate_standin


def tiny_config(**changes: int | float) -> StandinConfig:
    """Six classes with one look-alike pair, two unknown drugs, 96 px, a few sittings."""
    sizes = {"num_classes": 6, "num_unknown_classes": 2, "size_px": 96, "look_alike_share": 0.4}
    sittings = {"studio_sittings": 3, "studio_per_sitting": 2, "real_sittings": 4, "real_per_sitting": 2}
    return StandinConfig(**{**sizes, **sittings, **changes})


def write_tiny(root: Path, **changes: int | float) -> Path:
    """Write the tiny set below `root`, which need not exist, in this process."""
    return generate_standin(root, tiny_config(**changes), workers=1)
