"""The demo's configuration, data and network for the benchmarks, and its fit written by hand."""

import copy
import itertools
import os
import time
from collections.abc import Generator
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from projects.battery.data.datamodule import CtDataModule
from projects.battery.module import BatteryClassifier
from shared.config import Settings, check_config
from shared.entry import CONFIG_FOLDER
from shared.instantiate import instantiate
from shared.learning_rate import without_origin
from shared.optim import build_optimizer, build_scheduler
from shared.sampler import EpochSampler
from shared.seeding import seed_all


def demo_settings(*overrides: str) -> Settings:
    """The configuration of `make demo`, with overrides."""
    with initialize_config_dir(CONFIG_FOLDER, version_base="1.3"):
        return check_config(compose("battery", ["+experiment=late_fusion", *overrides]))


def demo_data(settings: Settings) -> CtDataModule:
    """The datamodule; makes the stand-in data on first use."""
    datamodule = instantiate(settings.plain["data"], "data", seed=settings.seed, cache_folder=settings.paths.cache)
    assert isinstance(datamodule, CtDataModule)
    return datamodule


def demo_module(settings: Settings, datamodule: CtDataModule) -> BatteryClassifier:
    """The module with its first weights; torch may use every core, as in a run."""
    torch.set_num_threads(settings.runtime.threads or len(os.sched_getaffinity(0)))
    seed_all(settings.seed)
    plain = settings.plain
    module = instantiate(
        plain["model"], "model", optimizer=without_origin(plain["optimizer"]), scheduler=plain["scheduler"],
        **datamodule.module_arguments(),
    )  # fmt: skip
    assert isinstance(module, BatteryClassifier)
    return module


class HandLoop:
    """What somebody would write who has this network, these loaders and no engine: no log, no file, no callback.

    Args:
        module: Gives network, loss and metrics, all copied.
        datamodule: Gives the loaders; workers as it says.
        settings: Gives optimiser, schedule, clipping and the number of epochs.
        memory_format: Layout of the weights.
    """

    def __init__(
        self,
        module: BatteryClassifier,
        datamodule: CtDataModule,
        settings: Settings,
        memory_format: torch.memory_format = torch.channels_last,
    ) -> None:
        self.network = copy.deepcopy(module.network).to(memory_format=memory_format)
        self.loss = copy.deepcopy(module.loss)
        self.metrics = copy.deepcopy(module.metrics)
        self.train_loader, self.val_loader = datamodule.train_dataloader(), datamodule.val_dataloader()
        plain, steps_per_epoch = settings.plain, len(self.train_loader)
        self.clip = float(plain["trainer"]["gradient_clip_val"])
        self.optimizer = build_optimizer(self.network.named_parameters(), without_origin(plain["optimizer"]))
        total = steps_per_epoch * int(plain["trainer"]["max_epochs"])
        self.scheduler = build_scheduler(self.optimizer, plain["scheduler"], total, steps_per_epoch)["scheduler"]
        self.waited_s = 0.0
        self._batches = self._endless()

    def run(self, steps: int) -> float:
        """Train for some steps, from epoch to epoch; returns the seconds it took."""
        began = time.perf_counter()
        self.network.train()
        for _ in range(steps):
            asked = time.perf_counter()
            batch = next(self._batches)
            self.waited_s += time.perf_counter() - asked
            rows = self.network(batch["image"], batch["meta"])
            loss = self.loss(rows, batch["target"])["loss"]
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
            self.optimizer.step()
            self.scheduler.step()
        return time.perf_counter() - began

    def validate(self) -> float:
        """Loss and metrics on val; returns the seconds it took."""
        began = time.perf_counter()
        self.network.eval()
        with torch.no_grad():
            for batch in self.val_loader:
                rows = self.network(batch["image"], batch["meta"])
                self.loss(rows, batch["target"])
                self.metrics.update(rows["logits"], batch["target"])
        self.metrics.compute()
        self.metrics.reset()
        return time.perf_counter() - began

    def close(self) -> None:
        """Stop the loaders' workers."""
        self._batches.close()
        del self.train_loader, self.val_loader

    def _endless(self) -> Generator[Any, None, None]:
        assert isinstance(self.train_loader.sampler, EpochSampler)
        for epoch in itertools.count():
            self.train_loader.sampler.set_epoch(epoch)
            yield from self.train_loader
