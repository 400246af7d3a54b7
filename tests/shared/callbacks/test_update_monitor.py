import time
import warnings
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from shared.callbacks import update_monitor
from shared.callbacks.gradient_norms import GradientNorms, gradient_norms
from shared.callbacks.rehearsal import Rehearsal
from shared.callbacks.update_monitor import UpdateMonitor, monitored_modules, samples, update_ratio
from shared.sampler import EpochSampler, ResumableLoader
from tests.fabricate.kept_logs import KeptLogs


class Planted(L.LightningModule):
    """A live part, one that is frozen, one that is detached, one times zero, one that the optimiser does not have."""

    def __init__(self, decay: float = 0.1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.decay = decay
        self.live, self.frozen, self.detached, self.zeroed, self.left_out = (nn.Linear(3, 3) for _ in range(5))
        self.frozen.requires_grad_(False)
        self.empty = nn.ReLU()

    def training_step(self, batch, batch_idx):
        (x,) = batch
        parts = self.live(self.frozen(x)) + self.detached(x).detach() + 0.0 * self.zeroed(x) + self.left_out(x)
        return (parts - 1).square().mean()

    def configure_optimizers(self):
        trained = [p for name, p in self.named_parameters() if p.requires_grad and not name.startswith("left_out")]
        return torch.optim.AdamW(trained, lr=0.01, weight_decay=self.decay)


class Keyed(Dataset):
    """Rows by `SampleKey`, as a resumable loader asks for them."""

    def __init__(self, rows):
        self.rows = rows

    def __getitem__(self, key):
        return (self.rows[key.position],)


def fit(module, *callbacks: L.Callback, batches: int = 6, logs: KeptLogs | None = None, ckpt_path=None, **settings):
    rows = torch.randn(4 * batches, 3, generator=torch.Generator().manual_seed(1))
    loader = ResumableLoader(Keyed(rows), EpochSampler(len(rows), seed=0), batch_size=4)
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=logs or False, callbacks=list(callbacks), enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, log_every_n_steps=4, **settings,
    )  # fmt: skip
    with warnings.catch_warnings():
        for message in (".*many workers", ".*LeafSpec", ".*logging interval", "module .* (is|stands)", ".*mid-epoch"):
            warnings.filterwarnings("ignore", message)
        trainer.fit(module, loader, ckpt_path=ckpt_path, weights_only=True)
    return trainer


def test_modules_that_do_not_learn_are_named_with_the_reason() -> None:
    monitor, logs, module = UpdateMonitor(every_n_batches=3), KeptLogs(), Planted()
    before = module.live.weight.detach().clone()
    fit(module, monitor, batches=3, logs=logs)
    assert monitor.findings() == [
        "module frozen is frozen: none of its weights is trained (over 3 batches)",
        "module detached is not trained: its gradient was missing or zero in every batch (over 3 batches)",
        "module zeroed is not trained: its gradient was missing or zero in every batch (over 3 batches)",
        "module left_out stands still: it has a gradient, but no weight changed (over 3 batches)",
    ]
    assert monitor.ratios["zeroed"] > 0  # weight decay moved it: the ratio alone would not have told
    assert monitor.ratios["frozen"] == 0
    assert set(logs.last("update_ratio/")) == {f"update_ratio/{name}" for name in monitor.ratios}
    assert "empty" not in monitor.ratios
    change = module.live.weight.detach() - before
    assert monitor.ratios["live"] == pytest.approx(float(change.norm() / before.norm()), rel=0.5)


def test_ratio_by_hand() -> None:
    layer = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 4.0]]))
        before = samples(layer)
        layer.weight.copy_(torch.tensor([[3.0, 4.5]]))
    assert update_ratio(layer, before, samples(layer)) == pytest.approx(0.1)
    assert before[0].tolist() == [3.0, 4.0]  # a copy


def test_a_sample_of_a_large_tensor_estimates_the_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Sequential(nn.Linear(1000, 300), nn.Linear(10, 10))
    whole = torch.cat([p.detach().flatten() for p in layer.parameters()]).clone()
    before = samples(layer)
    assert max(len(sample) for sample in before) <= update_monitor.SAMPLE
    with torch.no_grad():
        for weight in layer.parameters():
            weight.add_(1e-3 * torch.randn_like(weight))
    moved = torch.cat([p.detach().flatten() for p in layer.parameters()]) - whole
    exact = float(moved.norm() / whole.norm())
    assert update_ratio(layer, before, samples(layer)) == pytest.approx(exact, rel=0.03)


