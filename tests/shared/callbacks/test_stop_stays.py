"""A fit that early stopping ended, and that was killed before anybody wrote it down, is over when it is resumed."""

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from shared.callbacks.stop_stays import StopStays


class Rising(LightningModule):
    """Its validation loss rises from the first epoch on."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch).mean()

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", float(self.current_epoch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train(tmp_path, *callbacks, ckpt_path=None):
    trainer = Trainer(
        max_epochs=9, logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
        num_sanity_val_steps=0, callbacks=[
            *callbacks, EarlyStopping("val/loss", patience=2),
            ModelCheckpoint(tmp_path, filename="last", save_on_train_epoch_end=True, enable_version_counter=False),
        ],
    )  # fmt: skip
    data = DataLoader(torch.ones(4, 2), batch_size=2)
    trainer.fit(Rising(), data, data, ckpt_path=ckpt_path, weights_only=True)
    return trainer


def test_a_resumed_fit_does_not_go_on_behind_an_early_stop(tmp_path):
    first = train(tmp_path)
    assert first.current_epoch == 3
    assert train(tmp_path, StopStays(), ckpt_path=tmp_path / "last.ckpt").global_step == first.global_step


def test_without_it_lightning_would(tmp_path):
    first = train(tmp_path)
    assert train(tmp_path, ckpt_path=tmp_path / "last.ckpt").global_step > first.global_step


def test_a_fit_that_was_not_stopped_goes_on(tmp_path):
    assert train(tmp_path, StopStays()).current_epoch == 3
