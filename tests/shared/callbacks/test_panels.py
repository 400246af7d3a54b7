"""Panels of predicted curves, as TensorBoard holds them; those of classes are covered by the runs of the engine."""

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from shared.callbacks.panels import ValidationPanels


class Curves(LightningModule):
    """Predicts two curves of five points; says what they are, or does not."""

    def __init__(self, says_axes: bool = True) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 10)
        self.says_axes = says_axes

    def curve_axes(self):
        if not self.says_axes:
            return None
        axis = {"name": "frequency", "unit": "Hz", "values": [1.0, 2.0, 3.0, 4.0, 5.0]}
        return {"channels": ["left", "right"], "axis": axis}

    def training_step(self, batch, batch_idx):
        return self.layer(batch).square().mean()

    def validation_step(self, batch, batch_idx):
        prediction = self.layer(batch).reshape(-1, 2, 5)
        return {"prediction": prediction, "target": torch.zeros_like(prediction)}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def drawn(folder, module, epochs=3, every=5):
    loader = DataLoader(torch.randn(12, 3), batch_size=4)
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", logger=TensorBoardLogger(folder, name="tb", version=""),
        callbacks=[ValidationPanels(every)], enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, num_sanity_val_steps=0, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(module, loader, loader)
    trainer.logger.finalize("success")
    events = EventAccumulator(str(folder / "tb"), size_guidance={"images": 0})
    events.Reload()
    return {tag: len(events.Images(tag)) for tag in events.Tags()["images"]}


def test_curves_are_drawn_in_the_first_and_the_last_epoch(tmp_path):
    assert drawn(tmp_path, Curves()) == {"val/samples": 2, "val/agreement": 2}


def test_a_module_that_does_not_say_what_it_predicts_gets_no_panels(tmp_path):
    assert drawn(tmp_path, Curves(says_axes=False)) == {}


def test_a_period_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        ValidationPanels(0)
