import doctest

import pytest
import torch
from lightning import LightningModule
from torch import nn

import shared.sample_losses as losses_module
from shared.errors import TrainingError
from shared.sample_losses import choose_step, group_of, sample_losses, step_outputs

LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.5, 0.5]])


def test_examples():
    assert doctest.testmod(losses_module).failed == 0


def test_cross_entropy_in_double():
    target = torch.tensor([0, 0, 1])
    found = sample_losses(nn.Identity(), {"logits": LOGITS.half(), "target": target})
    assert found.dtype == torch.float64
    expected = nn.functional.cross_entropy(LOGITS.double(), target, reduction="none")
    assert torch.allclose(found, expected, atol=1e-12)


def test_segmentation_is_averaged_within_the_sample():
    logits, target = torch.randn(2, 3, 4), torch.randint(0, 3, (2, 4))
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0]]).bool()
    each = nn.functional.cross_entropy(logits.double(), target, reduction="none")
    found = sample_losses(nn.Identity(), {"logits": logits, "target": target})
    assert torch.allclose(found, each.mean(1))
    masked = sample_losses(nn.Identity(), {"logits": logits, "target": target, "target_mask": mask})
    assert masked.tolist() == [pytest.approx(float(each[0, :2].mean())), 0.0]


def test_binary_targets_in_the_shape_of_the_logits():
    logits, target = torch.tensor([0.0, 2.0]), torch.tensor([1, 0])
    found = sample_losses(nn.Identity(), {"logits": logits, "target": target})
    assert found.tolist() == pytest.approx([0.693147, 2.126928], abs=1e-6)


def test_squared_error_and_mask():
    outputs = {"prediction": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "target": torch.tensor([[1.0, 4.0], [0.0, 4.0]])}
    assert sample_losses(nn.Identity(), outputs).tolist() == [2.0, 4.5]
    outputs["target_mask"] = torch.tensor([[1, 0], [1, 0]])
    assert sample_losses(nn.Identity(), outputs).tolist() == [0.0, 9.0]


def test_infinite_losses_are_returned():
    outputs = {"prediction": torch.tensor([float("inf"), float("nan")]), "target": torch.zeros(2)}
    found = sample_losses(nn.Identity(), outputs)
    assert found[0].isinf()
    assert found[1].isnan()


class Own(nn.Module):
    def __init__(self, shape=(2,)):
        super().__init__()
        self.shape = shape

    def sample_losses(self, outputs):
        return torch.ones(self.shape, dtype=torch.float32)

    def predict_step(self, batch, batch_idx):
        return {"anything": batch}


def test_the_modules_own_losses_come_first():
    found = sample_losses(Own(), {"target": {"a": torch.zeros(2)}})
    assert found.tolist() == [1.0, 1.0]
    assert found.dtype == torch.float64
    assert choose_step(Own(), torch.zeros(2)) == "predict_step"
    with pytest.raises(TrainingError, match=r"Own.sample_losses returned shape \(2, 2\)"):
        sample_losses(Own((2, 2)), {})


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"logits": LOGITS, "target": {"a": LOGITS}}, "the target is a dict and Identity has no method"),
        ({"logits": LOGITS, "target": torch.zeros(3)}, r"logits \(3, 2\) and a torch.float32 target \(3,\)"),
        (
            {"prediction": LOGITS, "target": torch.zeros(3)},
            r"prediction \(3, 2\) and target \(3,\) must have one shape",
        ),
    ],
)
def test_outputs_that_do_not_fit(outputs, message):
    with pytest.raises(TrainingError, match=message):
        sample_losses(nn.Identity(), outputs)


class Logging(LightningModule):
    def validation_step(self, batch, batch_idx):
        self.log("val/loss", 1.0)
        self.log_dict({"val/other": 2.0})
        return {"logits": batch, "target": torch.zeros(len(batch), dtype=torch.long)}


class Bare(Logging):
    def predict_step(self, batch, batch_idx):
        return batch


class Full(Logging):
    def predict_step(self, batch, batch_idx):
        return {"prediction": batch, "target": batch}


@pytest.mark.parametrize(
    ("module", "step"), [(Logging(), "validation_step"), (Bare(), "validation_step"), (Full(), "predict_step")]
)
def test_the_step_is_the_one_that_returns_what_is_needed(module, step):
    assert choose_step(module, LOGITS) == step
    assert torch.equal(step_outputs(module, LOGITS, 0, step).get("logits", LOGITS), LOGITS)
    assert "log" not in vars(module)  # silent only while the step runs


def test_a_module_without_such_a_step_is_refused():
    with pytest.raises(TrainingError, match="Linear has no predict_step or validation_step that returns"):
        choose_step(nn.Linear(2, 2), LOGITS)


def test_groups_from_batch_or_outputs():
    index = torch.tensor([3, 4], dtype=torch.int32)
    assert group_of({"group_index": index}, {}).dtype == torch.int64
    assert group_of((LOGITS,), {"group_index": index}).tolist() == [3, 4]
    assert group_of((LOGITS,), {}) is None
