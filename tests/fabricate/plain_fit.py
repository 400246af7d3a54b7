"""Somebody else's module and Trainer, small enough to be fitted many times, and ways to stop the fit."""

import warnings

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from shared.callbacks.step_seed import StepSeed
from shared.callbacks.sweet_spot import SweetSpotCheckpoint
from shared.snapshots import SnapshotStore

MAX_EPOCHS = 7
BATCHES = 4


class Plain(L.LightningModule):
    """Somebody else's module: no base class of ours, a frozen part, batch norm, dropout and a tied weight."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.frozen = nn.Linear(6, 6)
        self.frozen.requires_grad_(False)
        self.body = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.2))
        self.head = nn.Linear(6, 6)
        self.tied = nn.Linear(6, 6)
        self.tied.weight = self.head.weight

    def loss(self, batch):
        x, y = batch
        return nn.functional.mse_loss(self.tied(self.head(self.body(self.frozen(x)))), y)

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("train/loss", loss, on_epoch=True, on_step=False)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.loss(batch))
        self.log("other/thing", 1.0)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.05)


def loader():
    """Equal batches, because Lightning resumes a plain loader within an epoch at its beginning."""
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(1)).repeat(BATCHES, 1)
    return DataLoader(TensorDataset(x, x.flip(1)), batch_size=8)


class Crash(L.Callback):
    """Raises at one place of the fit."""

    def __init__(self, hook: str, epoch: int, batch: int = 0) -> None:
        self.epoch, self.batch = epoch, batch
        setattr(self, hook, self.strike)

    def strike(self, trainer, module, *args):
        batch = args[-1] if args and isinstance(args[-1], int) else self.batch
        if (trainer.current_epoch, batch) == (self.epoch, self.batch) and not trainer.sanity_checking:
            raise RuntimeError("killed")


def fit(folder, *more, module=None, callback=None, resume=None, max_epochs=MAX_EPOCHS, before=(), **trainer_settings):
    callback = callback or SweetSpotCheckpoint()
    settings = {"save_top_k": 1, "enable_version_counter": False}
    last = ModelCheckpoint(folder / "ckpt", filename="last", save_on_train_epoch_end=True, **settings)
    trainer = L.Trainer(
        max_epochs=max_epochs, default_root_dir=folder, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[StepSeed(0), *before, last, callback, *more], **trainer_settings,
    )  # fmt: skip
    module = module or Plain()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", "epoch . is left out|.*snapshots of an earlier fit")
        trainer.fit(module, loader(), loader(), ckpt_path=resume, weights_only=True)
    return trainer, module, callback


def contents(folder):
    """Everything that a snapshot says, but for which of equal files is a link."""
    store = SnapshotStore(folder / "snapshots")
    found = {}
    for epoch in store.epochs():
        record = store.record(epoch)
        hashes = {group: entry["sha256"] for group, entry in record["groups"].items()}
        for group in hashes:
            store.load(epoch, group)  # compares the hash with the tensors
        found[epoch] = {"step": record["step"], "metrics": record["metrics"], "hashes": hashes}
    return found
