import copy
import math
import warnings

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.metrics import f1_score, mean_absolute_error
from torch import nn

from projects.redheart.losses import MultiTaskLoss
from projects.redheart.models.network import StoryNetwork
from projects.redheart.module import OFFLOAD, RedHeartModule
from projects.redheart.tasks import EMOTIONS, SCORES, TASKS
from shared.callbacks.step_seed import StepSeed
from shared.errors import ConfigError, TrainingError
from shared.module_groups import ModuleGroups
from shared.sample_losses import sample_losses
from tests.fabricate.story_module import ADAMW, story_module, train
from tests.fabricate.story_network import fabricated_batch

EVERYTHING = {"task_weighting": "uncertainty", "label_smoothing": 0.1, "rdrop_alpha": 0.7, "auxiliary_weight": 0.3}


class Gradients(L.Callback):
    """Keeps the gradient of each step, as the optimiser and clipping find it."""

    def __init__(self) -> None:
        self.steps: list[dict[str, torch.Tensor]] = []
        self.losses: list[float] = []

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        self.steps.append({n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None})

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.losses.append(float(outputs["loss"]))


class EndOfMemory:
    """Says at chosen calls of the network's forward, counted over all passes, that memory has ended."""

    def __init__(self, module: RedHeartModule, calls: set[int], error: type[Exception] | str = "cuda") -> None:
        self.calls, self.count, self.seen = calls, 0, []
        self.error = torch.OutOfMemoryError("CUDA out of memory") if error == "cuda" else RuntimeError(error)
        module.network.register_forward_pre_hook(self)

    def __call__(self, network: nn.Module, arguments) -> None:
        self.count += 1
        self.seen.append(len(arguments[0]))
        if self.count in self.calls:
            raise self.error


def gradients_of(sizes=(13,), **changes) -> Gradients:
    kept = Gradients()
    train(story_module(**changes), list(sizes), kept, limit_val_batches=0)
    return kept


