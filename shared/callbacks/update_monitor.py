"""Tells whether the weights of each module move, and names those that do not."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

SAMPLE = 8192
"""Numbers that are kept of a tensor. All of 730 million would be a second copy of the weights; so many of each tensor
estimate the ratio of two norms to about one per cent."""


class UpdateMonitor(Callback):
    """Every so many batches the change of each module's weights since the last time, ||dw|| / ||w||.

    Logged as `update_ratio/<module>`. A module without a trainable weight is named as frozen; one whose gradient was
    missing or zero in every batch since the last time as untrained, even where weight decay moved it; one whose weights
    did not change although it had a gradient as standing still. Modules are those of the LightningModule's
    `monitored_modules()`, name -> module, or its direct children.

    A tensor of more than `SAMPLE` numbers is sampled at even distances; the samples lie in main memory, in the weights'
    own precision, and in checkpoints: a resumed fit says what the uninterrupted one does. A stretch without a step of a
    learning rate above 0, as in a rehearsal, is not judged.

    Args:
        every_n_batches: Batches between two looks, 1 or more.

    Attributes:
        ratios: Module -> the last ratio.

    Raises:
        ValueError: If that is below 1.
    """

    def __init__(self, every_n_batches: int = 100) -> None:
        if every_n_batches < 1:
            raise ValueError(f"every_n_batches is {every_n_batches}, allowed: 1 or more")
        self.every_n_batches = every_n_batches
        self.ratios: dict[str, float] = {}
        self._sentences: dict[tuple[str, str], str] = {}
        self._modules: dict[str, nn.Module] = {}
        self._before: dict[str, list[Tensor]] = {}
        self._silent: set[str] = set()
        self._batches = 0
        self._stepped = False
        self._looked = False
        self._restored = False
        self._hooks: dict[Optimizer, RemovableHandle] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the first samples, or go on with those of the checkpoint."""
        self._modules = monitored_modules(pl_module)
        resumed, self._restored = self._restored, False
        if not resumed or not self._fits():
            self._looked = False
            self._begin()
        elif self._batches >= self.every_n_batches:  # saved before this callback's turn at the end of a batch
            self._look(trainer)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Strike out the modules that have a gradient; after a batch or two hardly any are left to be asked."""
        self._silent = {name for name in self._silent if not _has_gradient(self._modules[name])}
        if optimizer not in self._hooks:
            # Another callback may still change the rate before the step, and the schedule does behind it.
            self._hooks[optimizer] = optimizer.register_step_post_hook(self._note_step)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Count; at the start, so that a checkpoint written by any callback at the batch's end has it counted."""
        self._batches += 1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look every so many batches."""
        if self._batches >= self.every_n_batches:
            self._look(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A fit that was too short for a look gets one."""
        if not self._looked and self._batches:
            self._look(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let go of the samples."""
        if self._restored:  # on_train_start and on_train_end are left out when a resumed fit has nothing left to train
            self._modules, self._restored = monitored_modules(pl_module), False
            if self._fits():
                self.on_train_end(trainer, pl_module)
        self._before.clear()
        for hook in self._hooks.values():
            hook.remove()
        self._hooks.clear()

    def findings(self) -> list[str]:
        """What was warned of so far, each module once for each reason, for the report."""
        return list(self._sentences.values())

    def state_dict(self) -> dict[str, Any]:
        """What was warned of, and the stretch that is not over."""
        return {
            "sentences": [[*key, sentence] for key, sentence in self._sentences.items()], "before": dict(self._before),
            "silent": sorted(self._silent), "batches": self._batches, "stepped": self._stepped, "looked": self._looked,
        }  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do not warn of the same twice, and go on within the stretch, where the checkpoint tells of it."""
        self._sentences = {(name, reason): sentence for name, reason, sentence in state_dict["sentences"]}
        if "before" in state_dict:
            self._before, self._silent = dict(state_dict["before"]), set(state_dict["silent"])
            self._batches, self._stepped = int(state_dict["batches"]), bool(state_dict["stepped"])
            self._looked = bool(state_dict["looked"])
            self._restored = True

    def _fits(self) -> bool:
        """Whether the samples of a checkpoint are of these modules."""
        return list(self._before) == list(self._modules) and all(
            [len(sample) for sample in self._before[name]] == [len(_sample(p.detach())) for p in module.parameters()]
            for name, module in self._modules.items()
        )

    def _note_step(self, optimizer: Optimizer, *arguments: Any) -> None:
        self._stepped = self._stepped or any(float(group["lr"]) != 0 for group in optimizer.param_groups)

    def _begin(self) -> None:
        self._before = {name: samples(module) for name, module in self._modules.items()}
        self._silent = set(self._modules)
        self._batches = 0
        self._stepped = False

    def _look(self, trainer: Trainer) -> None:
        self._looked = True
        before, silent, batches, stepped = self._before, self._silent, self._batches, self._stepped
        self._begin()
        for name, module in self._modules.items():
            self.ratios[name] = update_ratio(module, before[name], self._before[name])
            reason = _reason(module, name in silent, self.ratios[name]) if stepped else None
            if reason is not None and (name, reason) not in self._sentences:
                self._sentences[name, reason] = f"module {name} {reason} (over {batches} batches)"
                rank_zero_warn(self._sentences[name, reason])
        values = {f"update_ratio/{name}": ratio for name, ratio in self.ratios.items()}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)


def monitored_modules(module: LightningModule) -> dict[str, nn.Module]:
    """Modules that are watched: what `monitored_modules()` says, or the direct children; those without weights not."""
    own: Any = getattr(module, "monitored_modules", None)
    found = dict(module.named_children()) if own is None else dict(own())
    return {name: child for name, child in found.items() if any(True for _ in child.parameters())}


def samples(module: nn.Module) -> list[Tensor]:
    """Up to `SAMPLE` numbers of each parameter, at even distances, copied into main memory."""
    return [_sample(weight.detach()) for weight in module.parameters()]


def update_ratio(module: nn.Module, before: list[Tensor], after: list[Tensor]) -> float:
    """||dw|| / ||w|| of a module from samples of its parameters; 0 where all weights are and stay 0."""
    change = size = 0.0
    for weight, old, new in zip(module.parameters(), before, after, strict=True):
        share = weight.numel() / max(1, old.numel())
        change += share * float((new.double() - old.double()).square().sum())
        size += share * float(old.double().square().sum())
    return (change / size) ** 0.5 if size > 0 else float(change > 0)


def _sample(weight: Tensor) -> Tensor:
    flat = weight.reshape(-1)
    return flat[:: -(-flat.numel() // SAMPLE) or 1].to("cpu", copy=True)


def _has_gradient(module: nn.Module) -> bool:
    gradients = [weight.grad for weight in module.parameters() if weight.grad is not None]
    return bool(gradients) and bool(torch.stack([g.any() for g in gradients]).any())


def _reason(module: nn.Module, silent: bool, ratio: float) -> str | None:
    if not any(weight.requires_grad for weight in module.parameters()):
        return "is frozen: none of its weights is trained"
    if silent:
        return "is not trained: its gradient was missing or zero in every batch"
    return "stands still: it has a gradient, but no weight changed" if ratio == 0 else None
