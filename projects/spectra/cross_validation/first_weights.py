"""The network whose weights the rounds begin with: which run it is, and what it says without training here."""

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, open_dict

from projects.spectra.data.datamodule import CurveDataModule
from projects.spectra.predict import load_regressor

INIT_ROW = "init_as_it_is"
BATCH = 128


def with_fixed_origin(config: DictConfig) -> DictConfig:
    """Return the configuration with `model.init_from` as the folder itself, where it is a link such as `latest`.

    Each round ends with a new `latest`, so the second round would begin with the weights of the first, which was
    trained on what the second tests.
    """
    own = config.copy()
    if own.model.get("init_from") is None:
        return own
    path = Path(str(own.model.init_from)).resolve()
    inside = path.is_relative_to(Path.cwd())
    with open_dict(own):
        # A short path below the working folder keeps a moved checkout's rounds recognisable.
        own.model.init_from = os.path.relpath(path) if inside else str(path)
    return own


def init_as_it_is(path: Path, datamodule: CurveDataModule) -> NDArray[np.float64]:
    """What those weights say about every sample without any training here, (N, *output_shape) float64.

    Raises:
        DataError: If the network predicts something else than the data set holds.
        CheckpointError: If the run is not finished.
    """
    loaded, module = load_regressor(path)
    datamodule.align(module.hparams)
    rows = np.arange(len(datamodule.index))
    parts = [
        loaded.predict({"image": torch.from_numpy(datamodule.pictures(rows[start : start + BATCH]))[:, None]})
        for start in range(0, len(rows), BATCH)
    ]
    return torch.cat(parts).numpy().astype(np.float64)
