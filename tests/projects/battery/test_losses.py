import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from projects.battery.losses import JointLoss, focal_loss


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    logits = 3 * torch.randn(64, 5, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, 5, (64,), generator=generator)


@pytest.mark.parametrize("smoothing", [0.0, 0.07, 0.5])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gamma_zero_is_cross_entropy(batch, smoothing: float, reduction: str) -> None:
    logits, target = batch
    ours = focal_loss(logits, target, gamma=0.0, smoothing=smoothing, reduction=reduction)
    theirs = F.cross_entropy(logits, target, label_smoothing=smoothing, reduction=reduction)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("gamma", [0.5, 1.5, 2.0])
def test_two_classes_equal_torchvisions_sigmoid_form(gamma: float) -> None:
    """softmax over (0, z) is sigmoid(z), so two classes without smoothing are torchvision's binary focal loss."""
    z = torch.linspace(-6, 6, 25, dtype=torch.float64)
    target = torch.arange(25) % 2
    theirs = sigmoid_focal_loss(z, target.double(), alpha=0.25, gamma=gamma, reduction="none")
    ours = focal_loss(
        torch.stack([torch.zeros_like(z), z], dim=1),
        target,
        gamma=gamma,
        alpha=torch.tensor([0.75, 0.25], dtype=torch.float64),
        smoothing=0.0,
        reduction="none",
    )
    torch.testing.assert_close(ours, theirs)


def test_formula_in_numpy_with_every_part_on(batch) -> None:
    logits, target = batch
    alpha = np.array([1.0, 4.0, 1.0, 0.9, 18.0])
    x, y = logits.numpy(), target.numpy()
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    q = np.full_like(p, 0.07 / 5)
    q[np.arange(64), y] += 0.93
    expected = alpha[y] * (1 - p[np.arange(64), y]) ** 1.5 * -(q * np.log(p)).sum(axis=1)
    ours = focal_loss(logits, target, alpha=torch.from_numpy(alpha), reduction="none")
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-10)
    # The plain mean, not the alpha-weighted one: it must add up from the samples.
    assert focal_loss(logits, target, alpha=torch.from_numpy(alpha)).item() == pytest.approx(expected.mean())


def test_gradient_agrees_with_finite_differences(batch) -> None:
    logits, target = batch
    logits = logits[:6].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, target[:6], gamma=1.5), (logits,))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.5])
@pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
def test_extreme_logits_have_finite_loss_and_gradient(gamma: float, size: float) -> None:
    logits = torch.tensor([[size, -size, 0.0], [-size, size, 0.0]], requires_grad=True)  # one right, one wrong
    loss = focal_loss(logits, torch.tensor([0, 0]), gamma=gamma)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    # The wrong sample still learns: p_t is clamped, the logarithm is not.
    assert logits.grad[1].abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(batch, dtype: torch.dtype) -> None:
    logits, target = batch
    half = logits.to(dtype)
    loss = focal_loss(half, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, focal_loss(half.float(), target), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gamma": -1.0}, "gamma is -1.0"),
        ({"gamma": float("nan")}, "gamma is nan"),
        ({"smoothing": 1.0}, "smoothing is 1.0"),
        ({"alpha": torch.ones(1)}, r"alpha has shape \(1,\), allowed: \(5,\)"),
        ({"reduction": "avg"}, "reduction is 'avg', allowed: mean, sum, none"),
    ],
)
def test_values_out_of_range_are_refused(batch, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        focal_loss(*batch, **change)


def test_joint_loss_is_the_weighted_sum_of_its_parts(batch) -> None:
    logits, target = batch
    outputs = {"logits": logits, "image_only": logits.flip(0), "metadata_only": 0.1 * logits}
    loss = JointLoss(gamma=0.0, smoothing=0.0, auxiliary_weights={"image_only": 0.5, "metadata_only": 2.0})
    for reduction in ("mean", "none"):
        parts = loss(outputs, target, reduction)
        own = {row: F.cross_entropy(x, target, reduction=reduction) for row, x in outputs.items()}
        torch.testing.assert_close(parts["loss"], own["logits"] + 0.5 * own["image_only"] + 2 * own["metadata_only"])
        torch.testing.assert_close(parts["image_only"], own["image_only"])


def test_joint_loss_passes_alpha_on_and_keeps_it_out_of_the_state(batch) -> None:
    logits, target = batch
    alpha = [1.0, 4.0, 1.0, 0.9, 18.0]
    loss = JointLoss(alpha=alpha)
    torch.testing.assert_close(
        loss({"logits": logits}, target)["loss"], focal_loss(logits, target, alpha=torch.tensor(alpha))
    )
    assert loss.state_dict() == {}


@pytest.mark.parametrize("weights", [{}, {"image_only": 1.0}, {"image_only": 1.0, "metadata_only": 1.0, "x": 1.0}])
def test_each_auxiliary_row_needs_exactly_one_weight(batch, weights: dict[str, float]) -> None:
    logits, target = batch
    outputs = {"logits": logits, "image_only": logits, "metadata_only": logits}
    with pytest.raises(ValueError, match="each row needs exactly one weight"):
        JointLoss(auxiliary_weights=weights)(outputs, target)


def test_an_untrained_head_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'image_only' is 0.0, allowed: above 0"):
        JointLoss(auxiliary_weights={"image_only": 0.0})
