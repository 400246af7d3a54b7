"""The spectra network and its training written plainly, as somebody would who starts from the description alone.

Layers are torch's own: circular convolutions by `padding_mode`, `nn.TransformerDecoderLayer`, the default layout.
Samples are float32 arrays in memory, picked one by one and stacked by torch's own loader. Architecture, weights and
what is dropped out are the same: layers of torch that would drop out more than ours are told not to.
"""

import copy
import time
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from projects.spectra.models.cross_attention import CrossAttentionNetwork, DecoderLayer
from projects.spectra.models.encoder import PeriodicConv2d, ResidualBlock


class PlainNetwork(nn.Module):
    """`CrossAttentionNetwork` out of torch's own layers, with the weights of one.

    Args:
        network: Gives sizes and weights, which are copied.
    """

    def __init__(self, network: CrossAttentionNetwork) -> None:
        super().__init__()
        encoder = network.encoder
        self.stem, self.stem_norm = circular(encoder.stem), copy.deepcopy(encoder.stem_norm)
        blocks = [block for stage in (1, 2, 3, 4) for block in encoder.get_submodule(f"stage{stage}")]  # type: ignore[arg-type,union-attr]
        self.blocks = nn.Sequential(*(PlainBlock(block) for block in blocks))
        self.squeeze, self.squeeze_norm = copy.deepcopy(network.squeeze), copy.deepcopy(network.squeeze_norm)
        self.query = nn.Parameter((network.query + network.positions).detach().clone())
        self.to_memory, self.memory_norm = copy.deepcopy(network.to_memory), copy.deepcopy(network.memory_norm)
        self.place = nn.Parameter(network.place.detach().clone())
        self.decoder = nn.ModuleList(decoder_layer(layer) for layer in network.decoder)  # type: ignore[arg-type]
        self.head = copy.deepcopy(network.head)
        self.to(memory_format=torch.contiguous_format)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) float32 -> (B, *output_shape)."""
        maps = self.blocks(F.silu(self.stem_norm(self.stem(image))))
        tokens = maps.flatten(2).transpose(1, 2)  # (B, T, C)
        query = self.squeeze_norm(self.squeeze(tokens.flatten(1)))[:, None] + self.query  # (B, L, D)
        memory = self.memory_norm(self.to_memory(tokens) + self.place)
        for layer in self.decoder:
            query = layer(query, memory)
        curves: Tensor = self.head(query)
        return curves


class PlainBlock(nn.Module):
    """`ResidualBlock` with torch's own circular convolutions."""

    def __init__(self, block: ResidualBlock) -> None:
        """Copy the weights."""
        super().__init__()
        self.conv1, self.conv2 = circular(block.conv1), circular(block.conv2)
        self.norm1, self.norm2 = copy.deepcopy(block.norm1), copy.deepcopy(block.norm2)
        self.dropout = copy.deepcopy(block.dropout)
        self.shortcut = nn.Sequential(copy.deepcopy(block.pool), copy.deepcopy(block.shortcut))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        inner = self.dropout(F.silu(self.norm1(self.conv1(x))))
        return F.silu(self.norm2(self.conv2(inner)) + self.shortcut(x))


def circular(layer: PeriodicConv2d) -> nn.Conv2d:
    """The same convolution, padded by torch."""
    kernel, stride = layer.kernel_size[0], layer.stride[0]
    mode = "circular" if layer.margin else "zeros"
    plain = nn.Conv2d(layer.in_channels, layer.out_channels, kernel, stride, kernel // 2, bias=False, padding_mode=mode)
    plain.load_state_dict(layer.state_dict())
    return plain


def decoder_layer(layer: DecoderLayer) -> nn.TransformerDecoderLayer:
    """The same layer as torch's own."""
    first, second = layer.feed_forward[0], layer.feed_forward[2]
    assert isinstance(first, nn.Linear)
    share = layer.dropout.p
    plain = nn.TransformerDecoderLayer(
        first.in_features, layer.self_attention.heads, first.out_features, share, F.silu, batch_first=True,
        norm_first=True,
    )  # fmt: skip
    # Torch's drops attention weights and inner features besides, which ours does not.
    plain.self_attn.dropout = plain.multihead_attn.dropout = plain.dropout.p = 0.0
    pairs = ((plain.self_attn, layer.self_attention), (plain.multihead_attn, layer.cross_attention))
    with torch.no_grad():
        for theirs, ours in pairs:
            theirs.in_proj_weight.copy_(torch.cat([ours.to_query.weight, ours.to_key_value.weight]))
            theirs.in_proj_bias.copy_(torch.cat([ours.to_query.bias, ours.to_key_value.bias]))
            theirs.out_proj.load_state_dict(ours.out.state_dict())
    for name, part in zip(("norm1", "norm2", "norm3"), layer.norms, strict=True):
        plain.get_submodule(name).load_state_dict(part.state_dict())
    plain.linear1.load_state_dict(first.state_dict())
    plain.linear2.load_state_dict(second.state_dict())
    return plain


class FloatPairs(Dataset[tuple[Tensor, Tensor]]):
    """Pictures (N, 1, H, W) and curves (N, *output_shape), float32 in memory, one sample at a time."""

    def __init__(self, image: NDArray[np.float32], target: NDArray[np.float32]) -> None:
        """Keep both."""
        self.image, self.target = image, target

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.image[row]), torch.from_numpy(self.target[row])


def plain_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """MSE + 0.2 (1 - Pearson along the axis), with an epsilon for flat curves."""
    x, y = prediction - prediction.mean(-1, keepdim=True), target - target.mean(-1, keepdim=True)
    pearson = (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1) + 1e-8)
    return F.mse_loss(prediction, target) + 0.2 * (1.0 - pearson.mean())


class PlainLoop:
    """Training of a `PlainNetwork`, batch after batch, epoch after epoch.

    Args:
        network: Moved to the device.
        data: All samples.
        batch_size: Samples of a step.
        device: Where to train.
        autocast: Mixed precision in bfloat16, or all in float32.
        workers: Processes of the loader.
    """

    def __init__(
        self,
        network: PlainNetwork,
        data: FloatPairs,
        batch_size: int,
        device: torch.device,
        autocast: bool,
        workers: int = 0,
    ) -> None:
        self.network, self.device, self.autocast = network.to(device).train(), device, autocast
        pinned = device.type == "cuda"
        self.loader = DataLoader(
            data, batch_size, shuffle=True, num_workers=workers, pin_memory=pinned, drop_last=True,
            persistent_workers=workers > 0,
        )  # fmt: skip
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=5e-3)
        self._batches = self._endless()

    def run(self, steps: int) -> float:
        """Train for some steps; returns the seconds it took."""
        began = time.perf_counter()
        for _ in range(steps):
            image, target = (part.to(self.device) for part in next(self._batches))
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
                loss = plain_loss(self.network(image), target)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    def _endless(self) -> Iterator[list[Tensor]]:
        while True:
            yield from self.loader
