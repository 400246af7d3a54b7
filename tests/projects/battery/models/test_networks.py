"""Every builder keeps the one contract; adding a name to BUILDERS is enough to have it tested here."""

import pytest
import torch
from torch import Tensor

from projects.battery.models import BUILDERS, Network, build_network

SIZES = (2, 3)
WITH_METADATA = ("late_fusion", "metadata")


def build(name: str, **changes: object) -> Network:
    torch.manual_seed(11)
    parameters: dict[str, object] = {"num_classes": 5, "backbone": "test_resnet", "in_channels": 1}
    if name in WITH_METADATA:
        parameters["meta_sizes"] = SIZES
    return build_network(name, **(parameters | changes))


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    image = torch.randn(6, 1, 32, 32, generator=generator)
    meta = torch.tensor([[0, 0], [1, 2], [0, 1], [-1, 2], [1, -1], [-1, -1]])
    return image, meta


def test_the_catalogue() -> None:
    assert sorted(BUILDERS) == ["late_fusion", "metadata", "timm"]
    with pytest.raises(ValueError, match="network is 'resnet', allowed: late_fusion, metadata, timm"):
        build_network("resnet")
    with pytest.raises(ValueError, match=r"no parameter 'drop_out', .*did you mean 'dropout'"):
        build_network("timm", num_classes=5, drop_out=0.1)


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_forward_contract(name: str, batch: tuple[Tensor, Tensor]) -> None:
    network = build(name).eval()
    outputs = network(*batch)
    assert set(outputs) == {"logits", *network.auxiliary_rows}
    assert all(row.shape == (6, 5) and torch.isfinite(row).all() for row in outputs.values())
    assert network.provenance.kind == "none"


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_fuse_after_encode_image_is_the_forward_pass(name: str, batch: tuple[Tensor, Tensor]) -> None:
    image, meta = batch
    network = build(name).eval()
    permuted = meta.roll(1, dims=0)
    features = network.encode_image(image)
    assert torch.equal(network.fuse(features, meta), network(image, meta)["logits"])
    again = network.fuse(features, permuted)
    assert torch.equal(again, network(image, permuted)["logits"])
    assert torch.allclose(again, network.fuse(features, meta)) != network.uses_metadata


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_module_groups_cover_each_tensor_exactly_once(name: str) -> None:
    network = build(name)
    groups = network.module_groups()
    tensors = [key for key, _ in (*network.named_parameters(), *network.named_buffers())]
    assert set(network.state_dict()) == set(tensors)
    for key in tensors:
        owners = [g for g, prefixes in groups.items() for prefix in prefixes if key.startswith(prefix)]
        assert len(owners) == 1, f"{key}: {owners}"
    for group, prefixes in groups.items():
        assert any(key.startswith(prefixes) for key in tensors), f"{group} is empty"


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_every_parameter_learns(name: str, batch: tuple[Tensor, Tensor]) -> None:
    network = build(name, dropout=0.0).train()
    for key, parameter in network.named_parameters():  # residual branches start at zero and would mute what is below
        if ".bn" in key:
            torch.nn.init.ones_(parameter)
    sum(row.square().sum() for row in network(*batch).values()).backward()
    silent = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


def test_auxiliary_rows_see_only_their_own_input(batch: tuple[Tensor, Tensor]) -> None:
    image, meta = batch
    network = build("late_fusion").eval()
    plain = network(image, meta)
    other_meta, other_image = network(image, meta.roll(1, dims=0)), network(image.flip(0), meta)
    assert torch.equal(plain["image_only"], other_meta["image_only"])
    assert not torch.allclose(plain["metadata_only"], other_meta["metadata_only"])
    assert torch.equal(plain["metadata_only"], other_image["metadata_only"])
    assert not torch.allclose(plain["image_only"], other_image["image_only"])


