import pytest
import torch
import torch.nn.functional as F

from projects.pillsnap.losses import pill_loss


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 5, generator=generator, dtype=torch.float64), torch.tensor([0, 4, 2, 2, 1, 3])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_unmixed_it_is_torchs_cross_entropy(batch, smoothing):
    logits, target = batch
    expected = F.cross_entropy(logits, target, label_smoothing=smoothing)
    torch.testing.assert_close(pill_loss(logits, target, smoothing=smoothing), expected)


def test_mixed_it_is_torchs_cross_entropy_against_the_mixed_label(batch):
    logits, target = batch
    shares = 0.7 * torch.eye(6, dtype=torch.float64) + 0.3 * torch.eye(6, dtype=torch.float64).roll(1, 0)
    soft = shares @ F.one_hot(target, 5).double()
    expected = F.cross_entropy(logits, soft, label_smoothing=0.1)
    torch.testing.assert_close(pill_loss(logits, target, smoothing=0.1, shares=shares), expected)


def test_shares_of_one_are_the_plain_loss(batch):
    logits, target = batch
    torch.testing.assert_close(pill_loss(logits, target, shares=torch.eye(6)), pill_loss(logits, target))


@pytest.mark.parametrize("mixed", [False, True])
def test_unknown_labels_add_nothing(batch, mixed):
    logits, target = batch
    partly = target.clone()
    partly[[1, 3]] = -1
    known = torch.tensor([0, 2, 4, 5])
    shares = torch.eye(6) if mixed else None
    torch.testing.assert_close(pill_loss(logits, partly, shares=shares), pill_loss(logits[known], target[known]))
    nobody = pill_loss(logits.requires_grad_(), torch.full((6,), -1), shares=shares)
    assert nobody.item() == 0.0
    nobody.backward()
    assert not logits.grad.any()


def test_half_precision_is_computed_in_single(batch):
    logits, target = batch
    assert pill_loss(logits.to(torch.bfloat16), target).dtype == torch.float32


def test_what_makes_no_loss_is_refused(batch):
    logits, target = batch
    with pytest.raises(ValueError, match=r"smoothing is 1\.0, allowed: 0 up to"):
        pill_loss(logits, target, smoothing=1.0)
    with pytest.raises(ValueError, match=r"must be \(B, K\) and \(B,\)"):
        pill_loss(logits, target[:3])
    with pytest.raises(ValueError, match=r"shares have shape \(5, 5\), allowed: \(6, 6\)"):
        pill_loss(logits, target, shares=torch.eye(5))
