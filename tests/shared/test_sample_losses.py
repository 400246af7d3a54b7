import doctest

import pytest
import torch
from lightning import LightningModule
from torch import nn

import shared.sample_losses as losses_module
from shared.errors import TrainingError
from shared.sample_losses import choose_step, group_of, sample_losses, step_outputs, widen_binary

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


# -- one logit ----------------------------------------------------------------------------------------------------

SHAPES = [((3,), (3,)), ((3, 1), (3,)), ((3, 1), (3, 1))]


@pytest.mark.parametrize(("logit_shape", "target_shape"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.bool])
def test_one_logit_is_binary_in_every_form(logit_shape, target_shape, dtype):
    z, y = torch.tensor([0.0, 2.0, -300.0]), torch.tensor([1, 0, 1])
    outputs = {"logits": z.reshape(logit_shape), "target": y.reshape(target_shape).to(dtype)}
    assert sample_losses(nn.Identity(), outputs).tolist() == pytest.approx([0.693147, 2.126928, 300.0], abs=1e-6)
    logits, target = widen_binary(outputs["logits"], outputs["target"])
    assert logits.tolist() == [[0.0, 0.0], [0.0, 2.0], [0.0, -300.0]]
    assert (target.tolist(), target.dtype) == ([1, 0, 1], torch.int64)
    torch.testing.assert_close(logits.softmax(1)[:, 1], z.sigmoid())


def test_one_logit_for_each_pixel():
    z, y = torch.randn(2, 1, 4), torch.tensor([[0, 1, 1, 0], [1, 1, 0, 0]])
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    each = nn.functional.binary_cross_entropy_with_logits(z[:, 0].double(), y.double(), reduction="none")
    found = sample_losses(nn.Identity(), {"logits": z, "target": y, "target_mask": mask})
    torch.testing.assert_close(found, torch.stack([each[0, :2].mean(), each[1].mean()]))


def test_what_is_not_one_logit_with_two_classes_stays():
    for logits, target in [
        (LOGITS, torch.tensor([0, 1, 0])), (LOGITS, torch.zeros(3, 2)), (torch.zeros(3, 1), torch.tensor([0, 1, 2])),
        (torch.zeros(3), torch.tensor([0.2, 0.0, 1.0])), (torch.zeros(3, 1), torch.zeros(4)),
    ]:  # fmt: skip
        kept = widen_binary(logits, target)
        assert kept[0] is logits
        assert kept[1] is target
    half = sample_losses(nn.Identity(), {"logits": torch.zeros(1), "target": torch.tensor([0.5])})
    assert half.item() == pytest.approx(0.693147, abs=1e-6)
    with pytest.raises(TrainingError, match=r"logits \(3, 1\) and a torch.int64 target \(3,\) .* 0/1 for one logit"):
        sample_losses(nn.Identity(), {"logits": torch.zeros(3, 1), "target": torch.tensor([0, 1, 2])})


# -- targets of the logits' shape -----------------------------------------------------------------------------------


def by_hand(target):
    return -(target.double() * LOGITS.double().log_softmax(1)).sum(1)


def binary(target):
    return nn.functional.binary_cross_entropy_with_logits(LOGITS.double(), target.double(), reduction="none").mean(1)


@pytest.mark.parametrize("rows", [[[0.9, 0.1], [0.5, 0.5], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_soft_and_one_hot_targets_are_those_of_a_softmax(rows, dtype):
    target = torch.tensor(rows, dtype=dtype)
    torch.testing.assert_close(sample_losses(nn.Identity(), {"logits": LOGITS, "target": target}), by_hand(target))


@pytest.mark.parametrize(
    "target",
    [
        torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]),
        torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]]),
        torch.tensor([[1, 0], [0, 1], [1, 0]]),
        torch.tensor([[1, 0], [0, 1], [1, 0]]).bool(),
        torch.tensor([[1.5, -0.5], [0.0, 1.0], [1.0, 0.0]]),
    ],
    ids=["two labels", "no label", "integers", "bool", "negative"],
)
def test_other_targets_of_that_shape_are_labels_for_themselves(target):
    torch.testing.assert_close(sample_losses(nn.Identity(), {"logits": LOGITS, "target": target}), binary(target))


def test_masks_and_soft_targets():
    target = torch.tensor([[0.9, 0.1], [float("nan"), 7.0], [0.0, 1.0]])
    whole = sample_losses(
        nn.Identity(), {"logits": LOGITS, "target": target, "target_mask": torch.tensor([True, False, True])}
    )
    torch.testing.assert_close(whole, by_hand(target).nan_to_num(0.0))
    target = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.0, 1.0]])
    by_class = {"logits": LOGITS, "target": target, "target_mask": torch.ones(3, 2)}
    torch.testing.assert_close(sample_losses(nn.Identity(), by_class), binary(target))


def test_soft_targets_of_pixels():
    logits, target = torch.randn(2, 3, 4), torch.randn(2, 3, 4).softmax(1)
    each = -(target.double() * logits.double().log_softmax(1)).sum(1)
    found = sample_losses(nn.Identity(), {"logits": logits, "target": target})
    torch.testing.assert_close(found, each.mean(1), rtol=1e-6, atol=1e-6)
