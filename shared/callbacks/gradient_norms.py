"""Logs the norm of the gradient at every optimiser step, of the whole network and of each module."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from shared.callbacks.update_monitor import monitored_modules
from shared.metric_keys import metric_key

TOTAL = "gradient_norm/total"


class GradientNorms(Callback):
    """Norms before clipping, as `gradient_norm/total` and `gradient_norm/<module>`, each step.

    The norms stay on the device until the trainer's logging interval, so that a GPU is waited for once in as many
    steps. The epoch's mean total is the metric `train/gradient_norm`. Modules are those of `UpdateMonitor`; the
    total counts every parameter with a gradient.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._owners: list[tuple[Tensor, int | None]] = []
        self._waiting: list[tuple[int, Tensor]] = []
        self._sum, self._steps = 0.0, 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """List the parameters with their modules."""
        modules = monitored_modules(pl_module)
        self._names = [f"gradient_norm/{name}" for name in modules]
        owner = {id(weight): number for number, child in enumerate(modules.values()) for weight in child.parameters()}
        self._owners = [(weight, owner.get(id(weight))) for weight in pl_module.parameters()]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a new mean."""
        self._sum, self._steps = 0.0, 0

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Take the norms; the gradient is unscaled here, and not yet clipped."""
        norms = gradient_norms(self._owners, len(self._names))
        if norms is not None:
            self._waiting.append((trainer.global_step, norms))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write what has gathered, and behind the last batch the epoch's mean."""
        last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if last or len(self._waiting) >= trainer.log_every_n_steps:  # type: ignore[attr-defined]
            self._write(trainer)
        if last and self._steps:
            pl_module.log(
                metric_key("train", "gradient_norm"),
                self._sum / self._steps,
                on_step=False,
                on_epoch=True,
                batch_size=1,
                sync_dist=True,  # the ranks have the same gradients, and so the same norms
            )

    def state_dict(self) -> dict[str, Any]:
        """The mean so far, with the norms that are not written yet."""
        waiting = [float(norms[-1]) for _, norms in self._waiting]
        return {"sum": self._sum + sum(waiting), "steps": self._steps + len(waiting)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the mean."""
        self._sum, self._steps = float(state_dict["sum"]), int(state_dict["steps"])

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """What was measured before a fit broke is what one wants to see."""
        self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        if not self._waiting:
            return
        table = torch.stack([norms for _, norms in self._waiting]).tolist()
        for (step, _), row in zip(self._waiting, table, strict=True):
            values = dict(zip([*self._names, TOTAL], row, strict=True))
            for logger in trainer.loggers:
                logger.log_metrics(values, step=step)
            self._sum += row[-1]
            self._steps += 1
        self._waiting.clear()


def gradient_norms(owners: list[tuple[Tensor, int | None]], num_modules: int) -> Tensor | None:
    """Norms of gradients by module.

    Args:
        owners: Each parameter with the number of its module, None: no module's.
        num_modules: M.

    Returns:
        (M + 1,) float32 on the device: norm of each module's gradient, 0 where it has none, and that of all parameters;
        None where no parameter has a gradient.
    """
    found = [(weight.grad, owner) for weight, owner in owners if weight.grad is not None]
    if not found:
        return None
    gradients = [gradient for gradient, _ in found]
    squares = torch.stack(torch._foreach_norm(gradients, 2, dtype=torch.float32)).square()
    rows = torch.tensor([num_modules if owner is None else owner for _, owner in found], device=squares.device)
    by_module = squares.new_zeros(num_modules + 1).index_add_(0, rows, squares)
    return torch.cat([by_module[:num_modules], squares.sum()[None]]).sqrt()
