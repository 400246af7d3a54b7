"""A fabricated set in ELPV's format and an experiment on it that takes a second a round."""

from pathlib import Path

import numpy as np
import pytest

from tests.fabricate.battery_run import composed

NUM_IMAGES = 80


@pytest.fixture(scope="session")
def elpv_folder(battery_ct, tmp_path_factory) -> Path:
    """Return an unpacked folder of 80 images; defective ones have a dark bar, a few of each class look wrong."""
    folder = tmp_path_factory.mktemp("elpv")
    (folder / "images").mkdir()
    generator = np.random.default_rng(11)
    lines = ["file,defect_probability,module_type,split"]
    for place in range(NUM_IMAGES):
        defective, kind = place % 2 == 1, ("mono", "poly")[place // 2 % 2]
        pixels = generator.normal(150, 25, (36, 36))
        if defective != (place % 10 == 0):
            pixels[:, 10:16] -= 60
        name = f"images/cell{place:04d}.png"
        (folder / name).write_bytes(battery_ct.png_bytes(pixels.clip(0, 255).astype(np.uint8)))
        probability = ("0.0", "1.0", "0.3333333", "0.6666667")[place % 4]
        split = ("train", "train", "train", "val", "test")[place // 4 % 5]
        lines.append(f"{name},{probability},{kind},{split}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def elpv_config(elpv_folder):
    """Return a function: outputs folder and overrides to the composed configuration."""

    def compose_tiny(outputs: Path, *overrides: str):
        return composed(
            "battery", "+experiment=elpv_late_fusion", f"data.root={elpv_folder}", f"paths.outputs={outputs}",
            "data.image_size_px=32", "data.num_workers=0", "data.batch_size=16", "trainer.max_epochs=2",
            "model.parameters.backbone=test_resnet", "audit.permutations=19", "runtime.threads=1", "logger=none",
            "callbacks=minimal", "callbacks.progress.enabled=false", *overrides,
        )  # fmt: skip

    return compose_tiny
