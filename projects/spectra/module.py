"""The regressor of the spectra project: a picture of a cell to its curves, by any of the networks."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from projects.spectra.losses import build_loss
from projects.spectra.metrics import validation_metrics
from projects.spectra.models import CurveNetwork, build_network
from shared.base_module import BaseModule
from shared.errors import CheckpointError, ConfigError
from shared.loading import load_run
from shared.metric_keys import metric_key

ERROR_UNITS = ("spread", "power")


class SpectraRegressor(BaseModule):
    """Structures to curves along an axis, such as spectra.

    Args:
        network: Name in `projects.spectra.models.BUILDERS`.
        parameters: Arguments of that network, such as width.
        loss: Name in `projects.spectra.losses.LOSSES`.
        loss_parameters: Weights of that loss.
        error_unit: What the loss counts as an error of 1: "spread", that of the training targets about their mean, or
            "power", 1 itself. Powers spread by some 0.06, so that as "power" a squared error is a thousandth of
            1 - Pearson, and the level of the curves is hardly learned (README).
        map_to_pm1: Feed the pixels to the network as -1 and 1 rather than 0 and 1.
        compile: Let torch compile the network when a Trainer takes it; names of weights stay as they are.
        init_from: Run directory whose final weights are the first ones here; None: random weights.
        output_shape: (*channels, L) (from the datamodule).
        channels: Names of the curves in their order (from the datamodule).
        axis: {"name", "unit", "values": L numbers} (from the datamodule).
        image_side_px: Side of the pictures (from the datamodule).
        target_mean: (*output_shape) mean of the training targets (from the datamodule).
        target_spread: Root of their mean squared distance from it, > 0 (from the datamodule).
        optimizer: See `shared.optim`.
        scheduler: See `shared.optim`.

    Raises:
        ConfigError: If a name or parameter is unknown or out of range, or `init_from` is no run.
        CheckpointError: If the weights of `init_from` do not fit this network.
    """

    network: CurveNetwork

    loading_overrides: ClassVar[dict[str, Any]] = {"init_from": None, "compile": False}

    def __init__(
        self,
        *,
        network: str,
        parameters: Mapping[str, Any],
        loss: str,
        loss_parameters: Mapping[str, Any],
        error_unit: str,
        map_to_pm1: bool,
        compile: bool,
        init_from: str | None,
        output_shape: Sequence[int],
        channels: Sequence[str],
        axis: Mapping[str, Any],
        image_side_px: int,
        target_mean: Sequence[Any],
        target_spread: float,
        optimizer: Mapping[str, Any],
        scheduler: Mapping[str, Any],
    ) -> None:
        super().__init__(optimizer=optimizer, scheduler=scheduler)
        self.save_hyperparameters()
        self.output_shape, self.channels, self.axis = tuple(output_shape), tuple(channels), dict(axis)
        self._check_axes()
        self.map_to_pm1 = map_to_pm1
        unit = _unit_of_errors(error_unit, target_spread)
        try:
            self.network = build_network(
                network, output_shape=self.output_shape, image_side_px=image_side_px, **dict(parameters)
            )
            self.loss = build_loss(loss, unit, **dict(loss_parameters))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"model: {error}") from None
        # Convolutions run faster on the CPU in this layout.
        self.network.to(memory_format=torch.channels_last)
        self.metrics = validation_metrics(math.prod(self.output_shape))
        self._compile, self._compiled = compile, False
        self._origin = "none" if init_from is None else self._start_from(Path(init_from))
        # Behind the weights of another run: those count in the units of other data.
        self.network.head.set_units(torch.as_tensor(target_mean, dtype=torch.float32), target_spread)

    def module_groups(self) -> dict[str, tuple[str, ...]]:
        """The network's own groups."""
        groups = self.network.module_groups()
        return {name: tuple(f"network.{prefix}" for prefix in prefixes) for name, prefixes in groups.items()}

    def describe(self) -> dict[str, str]:
        """Network, size, loss, and where the first weights came from."""
        return {
            "network": str(self.hparams["network"]),
            **super().describe(),
            "output": " x ".join(str(size) for size in self.output_shape),
            "loss": self.loss.name,
            "first weights": self._origin,
        }

    def formula(self) -> str:
        """LaTeX of the loss, with its weights as numbers."""
        return self.loss.formula

    def curve_axes(self) -> dict[str, Any]:
        """Names of the curves and the axis they run along: {"channels": [...], "axis": {...}}."""
        return {"channels": list(self.channels), "axis": dict(self.axis)}

    def checks(self, prediction: Tensor) -> dict[str, Tensor]:
        """By how much each prediction breaks what physics allows; 0 where it keeps to it.

        Args:
            prediction: (N, *output_shape), shares of the incident power.

        Returns:
            Name of the rule -> (N,) excess >= 0 at the worst point of the axis. The four quadrants of a cell (2, 2, L)
            together may not exceed 1; of other curves none may.
        """
        total = prediction.sum(dim=(1, 2)) if self.output_shape[:-1] == (2, 2) else prediction
        return {
            "power is not negative": (-prediction.flatten(1)).clamp(min=0).amax(dim=1),
            "no more than the incident power": (total.flatten(1) - 1).clamp(min=0).amax(dim=1),
        }

    def setup(self, stage: str) -> None:
        """Compile the network in place, once: unlike `torch.compile(network)` this renames no weight.

        Not `configure_model`, which stands for layers that are made late: the moving average warns of it.
        """
        if self._compile and not self._compiled:
            self.network.compile()
            self._compiled = True

    def shared_step(self, batch: dict[str, Tensor], stage: str) -> dict[str, Any]:
        """Loss and prediction; a batch to predict may come without curves, and its loss is then NaN."""
        prediction = self.network(self._pixels(batch["image"]))
        target = batch["target"]
        known = stage != "predict" or target.shape == prediction.shape
        loss = self.loss(prediction, target) if known else torch.full((), torch.nan, device=prediction.device)
        return {"loss": loss, "prediction": prediction, "target": target, "sample_index": batch["sample_index"]}

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Loss and metrics on val."""
        outputs = super().validation_step(batch, batch_idx)
        self.metrics.update(outputs["prediction"].float(), outputs["target"])
        for name, metric in self.metrics.items():
            self.log(metric_key("val", name), metric, prog_bar=name == "r2")
        return outputs

    def _pixels(self, image: Tensor) -> Tensor:
        """uint8 0 and 1 as what the network sees; transported as bytes and widened on the device."""
        if image.dtype != torch.uint8:
            raise ValueError(
                f"image is {image.dtype}, allowed: uint8 with values 0 and 1; the network itself takes floats"
            )
        pixels = image.float()
        return 2.0 * pixels - 1.0 if self.map_to_pm1 else pixels

    def _check_axes(self) -> None:
        """Curves, names and points must be as many as each other."""
        num_curves, num_points = math.prod(self.output_shape[:-1]), self.output_shape[-1]
        if len(self.channels) != num_curves or len(self.axis["values"]) != num_points:
            raise ConfigError(
                f"output_shape is {list(self.output_shape)}, which is {num_curves} curves of {num_points} points, but "
                f"there are {len(self.channels)} names and {len(self.axis['values'])} points of the axis"
            )

    def _start_from(self, path: Path) -> str:
        """Take the final weights of a finished run; return which."""
        loaded = load_run(path)
        other = loaded.module
        if isinstance(other, SpectraRegressor) and other.map_to_pm1 != self.map_to_pm1:
            raise ConfigError(
                f"model.map_to_pm1 is {self.map_to_pm1}, but {loaded.run.path}, which model.init_from names, was "
                f"trained with {other.map_to_pm1}; set both the same"
            )
        try:
            self.load_weights(other.state_dict())
        except ValueError as error:
            raise CheckpointError(
                f"model.init_from: the weights of {loaded.run.path} do not fit this network ({error}); "
                "network, parameters and output_shape must be the same"
            ) from None
        return f"run {loaded.run.path.name}"


def _unit_of_errors(name: str, target_spread: float) -> float:
    if name not in ERROR_UNITS:
        raise ConfigError(f"model.error_unit is {name!r}; allowed are {', '.join(ERROR_UNITS)}")
    return target_spread if name == "spread" else 1.0