def test_looks_every_so_many_batches_and_once_where_the_fit_is_shorter() -> None:
    logs = KeptLogs()
    fit(Planted(), UpdateMonitor(every_n_batches=2), batches=7, logs=logs)
    assert [step for step, _ in logs.rows] == [2, 4, 6]
    short = KeptLogs()
    fit(Planted(), UpdateMonitor(every_n_batches=100), batches=2, logs=short)
    assert [step for step, _ in short.rows] == [2]


def test_warned_of_once_also_after_a_resume() -> None:
    monitor = UpdateMonitor(every_n_batches=2)
    fit(Planted(), monitor, batches=6)
    assert len(monitor.findings()) == 4
    again = UpdateMonitor(every_n_batches=2)
    again.load_state_dict(monitor.state_dict())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        again.on_train_start(None, Planted())
    assert again.findings() == monitor.findings()
    assert not [w for w in caught if "module" in str(w.message)]


class Rare(Planted):
    """A part that has a gradient in the first batch alone."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss + self.live(self.detached(batch[0])).square().mean() if batch_idx == 0 else loss


class Crash(L.Callback):
    """Saves a checkpoint behind a batch and raises; before or behind the monitor's turn."""

    def __init__(self, path: Path, after: int) -> None:
        self.path, self.after = path, after

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if batch_idx + 1 == self.after:
            trainer.save_checkpoint(self.path)
            raise RuntimeError("killed")


@pytest.mark.parametrize("every", [5, 100])
@pytest.mark.parametrize("after", [5, 7, 12])
@pytest.mark.parametrize("saved_first", [True, False])
def test_a_resumed_fit_says_what_the_whole_one_does(tmp_path: Path, every: int, after: int, saved_first: bool) -> None:
    whole, logs = UpdateMonitor(every), KeptLogs()
    fit(Rare(), whole, batches=12, logs=logs)
    killed, crash, first = UpdateMonitor(every), Crash(tmp_path / "one.ckpt", after), KeptLogs()
    with pytest.raises(RuntimeError, match="killed"):
        fit(Rare(), *((crash, killed) if saved_first else (killed, crash)), batches=12, logs=first)
    resumed, second = UpdateMonitor(every), KeptLogs()
    fit(Rare(), resumed, batches=12, logs=second, ckpt_path=tmp_path / "one.ckpt")
    assert resumed.findings() == whole.findings()
    assert any("detached" in sentence for sentence in whole.findings()) == (every == 5)  # from batch 6 on
    assert resumed.ratios == whole.ratios or (after, every) == (12, 5)  # the last look was before the kill
    looks = {step: row for kept in (first, second) for step, row in kept.rows if "update_ratio/live" in row}
    assert looks == {step: row for step, row in logs.rows if "update_ratio/live" in row}


