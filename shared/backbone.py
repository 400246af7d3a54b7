"""Image backbones from timm, with weights whose origin is known and whose loading is checked."""

import hashlib
import pickle
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import huggingface_hub
import timm
from safetensors import SafetensorError
from timm.models import adapt_input_conv, load_state_dict
from torch import Tensor, nn

from shared.errors import CheckpointError

HUB_TIMEOUT_S = 8.0  # without a bound the hub client backs off for minutes behind a firewall that drops packets
HUB_FILE = "model.safetensors"
_NUM_NAMED = 3  # how many keys an error names before it only counts


@dataclass(frozen=True)
class Provenance:
    """Where a backbone's weights came from, for the report."""

    kind: Literal["none", "hub", "path"]
    detail: str


def build_backbone(
    name: str, in_channels: int, drop_rate: float, drop_path_rate: float, weights: str
) -> tuple[nn.Module, Provenance]:
    """Build a timm network without its classifier.

    Args:
        name: timm model name, with or without a weights tag (`resnet18`, `resnet18.a1_in1k`).
        in_channels: Channels of the image; pretrained first layers are adapted as timm does (summed or repeated).
        drop_rate: The network's own dropout, in [0, 1).
        drop_path_rate: Stochastic depth, in [0, 1); only for networks that have it.
        weights: `none`, `hub` (timm's weights on the Hugging Face hub, or their cached copy) or the path of a
            safetensors or torch file.

    Returns:
        The network, (B, C, H, W) -> (B, head_hidden_size), and where its weights came from.

    Raises:
        ValueError: If timm has no such network or the network has no such option.
        CheckpointError: If the weights cannot be had or do not fit; never a fallback to random weights.
    """
    _check_name(name)
    options: dict[str, Any] = {"num_classes": 0, "in_chans": in_channels, "drop_rate": drop_rate}
    if drop_path_rate:
        options["drop_path_rate"] = drop_path_rate
    try:
        network = timm.create_model(name, pretrained=False, **options)
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"timm cannot build {name!r} with {options}: {_first_line(error)}") from None
    if weights == "none":
        return network, Provenance("none", f"{name}, randomly initialised")
    if weights == "hub":
        return _from_hub(name, vars(network)["pretrained_cfg"], options)
    return network, _load_path(network, name, Path(weights), in_channels)


def feature_dim(network: nn.Module) -> int:
    """Return the width of what a network from `build_backbone` yields."""
    # num_features is the width before the pre-logits layers that some networks keep (VGG 512, where 4096 come out).
    return int(getattr(network, "head_hidden_size", None) or vars(network)["num_features"])


def _check_name(name: str) -> None:
    """Raise ValueError with the nearest names unless timm has the network."""
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        hint = f"nearest: {', '.join(near)}" if near else "see timm.list_models()"
        raise ValueError(f"timm has no network {name!r}; {hint}")


def _from_hub(name: str, config: dict[str, Any], options: dict[str, Any]) -> tuple[nn.Module, Provenance]:
    """Build the network with timm's own weights, through timm's own loading."""
    repository = config.get("hf_hub_id")
    if not repository:
        raise CheckpointError(f"timm lists no weights on the hub for {name!r}; {_REMEDY}")
    path = _hub_file(name, repository)
    # `file` makes timm read this very file, and not ask the network again; custom_load is for its npz originals.
    overlay = {"file": str(path), "source": "", "custom_load": False}
    try:
        network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    except _UNREADABLE as error:
        raise CheckpointError(
            f"the hub's weights of {name!r} in {path} cannot be used ({_first_line(error)}); delete the file to "
            f"download it again, or {_REMEDY}"
        ) from None
    return network, Provenance("hub", f"{repository}/{HUB_FILE}, sha256 {_sha256(path)}")


def _hub_file(name: str, repository: str) -> Path:
    """Return the cached weights file, or download it; a dead or blocked hub costs at most a few seconds."""
    cached = huggingface_hub.try_to_load_from_cache(repository, HUB_FILE)
    if isinstance(cached, str):
        return Path(cached)
    url = huggingface_hub.hf_hub_url(repository, HUB_FILE)
    try:
        _within(HUB_TIMEOUT_S, lambda: huggingface_hub.get_hf_file_metadata(url, timeout=HUB_TIMEOUT_S / 2))
        return Path(huggingface_hub.hf_hub_download(repository, HUB_FILE))
    except Exception as error:  # the client's errors have no common base, and each means: no weights
        raise CheckpointError(
            f"no pretrained weights for {name!r}: {url} gave {type(error).__name__} ({_first_line(error)}) and there "
            f"is no cached copy; {_REMEDY}"
        ) from None


