"""Configuration, data and network of the spectra project for the benchmarks, and our own training loop on them."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from bench.plain_curves import FloatPairs, PlainNetwork
from projects.spectra.data.datamodule import CurveDataModule
from projects.spectra.models.cross_attention import CrossAttentionNetwork
from projects.spectra.module import SpectraRegressor
from shared.config import Settings, check_config
from shared.entry import CONFIG_FOLDER
from shared.instantiate import instantiate
from shared.learning_rate import without_origin
from shared.optim import build_optimizer, build_scheduler
from shared.sampler import EpochSampler
from shared.seeding import seed_all

AGREEMENT = 1e-4
"""By how much the plain network may differ from ours, in units of the targets' spread."""


def curve_settings(*overrides: str) -> Settings:
    """The configuration of the spectra project, with overrides."""
    with initialize_config_dir(CONFIG_FOLDER, version_base="1.3"):
        return check_config(compose("spectra", list(overrides)))


def curve_data(settings: Settings) -> CurveDataModule:
    """The datamodule; makes the stand-in data on first use."""
    datamodule = instantiate(settings.plain["data"], "data", seed=settings.seed, cache_folder=settings.paths.cache)
    assert isinstance(datamodule, CurveDataModule)
    return datamodule


def curve_module(settings: Settings, datamodule: CurveDataModule) -> SpectraRegressor:
    """The module with its first weights."""
    seed_all(settings.seed)
    plain = settings.plain
    module = instantiate(
        plain["model"], "model", optimizer=without_origin(plain["optimizer"]), scheduler=plain["scheduler"],
        **datamodule.module_arguments(),
    )  # fmt: skip
    assert isinstance(module, SpectraRegressor)
    return module


def float_pairs(datamodule: CurveDataModule) -> FloatPairs:
    """The training samples as the plain loop holds them: pixels of -1 and 1 in float32, whole in memory."""
    rows = datamodule.rows("train")
    image = datamodule.pictures(rows)[:, None].astype(np.float32)
    image *= 2
    image -= 1
    return FloatPairs(image, np.array(datamodule.store.target[rows]))


def plain_twin(module: SpectraRegressor, data: FloatPairs) -> PlainNetwork:
    """The module's network written plainly, with its weights, after a look that both say the same.

    Raises:
        AssertionError: If they do not.
    """
    assert isinstance(module.network, CrossAttentionNetwork)
    plain = PlainNetwork(module.network)
    image = torch.from_numpy(data.image[:16])
    spread = module.network.head.spread.item()
    with torch.no_grad():
        ours, theirs = (network.eval()(image) for network in (module.network, plain))
    torch.testing.assert_close(theirs, ours, rtol=0, atol=AGREEMENT * spread)
    return plain


class CurveLoop:
    """Our step without the engine around it: the datamodule's loader, the module's step, optimiser, clip, schedule.

    What the engine adds to a step is measured by `bench_training_step`.

    Args:
        module: Moved to the device; compiled if its configuration says so.
        datamodule: Gives the loader.
        settings: Gives optimiser, schedule and clipping.
        device: Where to train.
        autocast: Mixed precision in bfloat16, or all in float32.
    """

    def __init__(
        self,
        module: SpectraRegressor,
        datamodule: CurveDataModule,
        settings: Settings,
        device: torch.device,
        autocast: bool,
    ) -> None:
        self.module, self.device, self.autocast = module.to(device).train(), device, autocast
        module.setup("fit")
        plain, self.loader = settings.plain, datamodule.train_dataloader()
        self.clip = float(plain["trainer"]["gradient_clip_val"])
        self.optimizer = build_optimizer(module.named_parameters(), without_origin(plain["optimizer"]))
        total = len(self.loader) * int(plain["trainer"]["max_epochs"])
        self.scheduler = build_scheduler(self.optimizer, plain["scheduler"], total, len(self.loader))["scheduler"]
        self._batches = self._endless()

    def run(self, steps: int) -> float:
        """Train for some steps, from epoch to epoch; returns the seconds it took."""
        began = time.perf_counter()
        for _ in range(steps):
            batch = next(self._batches)
            batch |= {name: batch[name].to(self.device, non_blocking=True) for name in ("image", "target")}
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
                loss = self.module.shared_step(batch, "train")["loss"]
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.module.parameters(), self.clip)
            self.optimizer.step()
            self.scheduler.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    def _endless(self) -> Iterator[dict[str, Any]]:
        assert isinstance(self.loader.sampler, EpochSampler)
        epoch = 0
        while True:
            self.loader.sampler.set_epoch(epoch)
            for batch in self.loader:
                if len(batch["image"]) == self.loader.batch_size:  # as many samples in every step as by hand
                    yield batch
            epoch += 1