def assert_equal_steps(one: Gradients, other: Gradients) -> None:
    assert len(one.steps) == len(other.steps) > 0
    for mine, theirs in zip(one.steps, other.steps, strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine:
            scale = float(theirs[name].abs().max())
            torch.testing.assert_close(mine[name], theirs[name], rtol=2e-4, atol=2e-5 * max(scale, 1e-3), msg=name)
    assert one.losses == pytest.approx(other.losses, rel=1e-5)


@pytest.mark.parametrize("switches", [{}, EVERYTHING], ids=["off", "everything"])
def test_the_gradient_does_not_depend_on_the_rows_at_once(switches: dict) -> None:
    whole = gradients_of((16,), micro_batch=64, **switches)
    for micro_batch in (16, 5, 4, 1):
        assert_equal_steps(gradients_of((16,), micro_batch=micro_batch, **switches), whole)


def test_the_gradient_is_that_of_the_plain_loss_over_the_whole_batch() -> None:
    module = story_module()
    batch = fabricated_batch(13, parts=6, embedding_dim=16, seed=0)
    module.train()
    outputs, _ = module.answer(batch)
    total = 0.0
    for task in TASKS:
        target, mask = batch["target"][task], batch["target_mask"][task]
        losses = (
            nn.functional.cross_entropy(outputs[task], target, reduction="none")
            if task == "emotion"
            else (outputs[task].sigmoid() - target).square()
        )
        total = total + losses[mask].mean()
    total.backward()
    kept = gradients_of((13,), micro_batch=4)
    assert kept.losses == pytest.approx([total.item()], rel=1e-5)
    for name, weight in module.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(kept.steps[0][name], weight.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_a_short_last_batch_and_masks_that_leave_pieces_without_targets() -> None:
    given = {"optimizer": {"name": "sgd", "lr": 0.01}}
    assert_equal_steps(gradients_of((8, 3, 1), micro_batch=2, **given), gradients_of((8, 3, 1), micro_batch=8, **given))


@pytest.mark.parametrize(
    "error", ["cuda", "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"]
)
def test_after_memory_has_ended_the_step_has_the_same_gradient(error: str) -> None:
    # Adam's first step would make moves of a whole rate from gradients that are rounding alone.
    given = {**EVERYTHING, "optimizer": {"name": "sgd", "lr": 0.01}}
    module = story_module(micro_batch=8, **given)
    # The second piece of the first step; then the third of its second attempt.
    memory, kept = EndOfMemory(module, {2, 5}, error), Gradients()
    with pytest.warns(UserWarning, match="out of memory with 8 rows at once: from now on 4, in more passes a step"):
        train(module, [16, 16], kept, limit_val_batches=0)
    assert memory.seen == [16, 16, 8, 8, 8, *[4] * 8, *[4] * 8]  # both passes of R-Drop; 4 rows, then 2, kept
    assert (module.micro_batches.size, module.oom_events) == (2, 2)
    assert_equal_steps(kept, gradients_of((16, 16), micro_batch=64, **given))
    assert [sentence for sentence in module.findings() if "out of memory" in sentence] == module.micro_batches.sentences
    assert len(module.micro_batches.sentences) == 2


def test_the_step_done_again_begins_from_the_same_random_state() -> None:
    """With one row at once and a failure at the last one, the second attempt draws the dropout of a plain step."""
    module = story_module(micro_batch=1, dropout=True)
    kept = Gradients()
    EndOfMemory(module, {3})
    with pytest.warns(UserWarning, match="out of memory with 1 row at once: activation checkpointing is switched on"):
        train(module, [3], kept, StepSeed(1), limit_val_batches=0)
    plain = Gradients()
    again = story_module(micro_batch=1, dropout=True, activation_checkpointing=True)
    train(again, [3], plain, StepSeed(1), limit_val_batches=0)
    for name, gradient in plain.steps[0].items():
        assert torch.equal(kept.steps[0][name], gradient), name


def test_when_nothing_is_left_to_be_made_smaller_the_run_says_so() -> None:
    module = story_module(micro_batch=2)
    EndOfMemory(module, set(range(1, 99)))
    with (
        pytest.warns(UserWarning, match="out of memory"),
        pytest.raises(TrainingError, match="1 row at once and with activation checkpointing: nothing is left"),
    ):
        train(module, [4], limit_val_batches=0)
    assert module.oom_events == 3  # 2 rows, 1 row, 1 row with checkpointing; offload does not help a CPU
    assert module.network.activation_checkpointing


def test_other_errors_are_not_taken_for_the_end_of_memory() -> None:
    module = story_module()
    EndOfMemory(module, {1}, "mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        train(module, [4], limit_val_batches=0)
    assert module.oom_events == 0


def test_a_resumed_run_keeps_the_size_and_what_was_switched_on(tmp_path) -> None:
    module = story_module(micro_batch=2)
    EndOfMemory(module, {1, 2})
    keep = ModelCheckpoint(tmp_path, filename="last", enable_version_counter=False)
    with pytest.warns(UserWarning, match="out of memory"):
        train(module, [4], keep, enable_checkpointing=True, limit_val_batches=0)
    path = tmp_path / "last.ckpt"
    assert torch.load(path, weights_only=True)["micro_batches"]["size"] == 1
    again = story_module(micro_batch=2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The dirpath has changed|.*directory.*exists")
        train(again, [4], max_epochs=2, limit_val_batches=0, ckpt_path=path)
    assert (again.micro_batches.size, again.oom_events) == (1, 2)
    assert again.network.activation_checkpointing
    assert again.findings() == module.findings()
    loaded = RedHeartModule.load_from_checkpoint(path, weights_only=True)
    for name, weight in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight)


def test_clipping_sees_the_whole_gradient() -> None:
    module, kept = story_module(micro_batch=4, optimizer={"name": "sgd", "lr": 1.0}), Gradients()
    before = copy.deepcopy(module.state_dict())
    train(module, [16], kept, limit_val_batches=0, gradient_clip_val=0.01)
    norm = torch.stack([gradient.norm() for gradient in kept.steps[0].values()]).norm()
    assert norm > 0.1
    moved = [(module.state_dict()[name] - before[name]).norm() for name in kept.steps[0]]
    assert float(torch.stack(moved).norm()) == pytest.approx(0.01, rel=1e-3)


def test_mixed_precision_goes_through_the_pieces() -> None:
    kept = Gradients()
    train(story_module(micro_batch=4), [8], kept, limit_val_batches=0, precision="bf16-mixed")
    plain = gradients_of((8,), micro_batch=8)
    flat, reference = (torch.cat([g.flatten() for g in one.steps[0].values()]) for one in (kept, plain))
    assert flat.dtype == torch.float32
    assert float(nn.functional.cosine_similarity(flat, reference, dim=0)) > 0.99


def test_accumulation_by_lightning_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"trainer.accumulate_grad_batches is 4, allowed: 1; data.batch_size"):
        train(story_module(), [4], accumulate_grad_batches=4)


def test_every_weight_is_trained_and_keeps_its_multiple_of_the_rate() -> None:
    seen = {}

    class Rates(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
            groups = trainer.optimizers[0].param_groups
            names = {id(p): n for n, p in module.named_parameters()}
            seen.update({names[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]})

    module = story_module(
        layer_decay=0.95, analyzer_lr_scale=1.5, task_weighting="uncertainty",
        scheduler={"name": "cosine_warm_restarts", "T_0": 2, "eta_min": 1e-6}, optimizer=ADAMW,
    )  # fmt: skip
    train(module, [4, 4, 4], Rates(), limit_val_batches=0)
    assert seen.keys() == dict(module.named_parameters()).keys()
    base = seen["network.heads.regret.bias"][0]
    # Half a period of two epochs is over: half-way between the rate and its floor.
    assert base == pytest.approx(1e-6 + (1e-3 - 1e-6) * 0.5, rel=1e-6)
    ratios = {
        "network.backbone.norm.weight": 0.95,
        "network.backbone.layers.1.": 0.95,
        "network.backbone.layers.0.": 0.95**2,
        "network.backbone.embed.": 0.95**3,
        "network.backbone.position": 0.95**3,
        "network.heads.": 1.0,
        "network.fusion.": 1.0,
        "network.analyzers.": 1.5,
        "loss.": 1.0,
    }
    for prefix, ratio in ratios.items():
        rates = {rate for name, (rate, _) in seen.items() if name.startswith(prefix)}
        assert len(rates) == 1, prefix
        assert rates.pop() / base == pytest.approx(ratio, rel=1e-6), prefix
    assert {decay for name, (_, decay) in seen.items() if name.endswith(".bias")} == {0.0}


def test_a_weight_that_the_optimiser_misses_is_named() -> None:
    module = story_module()
    module.network.backbone.norm.requires_grad_(False)

    class Thaw(L.Callback):
        def on_train_start(self, trainer, module) -> None:
            module.network.backbone.norm.requires_grad_(True)

    with pytest.raises(TrainingError, match=r"network.backbone.norm.weight is trainable and stands in 0"):
        train(module, [4], Thaw())


def test_validation_logs_all_keys_with_the_values_of_the_whole_fold() -> None:
    module = story_module()
    trainer = train(module, [8, 5])
    logged = {key: float(value) for key, value in trainer.callback_metrics.items()}
    groups = {f"val/group/{group}/loss" for group in module.module_groups()}
    keys = {"val/loss", "val/accuracy", "val/f1_macro", *(f"val/{task}/loss" for task in TASKS)}
    assert logged.keys() >= groups | keys | {f"val/{task}/mae" for task in SCORES}
    batches = [fabricated_batch(size, parts=6, embedding_dim=16, seed=seed) for seed, size in enumerate((8, 5))]
    module.eval()
    with torch.no_grad():
        answers = [module.answer(batch) for batch in batches]
    for task in SCORES:
        pairs = [
            (a.outputs[task].sigmoid()[b["target_mask"][task]], b["target"][task][b["target_mask"][task]])
            for a, b in zip(answers, batches, strict=True)
        ]
        predicted, target = (torch.cat(column) for column in zip(*pairs, strict=True))
        assert logged[f"val/{task}/mae"] == pytest.approx(mean_absolute_error(target, predicted), rel=1e-5)
        assert logged[f"val/{task}/loss"] == pytest.approx(float((predicted - target).square().mean()), rel=1e-5)
    assert logged["val/loss"] == pytest.approx(sum(logged[f"val/{task}/loss"] for task in TASKS), rel=1e-6)
    pairs = [
        (
            a.outputs["emotion"].argmax(1)[b["target_mask"]["emotion"]],
            b["target"]["emotion"][b["target_mask"]["emotion"]],
        )
        for a, b in zip(answers, batches, strict=True)
    ]
    predicted, target = (torch.cat(column) for column in zip(*pairs, strict=True))
    assert logged["val/accuracy"] == pytest.approx(float((predicted == target).float().mean()))
    assert logged["val/f1_macro"] == pytest.approx(f1_score(target, predicted, average="macro"), rel=1e-5)
    own = [
        (a.parts["advanced_surd"]["surd"].sigmoid() - b["target"]["surd"]).square()[b["target_mask"]["surd"]]
        for a, b in zip(answers, batches, strict=True)
    ]
    assert logged["val/group/advanced_surd/loss"] == pytest.approx(float(torch.cat(own).mean()), rel=1e-5)


def test_without_targets_of_a_task_its_keys_are_not_a_number_and_the_loss_is_of_the_others() -> None:
    module = story_module()
    batch = fabricated_batch(6, parts=6, embedding_dim=16)
    for task in SCORES:
        batch["target_mask"][task] = torch.zeros_like(batch["target_mask"][task])
    module.eval()
    with torch.no_grad():
        answers = module.answer(batch)
        loss = module.shared_step(batch, "val")["loss"]
    module.metrics.update(answers.outputs, answers.parts, batch["target"], batch["target_mask"])
    values = {key: float(metric.compute()) for key, metric in module.metrics.to_log().items()}
    assert values["val/loss"] == pytest.approx(values["val/emotion/loss"]) == pytest.approx(float(loss))
    assert math.isnan(values["val/surd/loss"])
    assert math.isnan(values["val/group/advanced_surd/loss"])
    assert math.isfinite(values["val/group/A/loss"])


def test_a_step_returns_what_the_shared_callbacks_read() -> None:
    module = story_module().eval()
    batch = fabricated_batch(5, parts=6, embedding_dim=16)
    with torch.no_grad():
        outputs = module.predict_step(batch, 0)
        bare = module.predict_step({k: v for k, v in batch.items() if not k.startswith("target")}, 0)
    assert outputs["logits"].shape == (5, len(EMOTIONS))
    for task, head in outputs["heads"].items():
        assert head["prediction"].shape == head["target"].shape == head["mask"].shape == (5, TASKS[task])
        assert 0 <= float(head["prediction"].min()) <= float(head["prediction"].max()) <= 1
    expected = MultiTaskLoss().plain(
        {task: module.answer(batch).outputs[task][2:3] for task in TASKS},
        {task: value[2:3] for task, value in batch["target"].items()},
        {task: value[2:3] for task, value in batch["target_mask"].items()},
        totals={task: batch["target_mask"][task][2:3].sum().float() for task in TASKS},
    )
    losses = sample_losses(module, outputs)
    assert losses.shape == (5,)
    assert float(losses[2]) == pytest.approx(float(sum(expected.values()).detach()), rel=1e-5)
    assert torch.equal(bare["logits"], outputs["logits"])
    assert torch.isnan(bare["loss"])
    assert "target" not in bare


@pytest.mark.parametrize("weighting", ["fixed", "uncertainty"])
def test_module_groups_are_a_partition(weighting: str) -> None:
    module = story_module(task_weighting=weighting)
    groups = ModuleGroups.of(module)
    assert set(groups.names) == {"A", "B", "C", *(f"advanced_{task}" for task in TASKS)}
    assert ("loss.log_variance.surd" in groups.members["A"]) == (weighting == "uncertainty")
    described = module.describe()
    assert described["encoder"] == "fabricated"
    assert "A " in described["parameters by group"]
    assert set(module.monitored_modules()) == {"backbone", "heads", "fusion", *module.network.analyzers}


def test_weights_in_half_precision_train() -> None:
    module = story_module(
        weights="bfloat16", optimizer=ADAMW | {"name": "adamw_factored"}, task_weighting="uncertainty"
    )
    trainer = train(module, [8, 8])
    assert {p.dtype for p in module.network.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in module.loss.parameters()} == {torch.float32}
    assert math.isfinite(float(trainer.callback_metrics["val/loss"]))


def test_rdrop_without_dropout_is_a_finding() -> None:
    assert "two passes that are equal" in story_module(rdrop_alpha=0.7).findings()[0]
    assert story_module(rdrop_alpha=0.7, dropout=True).findings() == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"micro_batch": 0}, "model.micro_batch is 0, allowed: a whole number, 1 or more"),
        ({"weights": "float16"}, "model.weights is 'float16', allowed: float32, bfloat16"),
        ({"layer_decay": 0.0}, "model: layer_decay is 0.0"),
        ({"analyzer_lr_scale": -1.0}, "model: analyzer_lr_scale is -1.0"),
        ({"without": ["nobody"]}, "model: without names 'nobody'"),
        ({"label_smoothing": 2.0}, "model: label_smoothing is 2.0"),
    ],
)
def test_a_wrong_setting_is_one_sentence(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        story_module(**changes)


def test_batch_norm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = StoryNetwork.__init__

    def with_batch_norm(self, *arguments, **more) -> None:
        plain(self, *arguments, **more)
        self.odd = nn.BatchNorm1d(3)

    monkeypatch.setattr(StoryNetwork, "__init__", with_batch_norm)
    with pytest.raises(ConfigError, match="odd is a BatchNorm1d, whose output depends on the other rows"):
        story_module()


def test_offload_asked_for_is_switched_on_at_the_start() -> None:
    module = story_module(optimizer_offload=True)
    trainer = train(module, [4, 4], limit_val_batches=0)
    assert trainer.optimizers[0].states_are_offloaded
    plain = story_module()
    train(plain, [4, 4], limit_val_batches=0)
    for name, weight in plain.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], weight, rtol=1e-5, atol=1e-6)
    assert module.micro_batches.applied == [OFFLOAD]
