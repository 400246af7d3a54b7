import pytest
import torch
from sklearn.metrics import mean_squared_error, r2_score
from torchmetrics.regression import R2Score

from projects.spectra.losses import pearson_along_axis
from projects.spectra.metrics import EpochR2, validation_metrics


def epoch(size: int = 37) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    target = 0.25 + 0.02 * torch.randn(size, 2, 2, 6, generator=generator)
    return target + 0.01 * torch.randn(target.shape, generator=generator), target


def test_an_epoch_in_batches_equals_scikit_learn_on_all_of_it() -> None:
    prediction, target = epoch()
    metrics = validation_metrics(24)
    for rows in torch.arange(37).split(8):
        metrics.update(prediction[rows], target[rows])
    found = {name: value.item() for name, value in metrics.compute().items()}
    x, y = prediction.flatten(1).double().numpy(), target.flatten(1).double().numpy()
    assert found["r2"] == pytest.approx(r2_score(y, x, multioutput="variance_weighted"), rel=1e-6)
    assert found["mse"] == pytest.approx(mean_squared_error(y, x), rel=1e-5)
    assert found["pearson"] == pytest.approx(pearson_along_axis(prediction, target).mean().item(), rel=1e-5)


def test_r2_keeps_its_digits_where_float32_sums_do_not() -> None:
    target = 1000.0 + torch.rand(50, 3, generator=torch.Generator().manual_seed(1))
    prediction = target + 0.1
    expected = r2_score(target.double().numpy(), prediction.double().numpy(), multioutput="variance_weighted")
    ours, theirs = EpochR2(3), R2Score(multioutput="variance_weighted")
    ours.update(prediction, target)
    theirs.update(prediction, target)
    assert ours.compute().item() == pytest.approx(expected, rel=1e-5)
    assert theirs.compute().item() != pytest.approx(expected, rel=1e-3)  # the reason for a metric of our own


def of_an_epoch(prediction: torch.Tensor, target: torch.Tensor) -> float:
    metric = EpochR2(target[0].numel())
    metric.update(prediction, target)
    return metric.compute().item()


@pytest.mark.parametrize("size", [2, 5, 40])
def test_an_output_that_hardly_varies_counts_as_much_as_it_varies(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    target = torch.rand(size, 3, generator=generator)
    prediction = target + 0.1 * torch.rand(size, 3, generator=generator)
    target[:, 0] = 0.25 + 1e-7 * torch.rand(size, generator=generator)  # as where the phase of the mask is 2 pi
    prediction[:, 0] = 0.2501
    x, y = prediction.double().numpy(), target.double().numpy()
    expected = r2_score(y, x, multioutput="variance_weighted")
    assert of_an_epoch(prediction, target) == pytest.approx(expected, rel=1e-5)
    assert r2_score(y, x) < -1e4  # what the uniform average would make of the same epoch


@pytest.mark.parametrize("size", [1, 2, 5])
def test_without_any_variation_it_is_met_or_missed(size: int) -> None:
    target = torch.full((size, 3), 0.3)
    assert of_an_epoch(target, target) == 1.0
    assert of_an_epoch(target + 1e-4, target) == 0.0


def test_states_are_no_weights() -> None:
    assert validation_metrics(24).state_dict() == {}