def test_samples_of_other_modules_are_not_gone_on_with(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        fit(Planted(), UpdateMonitor(4), Crash(tmp_path / "one.ckpt", 3), batches=7)
    module, monitor = Planted(), UpdateMonitor(4)
    module.monitored_modules = lambda: {"live": module.live}
    fit(module, monitor, batches=7, ckpt_path=tmp_path / "one.ckpt")
    assert list(monitor.ratios) == ["live"]


@pytest.mark.parametrize("rehearsal_first", [True, False])
def test_nothing_is_said_of_a_rehearsal(rehearsal_first: bool) -> None:
    monitor, rehearsal = UpdateMonitor(every_n_batches=2), Rehearsal()
    fit(Planted(), *((rehearsal, monitor) if rehearsal_first else (monitor, rehearsal)), batches=5)
    assert set(monitor.ratios.values()) == {0.0}
    assert monitor.findings() == []
    assert rehearsal.num_steps == 5


def test_a_stretch_is_judged_where_one_step_of_it_had_a_rate() -> None:
    class LastStep(Planted):
        def optimizer_step(self, epoch, batch_idx, optimizer, closure=None):
            for group in optimizer.param_groups:
                group["lr"] = 0.01 if batch_idx == 4 else 0.0
            super().optimizer_step(epoch, batch_idx, optimizer, closure)

    monitor = UpdateMonitor(every_n_batches=2)
    fit(LastStep(), monitor, batches=5)
    assert monitor.findings() == []  # batches 1 to 4
    monitor = UpdateMonitor(every_n_batches=5)
    fit(LastStep(), monitor, batches=5)
    assert len(monitor.findings()) == 4


def test_a_module_may_name_what_is_watched() -> None:
    module = Planted()
    module.monitored_modules = lambda: {"one": module.live, "none": nn.ReLU()}
    assert list(monitored_modules(module)) == ["one"]


def test_norms_by_hand_and_the_total_counts_what_stands_outside_of_modules() -> None:
    weights = [nn.Parameter(torch.zeros(2)) for _ in range(4)]
    for weight, gradient in zip(weights[:3], ([3.0, 0.0], [0.0, 4.0], [0.0, 12.0]), strict=True):
        weight.grad = torch.tensor(gradient)
    owners = list(zip(weights, (0, 0, None, 1), strict=True))
    assert gradient_norms(owners, 2).tolist() == [5.0, 0.0, 13.0]
    assert gradient_norms(owners[3:], 2) is None


def test_norms_of_every_step_are_logged_before_clipping_and_their_mean_is_a_metric() -> None:
    logs, seen = KeptLogs(), []

    class Reference(L.Callback):
        def on_after_backward(self, trainer, module) -> None:
            grads = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
            live = [p.grad.flatten() for p in module.live.parameters()]
            seen.append((float(torch.cat(grads).norm()), float(torch.cat(live).norm())))

    trainer = fit(Planted(), GradientNorms(), Reference(), batches=6, logs=logs, gradient_clip_val=1e-3)
    rows = [(step, row) for step, row in logs.rows if "gradient_norm/total" in row]
    assert [step for step, _ in rows] == [0, 1, 2, 3, 4, 5]
    assert [row["gradient_norm/total"] for _, row in rows] == pytest.approx([total for total, _ in seen], rel=1e-5)
    assert [row["gradient_norm/live"] for _, row in rows] == pytest.approx([live for _, live in seen], rel=1e-5)
    assert {row["gradient_norm/frozen"] for _, row in rows} == {0.0}
    mean = sum(total for total, _ in seen) / 6
    assert float(trainer.callback_metrics["train/gradient_norm"]) == pytest.approx(mean, rel=1e-5)


def test_the_mean_goes_on_after_a_resume() -> None:
    norms = GradientNorms()
    norms._sum, norms._steps = 6.0, 2
    norms._waiting = [(2, torch.tensor([1.0, 3.0]))]
    again = GradientNorms()
    again.load_state_dict(norms.state_dict())
    assert again.state_dict() == {"sum": 9.0, "steps": 3}


@pytest.mark.parametrize("value", [0, -3])
def test_a_wrong_interval_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match=f"every_n_batches is {value}, allowed: 1 or more"):
        UpdateMonitor(value)


@pytest.mark.slow
def test_the_monitor_costs_less_than_two_per_cent_of_a_step() -> None:
    layers = nn.Sequential(*(nn.Linear(256, 256) for _ in range(16)))
    module = L.LightningModule()
    module.layers = layers
    monitor = UpdateMonitor(every_n_batches=100)
    trainer = type("Quiet", (), {"loggers": [], "global_step": 0})()
    monitor.on_train_start(trainer, module)
    optimizer = torch.optim.AdamW(layers.parameters(), lr=1e-3)
    work = watch = 0.0
    for _ in range(200):
        began = time.process_time()
        layers(torch.randn(64, 256)).square().mean().backward()
        half = time.process_time()
        monitor.on_before_optimizer_step(trainer, module, optimizer)
        watched = time.process_time()
        optimizer.step()
        stepped = time.process_time()
        monitor.on_train_batch_end(trainer, module, None, None, 0)
        watch += watched - half + time.process_time() - stepped
        work += half - began + stepped - watched
    assert watch < 0.02 * work
