import time
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import adapt_input_conv
from torch import nn

from shared import backbone as backbone_file
from shared.backbone import build_backbone, feature_dim
from shared.errors import CheckpointError

NAME = "test_resnet"  # timm's own miniature


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail loudly should a test reach for the hub without saying so."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the test touched the network or the home folder")

    for function in ("get_hf_file_metadata", "hf_hub_download", "try_to_load_from_cache"):
        monkeypatch.setattr(huggingface_hub, function, refuse)


def published(in_channels: int = 3, **changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """A file as timm publishes it: with classifier, random values."""
    torch.manual_seed(5)
    network = timm.create_model(NAME, in_chans=in_channels)
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    state = dict(network.state_dict())
    for key, value in changes.items():
        state[key.replace("__", ".")] = value
    return {key: value.contiguous() for key, value in state.items() if value is not None}


def load(path: Path, in_channels: int = 3):
    return build_backbone(NAME, in_channels, 0.0, 0.0, str(path))


@pytest.mark.parametrize(
    ("name", "width"), [("resnet18", 512), ("mobilenetv3_small_050", 1024), ("convnext_atto", 320)]
)
def test_feature_dim_is_what_comes_out(name: str, width: int) -> None:
    network, provenance = build_backbone(name, 1, 0.0, 0.0, "none")
    with torch.no_grad():
        features = network.eval()(torch.zeros(1, 1, 32, 32))
    assert features.shape == (1, width)
    assert feature_dim(network) == width
    assert (provenance.kind, provenance.detail) == ("none", f"{name}, randomly initialised")


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no network 'resnet18x'; nearest: resnet18"):
        build_backbone("resnet18x", 1, 0.0, 0.0, "none")
    with pytest.raises(ValueError, match=r"timm cannot build 'resnet18.nonsense'.*Invalid pretrained tag"):
        build_backbone("resnet18.nonsense", 1, 0.0, 0.0, "none")
    with pytest.raises(ValueError, match=r"timm cannot build 'vgg11'.*drop_path_rate"):
        build_backbone("vgg11", 1, 0.0, 0.1, "none")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_is_loaded_to_the_last_value(tmp_path: Path, suffix: str) -> None:
    state = published()
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    network, provenance = load(path)
    own = network.state_dict()
    assert own.keys() == {key for key in state if not key.startswith("fc.")}
    for key, value in own.items():
        assert torch.equal(value, state[key]), key
    assert provenance.kind == "path"
    assert provenance.detail.startswith(f"weights{suffix}, sha256 ")
    assert str(tmp_path) not in provenance.detail


@pytest.mark.parametrize("in_channels", [1, 4])
def test_the_first_layer_is_adapted_as_timm_does(tmp_path: Path, in_channels: int) -> None:
    state = published()
    save_file(state, tmp_path / "w.safetensors")
    network, _ = load(tmp_path / "w.safetensors", in_channels)
    first = timm.create_model(NAME).pretrained_cfg["first_conv"]
    expected = adapt_input_conv(in_channels, state[f"{first}.weight"].clone())
    assert expected.shape[1] == in_channels
    torch.testing.assert_close(network.get_submodule(first).weight.detach(), expected)


def test_a_file_of_the_networks_own_channels_is_left_alone(tmp_path: Path) -> None:
    state = published(in_channels=1)
    save_file(state, tmp_path / "w.safetensors")
    network, _ = load(tmp_path / "w.safetensors", 1)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_what_does_not_fit_is_named_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    changes = {"layer1__0__conv1__weight": torch.ones(1, 2), "bn1__weight": None, "other__bias": torch.ones(3)}
    save_file(published(**changes), path)
    with pytest.raises(CheckpointError) as caught:
        load(path)
    message = str(caught.value)
    assert "1 missing (bn1.weight)" in message
    assert "1 unexpected (other.bias)" in message
    assert "1 of another shape (layer1.0.conv1.weight (1, 2) instead of (" in message
    assert "\n" not in message


def test_weights_of_another_network_are_not_half_loaded(tmp_path: Path) -> None:
    save_file(timm.create_model("test_convnext").state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=rf"does not fit '{NAME}': \d+ missing .*, \d+ unexpected"):
        load(tmp_path / "w.safetensors")


def test_old_files_without_batch_norm_counters_are_sound(tmp_path: Path) -> None:
    state = {key: value for key, value in published().items() if not key.endswith("num_batches_tracked")}
    save_file(state, tmp_path / "w.safetensors")
    network, _ = load(tmp_path / "w.safetensors")
    assert torch.equal(network.bn1.weight, state["bn1.weight"])


def test_an_architectures_own_renaming_is_applied(tmp_path: Path) -> None:
    """Facebook's ConvNeXt files name the stem `downsample_layers.0`; timm's filter knows."""
    path = tmp_path / "w.pth"
    network = timm.create_model("test_convnext", num_classes=0)
    torch.save({"model": network.state_dict()}, path)
    loaded, _ = build_backbone("test_convnext", 3, 0.0, 0.0, str(path))
    assert torch.equal(loaded.stem[0].weight, network.stem[0].weight)


class Payload:
    def __reduce__(self) -> tuple:
        return (print, ("this must never run",))


def test_broken_and_dangerous_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.pth does not exist; .*model\.weights_path"):
        load(tmp_path / "absent.pth")
    for name in ("empty.pth", "empty.safetensors"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "noise.pth").write_bytes(b"not a checkpoint" * 9)
    save_file(published(), tmp_path / "whole.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-50])
    torch.save(Payload(), tmp_path / "payload.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "scalar.pth")
    for name in (
        "empty.pth",
        "empty.safetensors",
        "noise.pth",
        "cut.safetensors",
        "payload.pth",
        "list.pth",
        "scalar.pth",
    ):
        with pytest.raises(CheckpointError, match="cannot be read") as caught:
            load(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert "never run" not in capsys.readouterr().out


def offline(monkeypatch: pytest.MonkeyPatch, ask) -> None:
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repo, file: None)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", ask)


def test_an_unreachable_hub_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(url: str, timeout: float) -> None:
        raise OSError("[Errno 101] Network is unreachable\nand a second line")

    offline(monkeypatch, ask)
    with pytest.raises(CheckpointError) as caught:
        build_backbone("resnet18", 1, 0.0, 0.0, "hub")
    message = str(caught.value)
    assert "resnet18" in message
    assert "timm/resnet18.a1_in1k" in message
    assert "Network is unreachable)" in message
    assert "model.weights_path=..." in message
    assert "model.pretrained=false" in message
    assert "\n" not in message


def test_a_silent_hub_costs_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone_file, "HUB_TIMEOUT_S", 0.2)
    offline(monkeypatch, lambda url, timeout: time.sleep(1.0))  # as a name server that does not answer
    start = time.monotonic()
    with pytest.raises(CheckpointError, match=r"TimeoutError \(no answer within 0.2 s\)"):
        build_backbone(NAME, 3, 0.0, 0.0, "hub")
    assert time.monotonic() - start < 0.9


@pytest.mark.parametrize("cached", [True, False])
def test_hub_weights_are_loaded_by_timm_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    state = published()
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    asked = []
    if cached:  # then no call leaves the machine: the autouse fixture would raise
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repo, file: str(path))
    else:
        offline(monkeypatch, lambda url, timeout: asked.append((url, timeout)))
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repo, file: str(path))
    network, provenance = build_backbone(NAME, 1, 0.0, 0.0, "hub")
    assert torch.equal(network.bn1.weight, state["bn1.weight"])
    first = network.pretrained_cfg["first_conv"]
    expected = adapt_input_conv(1, state[f"{first}.weight"].clone())
    torch.testing.assert_close(network.get_submodule(first).weight.detach(), expected)
    assert provenance.kind == "hub"
    assert provenance.detail.startswith("timm/test_resnet")
    assert cached or (NAME in asked[0][0] and asked[0][1] < 10)


def test_a_broken_cached_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"cut")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repo, file: str(path))
    with pytest.raises(CheckpointError, match=r"cannot be used .* delete the file"):
        build_backbone(NAME, 3, 0.0, 0.0, "hub")


def test_a_network_without_hub_weights_says_so() -> None:
    with pytest.raises(CheckpointError, match=r"timm lists no weights on the hub for 'resnet18.x'"):
        backbone_file._from_hub("resnet18.x", {"hf_hub_id": None}, {})
