"""The moving average: a hand-written one, early and late, resumed and not, and never in the network's place."""

import copy

import pytest
import torch
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, Dataset

from shared.base_module import BaseModule
from shared.callbacks.ema import EmaWeights, ema_of_checkpoint
from shared.sampler import EpochSampler, ResumableLoader


class Plain(LightningModule):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

    def _loss(self, batch):
        return self.network(batch).square().mean()

    def training_step(self, batch, batch_idx):
        return self._loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self._loss(batch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Half(Plain):
    """Weights in bfloat16, but for those of batch normalisation."""

    def __init__(self):
        super().__init__()
        self.network[0].bfloat16()
        self.network[2].bfloat16()

    def _loss(self, batch):
        first, norm, last = self.network
        return last(norm(first(batch.bfloat16()).float()).bfloat16()).float().square().mean()


class Watch(Callback):
    """Keeps the raw weights behind each step, and whether validation saw them."""

    def __init__(self, crash_at=None):
        self.states, self.validated, self.crash_at = [], [], crash_at

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.states.append(copy.deepcopy(pl_module.state_dict()))
        if trainer.global_step == self.crash_at:
            raise RuntimeError("crash")

    def on_validation_epoch_end(self, trainer, pl_module):
        now = pl_module.state_dict()
        self.validated.append(all(torch.equal(now[name], tensor) for name, tensor in self.states[-1].items()))


class Keyed(Dataset):
    """Rows by `SampleKey`, as a resumable loader asks for them."""

    def __init__(self, rows):
        self.rows = rows

    def __getitem__(self, key):
        return self.rows[key.position]


def data():
    generator = torch.Generator().manual_seed(1)
    return DataLoader(torch.randn(24, 3, generator=generator), batch_size=8)


def resumable():
    return ResumableLoader(Keyed(data().dataset), EpochSampler(24, seed=0), batch_size=8)


class SaveBefore(Callback):
    """Saves behind each step, and stands before the average in the list."""

    def __init__(self, path, crash_at):
        self.path, self.crash_at = path, crash_at

    def on_train_batch_end(self, trainer, *args):
        trainer.save_checkpoint(self.path, weights_only=False)
        if trainer.global_step == self.crash_at:
            raise RuntimeError("crash")


def train(tmp_path, ema, *more, epochs=3, ckpt_path=None, before=(), accumulate=1, kind=Plain):
    seed_everything(3, verbose=False)
    module = kind()
    saves = any(isinstance(callback, ModelCheckpoint) for callback in more)
    trainer = Trainer(
        max_epochs=epochs, accumulate_grad_batches=accumulate, callbacks=[*before, ema, *more], logger=False,
        enable_progress_bar=False, accelerator="cpu", enable_model_summary=False,
        num_sanity_val_steps=0, default_root_dir=tmp_path, enable_checkpointing=saves,
    )  # fmt: skip
    trainer.fit(module, resumable(), data(), ckpt_path=ckpt_path, weights_only=True)
    return module, trainer


def test_the_average_is_the_formula_s(tmp_path):
    watch, ema = Watch(), EmaWeights(decay=0.5)
    train(tmp_path, ema, watch)
    name = "network.0.weight"
    expected = watch.states[0][name].double()
    for count, state in enumerate(watch.states[1:], start=1):
        decay = min(0.5, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * state[name].double()
    assert torch.allclose(ema.averaged_state()[name].double(), expected, atol=1e-6)
    assert ema.num_updates == len(watch.states) == 9
    assert ema.averaged_state()["network.1.num_batches_tracked"] == 9  # the newest count, not an average of counts


def test_the_network_itself_is_validated_saved_and_left_behind(tmp_path):
    watch, ema = Watch(), EmaWeights(decay=0.9)
    saver = ModelCheckpoint(tmp_path, filename="last", save_on_train_epoch_end=True)
    module, _ = train(tmp_path, ema, watch, saver)
    assert watch.validated == [True] * 3
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, watch.states[-1][name])
        assert torch.equal(tensor, saved["state_dict"][name])
    average = ema_of_checkpoint(saved)
    assert not torch.equal(average["network.0.weight"], module.state_dict()["network.0.weight"])
    assert torch.equal(average["network.0.weight"], ema.averaged_state()["network.0.weight"])


def test_an_average_that_was_never_updated_is_none(tmp_path):
    ema = EmaWeights(decay=0.9, update_every_n_steps=100)
    assert ema.averaged_state() is None
    saver = ModelCheckpoint(tmp_path, filename="last", save_on_train_epoch_end=True)
    train(tmp_path, ema, saver)
    assert ema.averaged_state() is None
    assert ema_of_checkpoint(torch.load(tmp_path / "last.ckpt", weights_only=True)) is None
    assert ema_of_checkpoint({"state_dict": {}}) is None


def blend(ema, old, new, steps):
    """Averages towards the same weights again and again, behind so many updates that the warm-up is over."""
    for _ in range(steps):
        ema._blend([old], [new], torch.tensor(10**6))
    return old


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_the_average_of_half_precision_weights_arrives(half):
    ema, start = EmaWeights(decay=0.999), torch.linspace(0.5, 1.0, 100).to(half)
    target = (start.float() + 0.05).to(half)
    way = (blend(ema, start.float(), target, 5000) - start.float()) / (target.float() - start.float())
    assert way.numpy() == pytest.approx(1 - 0.999**5000, abs=1e-3)  # five time constants: 0.993
    frozen = blend(ema, start.clone(), target, 5000)
    assert half != torch.bfloat16 or torch.equal(frozen, start)  # what it was before


def test_half_precision_weights_are_averaged_and_saved_in_float32_and_fit_the_network(tmp_path):
    watch, ema = Watch(), EmaWeights(decay=0.5)
    saver = ModelCheckpoint(tmp_path, filename="last", save_on_train_epoch_end=True)
    module, _ = train(tmp_path, ema, watch, saver, kind=Half)
    state = ema.averaged_state()
    for name in ("network.0.weight", "network.1.running_mean", "network.2.bias"):
        expected = watch.states[0][name].double()
        for count, one in enumerate(watch.states[1:], start=1):
            decay = min(0.5, (1 + count) / (10 + count))
            expected = decay * expected + (1 - decay) * one[name].double()
        assert state[name].dtype == torch.float32
        assert torch.allclose(state[name].double(), expected, atol=1e-6)
    assert state["network.1.num_batches_tracked"].dtype == torch.int64
    assert module.state_dict()["network.0.weight"].dtype == torch.bfloat16
    saved = ema_of_checkpoint(torch.load(tmp_path / "last.ckpt", weights_only=True))
    assert all(saved[name].dtype == tensor.dtype and torch.equal(saved[name], tensor) for name, tensor in state.items())
    BaseModule.load_weights(module, saved)
    assert torch.equal(module.state_dict()["network.0.weight"], saved["network.0.weight"].bfloat16())


def test_an_older_checkpoint_with_an_average_in_bfloat16_goes_on(tmp_path):
    saver = ModelCheckpoint(tmp_path, filename="last", save_on_train_epoch_end=True)
    train(tmp_path, EmaWeights(decay=0.9), saver, epochs=1, kind=Half)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    saved["ema"]["state"] = {
        name: tensor.to(saved["state_dict"][name].dtype) for name, tensor in saved["ema"]["state"].items()
    }
    torch.save(saved, tmp_path / "older.ckpt")
    ema = EmaWeights(decay=0.9)
    train(tmp_path, ema, ckpt_path=tmp_path / "older.ckpt", kind=Half)
    assert ema.num_updates == 9
    assert ema.averaged_state()["network.0.weight"].dtype == torch.float32


@pytest.mark.parametrize(("crash_at", "kind"), [(4, Plain), (5, Plain), (8, Plain), (5, Half)])
def test_resumed_equals_uninterrupted_for_both_copies(crash_at, kind, tmp_path):
    whole = EmaWeights()
    module, _ = train(tmp_path, whole, kind=kind)
    saver = ModelCheckpoint(tmp_path, filename="last", every_n_train_steps=1, enable_version_counter=False)
    with pytest.raises(RuntimeError, match="crash"):
        train(tmp_path, EmaWeights(), Watch(crash_at), saver, kind=kind)
    resumed = EmaWeights()
    again, _ = train(tmp_path, resumed, ckpt_path=tmp_path / "last.ckpt", kind=kind)
    assert resumed.num_updates == whole.num_updates == 9
    for first, second in (
        (module.state_dict(), again.state_dict()),
        (whole.averaged_state(), resumed.averaged_state()),
    ):
        assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("accumulate", "updates"), [(1, 9), (2, 6)])
