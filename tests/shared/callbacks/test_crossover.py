import json
import warnings
from pathlib import Path

import pytest
import torch
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from shared.callbacks.crossover import ParameterCrossover
from shared.callbacks.sweet_spot import SweetSpotCheckpoint
from shared.callbacks.temperature_scaling import TemperatureScaling
from shared.checkpoint_io import load_checkpoint
from shared.crossover import load_state
from shared.errors import ConfigError, LeakError


class Plain(LightningModule):
    """Somebody else's module: no base class of ours, tuples as batches, predict_step returns bare logits."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.head = nn.Linear(8, 2)
        self.transferred = []

    def forward(self, x):
        return self.head(self.body(x))

    def on_after_batch_transfer(self, batch, dataloader_idx):
        self.transferred.append(self.trainer.training)
        return batch

    def training_step(self, batch, batch_idx):
        x, y = batch
        return nn.functional.cross_entropy(self(x), y)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.log("val/loss", nn.functional.cross_entropy(logits, y))
        self.log_dict({"val/accuracy": (logits.argmax(1) == y).float().mean()})
        return {"logits": logits, "target": y}

    def predict_step(self, batch, batch_idx):
        return self(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.3)


def loader(number, seed, shuffle=False):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(number, 4, generator=generator)
    y = (x[:, 0] + 0.7 * torch.randn(number, generator=generator) > 0).long()
    return DataLoader(TensorDataset(x, y), batch_size=16, shuffle=shuffle)


class Data(LightningDataModule):
    def train_dataloader(self):
        return loader(64, 0, shuffle=True)

    def val_dataloader(self):
        return loader(48, 1)

    def accept_dataloader(self):
        return loader(60, 2)


def make_trainer(folder, callbacks, epochs=8, **settings):
    return Trainer(
        default_root_dir=folder, max_epochs=epochs, accelerator="cpu", callbacks=callbacks, logger=False,
        enable_progress_bar=False, enable_model_summary=False, **settings,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_three_lines_in_somebody_elses_trainer(tmp_path):
    torch.manual_seed(3)
    module, crossover = Plain(), ParameterCrossover(lawa_k=2)
    checkpoint = ModelCheckpoint(tmp_path / "ckpt", monitor="val/loss")
    make_trainer(tmp_path, [SweetSpotCheckpoint(), crossover, checkpoint]).fit(module, datamodule=Data())
    found = json.loads((tmp_path / "crossover.json").read_text())
    assert found["form"] == "held-out accept part"
    assert found["n_groups"] == 60
    assert found["decision"] in ("accepted", "declined", "undecidable")
    best = load_checkpoint(Path(checkpoint.best_model_path))
    final = load_state(tmp_path / "crossover_final.safetensors", module.state_dict())
    accepted = found["decision"] == "accepted"
    expected = load_state(crossover.result.rows["crossover"]) if accepted else best["state_dict"]
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, final[name])
        assert torch.equal(tensor, expected[name])
    # What the run says of the best single checkpoint is what Lightning itself logged for it, weighted by samples.
    assert found["best_single_loss"] == pytest.approx(float(checkpoint.best_model_score), rel=1e-5)
    assert found["cost"]["search"]["unit_calls_reused"]["body"] > 0
    assert set(crossover.result.rows) == {"crossover", "uniform_soup", "greedy_soup", "lawa"}
    assert not module.transferred[-1], "hooks after the fit must not think that this is training"
    assert "log" not in vars(module)


@pytest.mark.filterwarnings("ignore")
def test_without_a_monitor_the_best_snapshot_is_the_best_single(tmp_path):
    module, crossover = Plain(), ParameterCrossover(dirpath=str(tmp_path / "here"), accept=loader(60, 2))
    sweet_spot = SweetSpotCheckpoint()
    trainer = make_trainer(tmp_path, [sweet_spot, crossover], enable_checkpointing=False)
    trainer.fit(module, loader(64, 0), loader(48, 1))
    losses = {epoch: sweet_spot.store.metrics(epoch)["val/loss"] for epoch in sweet_spot.store.epochs()}
    found = json.loads((tmp_path / "here" / "crossover.json").read_text())
    assert found["best_single_loss"] == pytest.approx(min(losses.values()), rel=1e-5)
    assert found["n_groups"] == 60


@pytest.mark.filterwarnings("ignore")
def test_without_an_accept_part_the_test_is_cross_fitted(tmp_path):
    module, crossover = Plain(), ParameterCrossover(at_fit_end=True)
    trainer = make_trainer(
        tmp_path, [SweetSpotCheckpoint(), crossover], enable_checkpointing=False, limit_val_batches=2
    )
    trainer.fit(module, loader(64, 0), loader(48, 1))
    assert crossover.result.details["form"] == "cross-fitted"
    assert crossover.result.details["n_groups"] == 32


# -- what the accept samples may not be ------------------------------------------------------------------------------


def refused(folder, accept, train=None, val=None, behind=()):
    """The sentence; nothing may have been written by then."""
    callbacks = [SweetSpotCheckpoint(), ParameterCrossover(accept=accept), *behind]
    trainer = make_trainer(folder, callbacks, epochs=6, enable_checkpointing=False)
    with pytest.raises(LeakError) as raised:
        trainer.fit(Plain(), train or loader(32, 0), val or loader(32, 1))
    assert not (folder / "crossover.json").exists()
    assert not (folder / "crossover_final.safetensors").exists()
    return str(raised.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["train", "val"])
def test_accept_samples_that_train_or_choose_are_refused(tmp_path, name):
    same = loader(48, 2)
    assert refused(tmp_path, same, **{name: same}).startswith(f"the accept loader is the {name} loader itself; give it")
    other = DataLoader(same.dataset, batch_size=8)
    assert f"shares its dataset with the {name} loader" in refused(tmp_path, other, **{name: same})
    first, second = (DataLoader(Subset(same.dataset, rows), batch_size=16) for rows in (range(32), range(30, 48)))
    assert f"shares 2 samples of one dataset with the {name} loader" in refused(tmp_path, second, **{name: first})


@pytest.mark.filterwarnings("ignore")
def test_accept_samples_that_calibrate_are_refused(tmp_path):
    kept = loader(48, 2)
    message = refused(tmp_path, kept, behind=[TemperatureScaling(calibrate=kept)])
    assert message.startswith("the accept loader is the calibrate loader itself")


@pytest.mark.filterwarnings("ignore")
def test_the_datamodules_accept_samples_are_compared_too(tmp_path):
    class Leaking(Data):
        def __init__(self):
            super().__init__()
            self.same = loader(48, 1)

        def val_dataloader(self):
            return self.same

        def accept_dataloader(self):
            return DataLoader(self.same.dataset, batch_size=4)

    trainer = make_trainer(tmp_path, [SweetSpotCheckpoint(), ParameterCrossover()], epochs=6)
    with pytest.raises(LeakError, match="the accept loader shares its dataset with the val loader"):
        trainer.fit(Plain(), datamodule=Leaking())


class WithTest(Plain):
    def test_step(self, batch, batch_idx):
        return self.validation_step(batch, batch_idx)


@pytest.mark.filterwarnings("ignore")
def test_a_test_on_the_accept_samples_is_refused(tmp_path):
    module, kept = WithTest(), loader(60, 2)
    callbacks = [SweetSpotCheckpoint(), ParameterCrossover(accept=kept)]
    trainer = make_trainer(tmp_path, callbacks, epochs=6, enable_checkpointing=False)
    trainer.fit(module, loader(32, 0), loader(32, 1))
    trainer.test(module, loader(32, 3), verbose=False)
    with pytest.raises(LeakError, match="the accept loader is the test loader itself"):
        trainer.test(module, kept, verbose=False)


# -- best single -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("monitor", "told"), [(None, True), ("val/loss", False)])
def test_it_warns_where_only_snapshots_compete(tmp_path, monitor, told):
    callbacks = [SweetSpotCheckpoint(), ParameterCrossover(), ModelCheckpoint(tmp_path / "ckpt", monitor=monitor)]
    trainer = make_trainer(tmp_path, callbacks, epochs=1, fast_dev_run=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        callbacks[1].setup(trainer, Plain(), "fit")
    said = [str(warning.message) for warning in caught]
    assert any('add ModelCheckpoint(monitor="val/loss") for every epoch' in sentence for sentence in said) is told


@pytest.mark.filterwarnings("ignore")
def test_left_to_the_engine_it_does_nothing(tmp_path):
    crossover = ParameterCrossover(at_fit_end=False)
    make_trainer(tmp_path, [crossover], epochs=1).fit(Plain(), loader(32, 0), loader(32, 1))
    assert crossover.result is None
    assert not (tmp_path / "crossover.json").exists()


@pytest.mark.filterwarnings("ignore")
def test_what_is_missing_is_said_before_the_fit(tmp_path):
    trainer = make_trainer(tmp_path, [ParameterCrossover(), SweetSpotCheckpoint()])
    with pytest.raises(ConfigError, match="needs a SweetSpotCheckpoint before it among the trainer's callbacks"):
        trainer.fit(Plain(), loader(32, 0), loader(32, 1))


@pytest.mark.filterwarnings("ignore")
def test_two_validation_loaders_are_too_many(tmp_path):
    class Two(Plain):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            return super().validation_step(batch, batch_idx)

    callbacks = [SweetSpotCheckpoint(monitor="val/loss/dataloader_idx_0"), ParameterCrossover()]
    trainer = make_trainer(tmp_path, callbacks, epochs=6, enable_checkpointing=False)
    with pytest.raises(ConfigError, match="exactly one validation loader, and the trainer has 2"):
        trainer.fit(Two(), loader(32, 0), [loader(32, 1), loader(32, 2)])


@pytest.mark.filterwarnings("ignore")
def test_a_run_without_any_best_is_an_error(tmp_path):
    class Broken(Plain):
        def validation_step(self, batch, batch_idx):
            self.log("val/loss", float("nan"))

    callbacks = [SweetSpotCheckpoint(), ParameterCrossover()]
    trainer = make_trainer(tmp_path, callbacks, epochs=6, enable_checkpointing=False)
    with pytest.raises(ConfigError, match="none of the 6 snapshots has a value of val/loss"):
        trainer.fit(Broken(), loader(32, 0), loader(32, 1))


def test_settings_are_checked():
    with pytest.raises(ValueError, match="lawa_k is 0"):
        ParameterCrossover(lawa_k=0)
