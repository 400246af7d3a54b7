"""The module of the redheart project: one network for four tasks, trained in pieces of a batch."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from projects.redheart.layer_decay import layer_scales
from projects.redheart.losses import MultiTaskLoss, sample_losses, twice, valid_targets
from projects.redheart.memory_estimate import GB, state_bytes, step_room
from projects.redheart.metrics import Pair, StoryMetrics
from projects.redheart.models.analyzers import GROUPS
from projects.redheart.models.context import Analyzer
from projects.redheart.models.fusion import HEAD
from projects.redheart.models.network import NetworkOutputs, StoryNetwork
from projects.redheart.models.text_encoder import TextEncoder, initial_text_encoder
from projects.redheart.tasks import EMOTION, SCORES, TASKS
from shared.base_module import BaseModule
from shared.distributed.collectives import num_ranks, scalars_over_ranks, sum_gradients
from shared.distributed.sharding import is_cut, whole_weights
from shared.errors import CheckpointError, ConfigError, TrainingError
from shared.loading import load_run
from shared.low_memory_optim import KEEP_SMALL_UPDATES, bytes_of_states, offload_states, prepare_offload
from shared.metric_keys import metric_key
from shared.micro_batches import MicroBatches, Remedy, has_room, is_out_of_memory, refuse_batch_statistics
from shared.optim import build_optimizer, build_scheduler, check_parameter_groups

MICRO_BATCHES = "micro_batches"
OFFLOAD = "optimizer offload"
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class RedHeartModule(BaseModule):
    """Stories to an emotion and fifteen numbers.

    Args:
        sizes: Of the network, see `StoryNetwork`.
        classes: Names of the emotions (from the datamodule).
        embedding_dim: Size of an embedded part (from the datamodule).
        encoder: Name of what embeds the text, for the report (from the datamodule).
        encoder_config: Of a text encoder that is trained along; None: the batches are embedded (from the datamodule).
        encoder_folder: Folder with its first weights (from the datamodule).
        task_weighting: "uncertainty" or "fixed".
        task_weights: Task -> weight, for "fixed"; None: 1 each.
        label_smoothing: Share of the label spread over all emotions, in [0, 1).
        rdrop_alpha: Weight of the disagreement of two passes; 0 is off. A piece of a batch then has twice its rows.
        auxiliary_weight: Weight of the mean loss of the modules' own contributions; 0 is off.
        layer_decay: Learning rate of a backbone layer over that of the next one; 1 is off.
        analyzer_lr_scale: Learning rate of the analyzers over that of the heads; 1 is off.
        micro_batch: Rows that go through the network at once; the gradient does not depend on it.
        without: Analyzers that are not built.
        weights: "float32" or "bfloat16": what weights and activations are kept in.
        activation_checkpointing: Compute activations again in the backward pass, for memory.
        optimizer_offload: Keep the optimiser's states in main memory.
        init_from: Run directory whose final weights are the first ones here; None: random weights.
        optimizer: See `shared.optim`.
        scheduler: See `shared.optim`.

    Attributes:
        oom_events: How often memory ended in training.

    Raises:
        ConfigError: If a value is unknown or out of range.
        CheckpointError: If first weights do not fit.
    """

    network: StoryNetwork

    loading_overrides: ClassVar[dict[str, Any]] = {"init_from": None, "encoder_folder": None}

    def __init__(
        self, *, sizes: Mapping[str, Any], classes: Sequence[str], embedding_dim: int, encoder: str,
        task_weighting: str, task_weights: Mapping[str, float] | None, label_smoothing: float, rdrop_alpha: float,
        auxiliary_weight: float, layer_decay: float, analyzer_lr_scale: float, micro_batch: int,
        without: Sequence[str] = (), weights: str = "float32", activation_checkpointing: bool = False,
        optimizer_offload: bool = False, init_from: str | None = None,
        encoder_config: Mapping[str, Any] | None = None, encoder_folder: str | None = None,
        optimizer: Mapping[str, Any], scheduler: Mapping[str, Any],
    ) -> None:  # fmt: skip
        super().__init__(optimizer=optimizer, scheduler=scheduler)
        self.save_hyperparameters()
        if weights not in PRECISIONS:
            raise ConfigError(f"model.weights is {weights!r}, allowed: {', '.join(PRECISIONS)}")
        with _as_config_errors():
            self.network = StoryNetwork(embedding_dim, sizes, tuple(without))
            self.text_encoder = _text_encoder(encoder_config, encoder_folder)
            self.loss = MultiTaskLoss(
                weighting=task_weighting, weights=task_weights, label_smoothing=label_smoothing,
                rdrop_alpha=rdrop_alpha, auxiliary_weight=auxiliary_weight,
            )  # fmt: skip
            names = [name for name, _ in self.named_parameters()]
            self.lr_scale = layer_scales(names, layer_decay=layer_decay, analyzer_lr_scale=analyzer_lr_scale)
        refuse_batch_statistics(self.network)
        self.network.to(PRECISIONS[weights])
        self.network.activation_checkpointing = activation_checkpointing
        self.metrics = StoryMetrics(len(classes), _own_losses(self.network))
        remedies = [Remedy("activation checkpointing", self._start_checkpointing), Remedy(OFFLOAD, self._offload)]
        self.micro_batches = MicroBatches(micro_batch, remedies, applied=[OFFLOAD] if optimizer_offload else [])
        self._origin = "none" if init_from is None else self._start_from(Path(init_from))

    @property
    def oom_events(self) -> int:
        """How often memory ended in training."""
        return self.micro_batches.oom_events

    def module_groups(self) -> dict[str, tuple[str, ...]]:
        """The network's groups; a text encoder and learned task weights belong to A, as the backbone does."""
        groups = {
            group: tuple(f"network.{prefix}" for prefix in prefixes)
            for group, prefixes in self.network.module_groups().items()
        }
        more = {"text_encoder.": self.text_encoder, "loss.": self.loss.log_variance}
        groups["A"] += tuple(prefix for prefix, module in more.items() if module is not None)
        return groups

    def absent_groups(self) -> tuple[str, ...]:
        """Groups whose modules were all left out."""
        return self.network.absent_groups()

    def monitored_modules(self) -> dict[str, nn.Module]:
        """What the update monitor watches: the network's parts and each analyzer by itself."""
        parts = {name: child for name, child in self.network.named_children() if name != "analyzers"}
        found: dict[str, nn.Module] = parts | dict(self.network.analyzers.items())
        return found if self.text_encoder is None else {"text_encoder": self.text_encoder, **found}

    def sharded_units(self) -> list[nn.Module]:
        """What FSDP puts together at once: a layer, an analyzer, the heads; last the network, which holds the rest."""
        return [*self.network.backbone.layers, self.network.heads, *self.network.analyzers.values(), self.network]

    def head_names(self) -> dict[str, tuple[str, ...]]:
        """Names of the numbers of each score task."""
        return dict(SCORES)

    def findings(self) -> list[str]:
        """What is odd in the configuration, and what was changed when memory ended."""
        found = []
        if self.loss.passes == 2 and not self.network.drops_out:
            found.append("model.rdrop_alpha compares two passes that are equal, since nothing is dropped out")
        name = self.optimizer_config["name"]
        if self.hparams["weights"] == "bfloat16" and name not in KEEP_SMALL_UPDATES:
            found.append(
                f"model.weights=bfloat16 with optimizer.name={name} loses small updates: a weight in bfloat16 stays "
                "where it is unless it moves by about 1/512 of itself (at a rate of 1e-4, adamw left 54 % of the "
                "weights where they began in 200 steps, adamw_factored 1.7 %); take optimizer.name=adamw_factored or "
                "adamw_8bit, or model.weights=float32"
            )
        return found + self.micro_batches.sentences

    def describe(self) -> dict[str, str]:
        """Encoder, sizes, precision and where the first weights came from."""
        counts = {
            group: sum(p.numel() for name, p in self.named_parameters() if name.startswith(prefixes))
            for group, prefixes in self.module_groups().items()
        }
        return {
            "encoder": str(self.hparams["encoder"]) + (" (trained along)" if self.text_encoder is not None else ""),
            **super().describe(),
            "parameters by group": ", ".join(f"{group} {count:,}" for group, count in counts.items()),
            "weights": str(self.hparams["weights"]),
            "rows at once": str(self.micro_batches.size),
            "task weights": ", ".join(f"{task} {weight:.3g}" for task, weight in self.loss.task_weights().items()),
            "first weights": self._origin,
        }

    def formula(self) -> str:
        """LaTeX of the loss, with its weights as numbers."""
        return self.loss.formula()

    def shared_step(self, batch: dict[str, Any], stage: str) -> dict[str, Any]:
        """Answers, and the loss that all stages share: the tasks' mean losses added, weights 1, without smoothing.

        Returns:
            {"loss", "logits" (B, 7), "sample_index", "heads": {score task: {"prediction" (B, D) in [0, 1]}}, "answers":
            NetworkOutputs} and, where the batch has targets, "target" (B,), "target_mask" (B,) and in each head
            "target" and "mask" (B, D). Without targets the loss is NaN.
        """
        answers = self.answer(batch)
        logits = {task: values.float() for task, values in answers.outputs.items()}
        heads: dict[str, dict[str, Tensor]] = {task: {"prediction": logits[task].sigmoid()} for task in SCORES}
        outputs = {"logits": logits[EMOTION], "sample_index": batch["sample_index"], "heads": heads, "answers": answers}
        if "target" not in batch:
            return outputs | {"loss": torch.full((), torch.nan, device=self.device)}
        target, mask = batch["target"], batch["target_mask"]
        for task, head in heads.items():
            head |= {"target": target[task], "mask": mask[task]}
        with torch.no_grad():
            tasks = self.loss.plain(logits, target, mask, totals=valid_targets(mask))
        outputs |= {"target": target[EMOTION], "target_mask": mask[EMOTION]}
        return outputs | {"loss": torch.stack(list(tasks.values())).sum()}

    def answer(self, batch: Mapping[str, Any]) -> NetworkOutputs:
        """What the network says about a batch, its texts embedded before where they are not."""
        if self.text_encoder is None:
            embedding, mask, part = batch["embedding"], batch["embedding_mask"], batch["part"]
        else:
            embedding, mask, part = self.text_encoder(batch["input_ids"], batch["token_mask"])
        answers: NetworkOutputs = self.network(embedding.to(PRECISIONS[self.hparams["weights"]]), mask, part)
        return answers

    def sample_losses(self, outputs: Mapping[str, Any]) -> Tensor:
        """Masked task sum of each story, (B,), for the crossover."""
        return sample_losses(outputs["logits"], outputs["target"], outputs["target_mask"], outputs["heads"])

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """Forward and backward of a batch, piece by piece; `backward` and `optimizer_zero_grad` find it done.

        On several ranks `batch` is this rank's part. Targets are counted over all parts and gradients added up behind
        the last piece, so the step is that of one process, whatever the sizes of the ranks' pieces.

        Returns:
            {"loss"}: the loss of `shared_step`, so that train/loss and val/loss are comparable; what was minimised is
            logged as train/objective. It is not finite where that is not.
        """
        rows = len(batch["sample_index"])
        all_rows = rows * num_ranks()  # the parts of a batch are of one size
        totals = scalars_over_ranks(valid_targets(batch["target_mask"]))
        sums: dict[str, Tensor] = {}

        def piece(part: dict[str, Any]) -> None:
            loss = self._loss_of(part, totals, len(part["sample_index"]) / all_rows)
            self._backward(loss.objective)
            for name, value in {"objective": loss.objective.detach(), **loss.tasks}.items():
                sums[name] = sums[name] + value if name in sums else value

        def clear() -> None:
            self.zero_grad(set_to_none=True)
            sums.clear()

        self.micro_batches.run(batch, rows, piece, clear)
        sum_gradients(whole_weights(self))  # those in parts were added up by the backward passes
        sums = scalars_over_ranks(sums)
        objective = sums.pop("objective")
        self.log(metric_key("train", "objective"), objective, on_step=True, on_epoch=False, batch_size=rows)
        plain = torch.stack(list(sums.values())).sum()
        return {"loss": torch.where(objective.isfinite(), plain, objective)}

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """Answers and metrics on val."""
        outputs = self.shared_step(batch, "val")
        answers = outputs["answers"]
        self.metrics.update(answers.outputs, answers.parts, batch["target"], batch["target_mask"])
        for key, metric in self.metrics.to_log().items():
            self.log(key, metric, prog_bar=key in ("val/loss", "val/f1_macro"))
        return outputs

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Done in `training_step`, piece by piece."""

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Done in `training_step`: Lightning would drop the gradient between its closure's step and backward."""

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Lightning's, with a sentence where the step itself finds no memory: half of the weights may have moved.

        Raises:
            TrainingError: If memory ends in the optimiser's own step.
        """
        try:
            super().optimizer_step(*args, **kwargs)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(
                "out of memory in the optimiser's own step; set model.optimizer_offload=true, model.weights=bfloat16 "
                "or optimizer.name=adamw_factored"
            ) from error

    def on_fit_start(self) -> None:
        """Refuse what `training_step` does not do.

        Raises:
            ConfigError: On accumulation by Lightning.
        """
        steps = self.trainer.accumulate_grad_batches
        if steps > 1:
            raise ConfigError(
                f"trainer.accumulate_grad_batches is {steps}, allowed: 1; data.batch_size is the effective batch, and "
                "model.micro_batch says how many rows of it go through the network at once"
            )
        self.micro_batches.may_shrink = not is_cut(self)
        wrapped = self.trainer.strategy.model
        if isinstance(wrapped, DistributedDataParallel):
            wrapped.require_backward_grad_sync = False  # its hooks expect one backward a step, behind `training_step`

    def on_train_start(self) -> None:
        """See that every weight is trained once, and that the optimiser finds room for its states or goes without."""
        for optimizer in self.trainer.optimizers:
            check_parameter_groups(optimizer, self.named_parameters())
            prepare_offload(optimizer)
            if is_cut(self):
                continue
            if OFFLOAD in self.micro_batches.applied:
                offload_states(optimizer)
            elif self._has_own_memory():
                self._make_room(optimizer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the size that memory allowed."""
        checkpoint[MICRO_BATCHES] = self.micro_batches.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with it."""
        if MICRO_BATCHES in checkpoint:
            self.micro_batches.load(checkpoint[MICRO_BATCHES])

    def configure_optimizers(self) -> Any:
        """Optimiser and schedule by name, each weight at its own multiple of the rate."""
        optimizer = build_optimizer(self.named_parameters(), self.optimizer_config, self.lr_scale)
        steps = self.trainer.estimated_stepping_batches
        schedule = build_scheduler(
            optimizer, self.scheduler_config, steps, math.ceil(self.trainer.num_training_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _loss_of(self, part: Mapping[str, Any], totals: Mapping[str, Tensor], share: float) -> Any:
        """Loss of some rows; with R-Drop both passes of a row are in one forward, so a pair is never parted."""
        inputs = {key: value for key, value in part.items() if key not in ("target", "target_mask")}
        outputs, parts = self.answer(twice(inputs) if self.loss.passes == 2 else inputs)
        return self.loss(outputs, parts, part["target"], part["target_mask"], totals=totals, share=share)

    def _backward(self, objective: Tensor) -> None:
        """Add to the gradients as Lightning's precision plugin would: scaled for float16, autocast off."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        with torch.autocast(self.device.type, enabled=False):
            (objective if scaler is None else scaler.scale(objective)).backward()

    def _start_checkpointing(self) -> bool:
        if self.network.activation_checkpointing:
            return False
        self.network.activation_checkpointing = True
        return True

    def _offload(self) -> bool:
        """On a CPU the states lie in main memory anyway."""
        if not self._has_own_memory():
            return False
        return all([offload_states(optimizer) for optimizer in self.trainer.optimizers])

    def _has_own_memory(self) -> bool:
        """Whether the device has a memory beside the main one."""
        return self.device.type != "cpu"

    def _make_room(self, optimizer: Optimizer) -> None:
        """Offload before a step that would not fit: where memory ends inside it, half of the weights have moved."""
        weights = [weight for weight in self.parameters() if weight.requires_grad]
        name = self.optimizer_config["name"]
        states = max(0.0, state_bytes(weights, name) - bytes_of_states(optimizer))
        needed = sum(weight.nbytes for weight in weights) + states + step_room(weights, name)
        if not has_room(needed, self.device):
            why = f"no room for the {needed / GB:.2f} GB of gradients, optimiser states and a step"
            self.micro_batches.foresee(OFFLOAD, why)

    def _start_from(self, path: Path) -> str:
        """Take the final weights of a finished run; return which."""
        loaded = load_run(path)
        try:
            self.load_weights(loaded.module.state_dict())
        except ValueError as error:
            raise CheckpointError(
                f"model.init_from: the weights of {loaded.run.path} do not fit this network ({error}); sizes, encoder "
                "and task_weighting must be the same"
            ) from None
        return f"run {loaded.run.path.name}"


@contextmanager
def _as_config_errors() -> Iterator[None]:
    """What networks and losses refuse was said in the configuration."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise ConfigError(f"model: {error}") from None


def _text_encoder(config: Mapping[str, Any] | None, folder: str | None) -> TextEncoder | None:
    if config is None:
        return None
    return TextEncoder(config) if folder is None else initial_text_encoder(config, folder)


def _own_losses(network: StoryNetwork) -> dict[str, list[Pair]]:
    """Module group -> whose contributions to which tasks make its own loss."""
    tasks: dict[str, tuple[str, ...]] = {}
    for name, analyzer in network.analyzers.items():
        assert isinstance(analyzer, Analyzer)
        tasks[name] = analyzer.tasks
    found = {
        group: [(name, task) for name in names if name in tasks for task in tasks[name]]
        for group, names in GROUPS.items()
    }
    return {"A": [(HEAD, task) for task in TASKS]} | {g: pairs for g, pairs in found.items() if pairs and g != "A"}