def test_a_checkpoint_saved_before_the_update_of_its_step_has_it_all_the_same(accumulate, updates, tmp_path):
    whole, resumed = EmaWeights(), EmaWeights()
    train(tmp_path, whole, accumulate=accumulate)
    path = tmp_path / "early.ckpt"
    with pytest.raises(RuntimeError, match="crash"):
        train(tmp_path, EmaWeights(), before=[SaveBefore(path, crash_at=5 // accumulate)], accumulate=accumulate)
    train(tmp_path, resumed, ckpt_path=path, accumulate=accumulate)
    assert resumed.num_updates == whole.num_updates == updates
    expected = whole.averaged_state()
    assert all(torch.equal(expected[name], tensor) for name, tensor in resumed.averaged_state().items())


def test_the_decay_follows_the_number_of_steps(tmp_path):
    short = EmaWeights()
    train(tmp_path, short, epochs=10)  # 30 steps: a window of 3
    assert short._decay == pytest.approx(1 - 1 / 3)
    constant = EmaWeights(decay=0.25)
    train(tmp_path, constant)
    assert constant._decay == 0.25


def test_a_checkpoint_without_an_average_starts_one_anew_and_says_so(tmp_path):
    saver = ModelCheckpoint(tmp_path, filename="last", save_on_train_epoch_end=True)
    seed_everything(3, verbose=False)
    trainer = Trainer(
        max_epochs=1, callbacks=[saver], logger=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu",
    )  # fmt: skip
    trainer.fit(Plain(), data())
    ema = EmaWeights(decay=0.9)
    with pytest.warns(UserWarning, match="holds no moving average; it starts anew"):
        train(tmp_path, ema, ckpt_path=tmp_path / "last.ckpt")
    assert ema.num_updates == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"decay": 1.0}, "decay is 1.0"), ({"decay": -0.1}, "decay is"), ({"update_every_n_steps": 0}, "steps is 0")],
)
def test_values_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        EmaWeights(**arguments)
