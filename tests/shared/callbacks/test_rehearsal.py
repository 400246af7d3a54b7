"""A rehearsal runs every stage and moves no weight; whatever does move one is named."""

import json

import pytest
import torch
from lightning import Callback, LightningModule, Trainer

from shared.callbacks.rehearsal import BATCHES, EPOCHS, Rehearsal
from shared.engine import fit
from shared.errors import TrainingError
from shared.final import checkpoint_state
from tests.fabricate.spectra_run import tiny_run


class Line(LightningModule):
    def __init__(self, optimizer):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.optimizer = optimizer

    def training_step(self, batch, batch_idx):
        return self.layer(batch).square().mean()

    def configure_optimizers(self):
        optimizer = self.optimizer(self.parameters())
        return [optimizer], [{"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1), "interval": "step"}]


def rehearsed(module, *others):
    rehearsal = Rehearsal()
    trainer = Trainer(
        accelerator="cpu", max_epochs=2, callbacks=[rehearsal, *others], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(torch.randn(8, 2), batch_size=4))
    return rehearsal


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9),
        lambda weights: torch.optim.AdamW(weights, lr=0.1, weight_decay=0.5),
        lambda weights: torch.optim.AdamW(weights, lr=torch.tensor(0.1)),
    ],
)
def test_no_weight_moves_under_any_optimiser_and_schedule(optimizer):
    module = Line(optimizer)
    before = module.layer.weight.detach().clone()
    rehearsal = rehearsed(module)
    assert torch.equal(module.layer.weight, before)
    assert (rehearsal.num_parameters, rehearsal.num_steps) == (2, 4)


def test_what_moves_a_weight_behind_the_optimisers_back_is_found():
    class Nudge(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            with torch.no_grad():
                pl_module.layer.bias += 1e-6

    with pytest.raises(TrainingError, match=r"changed 1 of 2 parameters .* the first layer\.bias"):
        rehearsed(Line(lambda weights: torch.optim.SGD(weights, lr=0.1)), Nudge())


def test_a_rehearsed_run_goes_through_all_stages_and_says_that_it_was_one(tmp_path):
    config = tiny_run(tmp_path / "outputs", tmp_path / "cache", "runtime.rehearse=true", "trainer.max_epochs=50")
    done = fit(config, quiet=True)
    stages = json.loads((done.run.path / "status.json").read_text())["stages"]
    assert {"fit", "crossover", "test"} <= set(stages)
    assert stages["fit"]["epochs"] == EPOCHS
    assert any(sentence.startswith("this was a rehearsal: ") for sentence in done.report["warnings"])
    first, last = (checkpoint_state(done.run, name) for name in ("best.ckpt", "last.ckpt"))
    names = dict(done.module.named_parameters())
    assert all(torch.equal(first[name], last[name]) for name in names)
    assert stages["fit"]["steps"] <= EPOCHS * BATCHES