@pytest.mark.parametrize(
    ("row", "reached"),
    [
        ("image_only", {"backbone", "image_head"}),
        ("metadata_only", {"metadata", "metadata_head"}),
        ("logits", {"backbone", "metadata", "fusion"}),
    ],
)
def test_gradient_of_each_row_reaches_its_own_network_only(
    row: str, reached: set[str], batch: tuple[Tensor, Tensor]
) -> None:
    network = build("late_fusion").train()
    network(*batch)[row].square().sum().backward()
    touched = {key.split(".")[0] for key, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert touched == reached


@pytest.mark.parametrize("name", WITH_METADATA)
def test_missing_metadata_is_answered_and_is_a_value_of_its_own(name: str, batch: tuple[Tensor, Tensor]) -> None:
    image, _ = batch
    network = build(name).eval()
    answers = [network(image, torch.full((6, 2), code))["logits"] for code in (-1, 0, 1)]
    assert all(torch.isfinite(answer).all() for answer in answers)
    assert not torch.allclose(answers[0], answers[1])
    assert not torch.allclose(answers[0], answers[2])


@pytest.mark.parametrize("name", WITH_METADATA)
def test_full_modality_dropout_equals_missing_in_training_and_nothing_in_use(
    name: str, batch: tuple[Tensor, Tensor]
) -> None:
    image, meta = batch
    network = build(name, modality_dropout=1.0, dropout=0.0).train()
    torch.testing.assert_close(network(image, meta)["logits"], network(image, torch.full_like(meta, -1))["logits"])
    network.eval()
    assert not torch.allclose(network(image, meta)["logits"], network(image, torch.full_like(meta, -1))["logits"])
    assert meta.tolist()[0] == [0, 0]  # the caller's batch is not written to


def test_modality_dropout_hits_rows_and_values_at_the_stated_rate_and_follows_torchs_seed() -> None:
    encoder = build("late_fusion", modality_dropout=0.2).metadata
    meta = torch.zeros(40_000, 2, dtype=torch.int64)
    torch.manual_seed(9)
    missing = encoder._drop(meta) == -1
    # One value stays with (1 - p)^2; both are gone with p + (1 - p) p^2.
    assert missing.float().mean().item() == pytest.approx(1 - 0.8**2, abs=0.01)
    assert missing.all(dim=1).float().mean().item() == pytest.approx(0.2 + 0.8 * 0.04, abs=0.01)
    torch.manual_seed(9)
    assert torch.equal(encoder._drop(meta) == -1, missing)


def test_a_step_is_reproduced_by_its_seed(batch: tuple[Tensor, Tensor]) -> None:
    network = build("late_fusion", modality_dropout=0.5).train()
    answers = []
    for seed in (4, 4, 5):
        torch.manual_seed(seed)
        answers.append(network(*batch)["logits"])
    torch.testing.assert_close(answers[0], answers[1], rtol=0, atol=0)
    assert not torch.allclose(answers[0], answers[2])


@pytest.mark.parametrize("meta", [[[2, 0]], [[0, 3]], [[0, -2]]])
def test_a_code_outside_the_vocabulary_is_an_error(meta: list[list[int]]) -> None:
    network = build("late_fusion").eval()
    with pytest.raises(ValueError, match=r"outside the vocabulary; column 0: .*\(allowed -1..1\), column 1: .*-1..2"):
        network.fuse(torch.zeros(1, network.fusion[1].in_features - 32), torch.tensor(meta))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"meta_sizes": ()}, "at least one column"),
        ({"meta_sizes": (2, 0)}, r"meta_sizes is \[2, 0\]"),
        ({"modality_dropout": 1.5}, "modality_dropout is 1.5, allowed: 0 to 1"),
    ],
)
def test_wrong_parameters_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("late_fusion", **changes)


def test_another_number_of_columns_is_an_error(batch: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"meta has shape \(6, 1\), allowed: \(batch, 2\)"):
        build("metadata")(batch[0], batch[1][:, :1])