def _within(seconds: float, call: Callable[[], object]) -> None:
    """Run `call` and raise what it raises, or TimeoutError: name resolution heeds no time-out of its own."""
    outcome: list[Exception | None] = []

    def target() -> None:
        try:
            call()
            outcome.append(None)
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=target, name="hub-probe", daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError(f"no answer within {seconds:g} s")
    if outcome[0] is not None:
        raise outcome[0]


def _load_path(network: nn.Module, name: str, path: Path, in_channels: int) -> Provenance:
    """Load a file into `network`, every key accounted for."""
    if not path.is_file():
        raise CheckpointError(f"weights file {path} does not exist; {_REMEDY}")
    try:
        state = load_state_dict(str(path), device="cpu", weights_only=True)
        strangers = [key for key, value in state.items() if not isinstance(value, Tensor)]
        if strangers:
            raise ValueError(f"not tensors: {_some(strangers)}")
        state = _fit_to_network(state, network, in_channels)
    except _UNREADABLE as error:
        raise CheckpointError(
            f"weights file {path} cannot be read as safetensors or as a torch file of plain tensors for {name!r}: "
            f"{_first_line(error)}"
        ) from None
    _check_state(state, network, name, path)
    network.load_state_dict(state, strict=True)
    return Provenance("path", f"{path.name}, sha256 {_sha256(path)}")


def _fit_to_network(state: dict[str, Tensor], network: nn.Module, in_channels: int) -> dict[str, Tensor]:
    """Do what timm does to published weights: rename, drop the classifier, adapt the first layer."""
    config: dict[str, Any] = vars(network)["pretrained_cfg"]
    rename = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    state = dict(rename(state, network)) if rename is not None else dict(state)
    for classifier in _names(config.get("classifier")):
        for key in (f"{classifier}.weight", f"{classifier}.bias"):
            state.pop(key, None)
    for layer in _names(config.get("first_conv")):
        weight = state.get(f"{layer}.weight")
        if weight is not None and weight.ndim == 4 and weight.shape[1] == 3 != in_channels:
            state[f"{layer}.weight"] = adapt_input_conv(in_channels, weight)
    for key, value in network.state_dict().items():
        # Files older than this counter are sound: it is read only by batch norm without momentum.
        if key.endswith("num_batches_tracked"):
            state.setdefault(key, value)
    return state


def _check_state(state: dict[str, Tensor], network: nn.Module, name: str, path: Path) -> None:
    """Raise CheckpointError naming missing, unexpected and misshapen keys, unless there are none."""
    own = network.state_dict()
    reshaped = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    findings = {
        "missing": [key for key in own if key not in state],
        "unexpected": [key for key in state if key not in own],
        "of another shape": reshaped,
    }
    parts = [f"{len(keys)} {kind} ({_some(keys)})" for kind, keys in findings.items() if keys]
    if parts:
        raise CheckpointError(f"weights file {path} does not fit {name!r}: {', '.join(parts)}")


def _names(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Return names as a tuple; timm gives one, several, or none."""
    return (value,) if isinstance(value, str) else tuple(value or ())


def _some(keys: list[str]) -> str:
    """The first few keys."""
    return ", ".join(keys[:_NUM_NAMED]) + (", ..." if len(keys) > _NUM_NAMED else "")


def _sha256(path: Path) -> str:
    """The file's digest, shortened to what tells files apart in a report."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _first_line(error: Exception) -> str:
    """What a foreign error says, without its second paragraph."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


_REMEDY = "give a file with model.weights_path=... or start from random weights with model.pretrained=false"
# What safetensors, torch.load and timm's key renaming raise on a file that is not what it should be.
_UNREADABLE = (
    SafetensorError,
    pickle.UnpicklingError,
    RuntimeError,
    ValueError,
    KeyError,
    AttributeError,
    TypeError,
    EOFError,
    OSError,
)
