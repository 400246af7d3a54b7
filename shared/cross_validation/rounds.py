"""The rounds: ordinary runs of the engine, each tested on another part of the data; finished ones are found again."""

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from omegaconf import DictConfig, OmegaConf, open_dict

from shared.atomic import replacing
from shared.config import Settings, check_config
from shared.curve_scores import CurveAxes
from shared.engine import fit
from shared.errors import ConfigError, DataError, RunInterrupted
from shared.found_runs import Verdict, by_state, find_same_run
from shared.instantiate import resolve_target
from shared.report.outputs import CurveOutputs, TestOutputs
from shared.run_dir import RunDirectory

ROWS_FILE = "test_rows.npz"
"""In a round's run directory: what every row of its table says, where predictions.csv has only what final says."""

Say = Callable[[str], None]


def check_usage(settings: Settings, instead: str) -> None:
    """Refuse what makes no cross-validation.

    Args:
        settings: Of the command.
        instead: Which data or experiments have rounds, in words, for the message.

    Raises:
        ConfigError: Naming the key.
    """
    data = settings.plain["data"]
    if "cross_validation_fold" not in data:
        raise ConfigError(
            f"data._target_ is {data['_target_']}, which has no rounds of a cross-validation; use {instead}"
        )
    if data["cross_validation_fold"] is not None:
        raise ConfigError(
            f"data.cross_validation_fold is {data['cross_validation_fold']}; cross_validate sets it for each round: "
            "leave it out"
        )
    if settings.resume is not None:
        raise ConfigError(f"resume is {settings.resume}; cross_validate finds its rounds by itself: leave it out")
    lacking = [stage for stage in ("fit", "test") if stage not in settings.stages]
    if lacking:
        raise ConfigError(f"stages lacks {' and '.join(lacking)}, without which a round predicts nothing")


def num_rounds(settings: Settings) -> int:
    """Return how many rounds there are: the class attribute NUM_CV_FOLDS of the configured datamodule."""
    return int(resolve_target(settings.plain["data"], "data").NUM_CV_FOLDS)


def round_config(config: DictConfig, number: int) -> DictConfig:
    """Return the configuration of one round; only the first audits, since their samples are nearly the same."""
    own = config.copy()
    with open_dict(own):
        own.experiment = f"{config.experiment}-round{number}"
        own.data.cross_validation_fold = number
        own.stages = [stage for stage in config.stages if stage != "audit" or number == 0]
    return own


def run_rounds(config: DictConfig, overrides: tuple[str, ...], say: Say, quiet: bool = False) -> list[RunDirectory]:
    """Train and test every round that is not finished yet; an interrupted one goes on where it stopped.

    Returns:
        The runs, in the order of the rounds.

    Raises:
        RunInterrupted: A signal stopped a round; the same call goes on with it.
        UserError: What a round raises.
    """
    runs = []
    count = num_rounds(check_config(config))
    for number in range(count):
        own = round_config(config, number)
        found = find_same_run(check_config(own), _judged)
        if found is not None and found.is_finished:
            say(f"round {number + 1} of {count}: done before, {found.run.path}")
            runs.append(found.run)
            continue
        say(f"round {number + 1} of {count}: " + ("starts" if found is None else f"goes on with {found.run.path}"))
        own.resume = None if found is None else str(found.run.path)
        runs.append(_run_round(own, overrides, quiet))
    return runs


def _run_round(own: DictConfig, overrides: tuple[str, ...], quiet: bool) -> RunDirectory:
    """Run one round; its network and its loaders are gone when this returns."""
    try:
        result = fit(own, overrides=overrides, quiet=quiet)
    except RunInterrupted as error:
        raise RunInterrupted(error.signum, f"{error}, or give the same cross_validate command again") from error
    assert result.outputs is not None  # stages hold test
    save_rows(result.run.path / ROWS_FILE, result.outputs)
    return result.run


def _judged(run: RunDirectory, status: Mapping[str, Any]) -> Verdict:
    """A round counts with the rows of its table; without, they cannot be had again without opening test again."""
    verdict = by_state(run, status)
    return "other" if verdict == "finished" and not (run.path / ROWS_FILE).is_file() else verdict


def save_rows(path: Path, outputs: TestOutputs | CurveOutputs, **more: ArrayLike) -> None:
    """Write what every row says, the targets and the rows of the index, atomically.

    Args:
        path: The file, .npz.
        outputs: Of classes: arrays `probs/<row>`; of curves: `curves/<row>`, and `axes`, a JSON text of what their
            dimensions mean.
        more: Further arrays, which `load_rows` passes over.
    """
    arrays: dict[str, ArrayLike] = {"target": outputs.target, "rows": outputs.rows, **more}
    if isinstance(outputs, TestOutputs):
        arrays |= {f"probs/{name}": values for name, values in outputs.probs.items()}
    else:
        axes = {
            "channels": list(outputs.axes.channels),
            "axis": outputs.axes.axis_dict(),
            "sample_shape": list(outputs.sample_shape),
        }
        arrays |= {f"curves/{name}": values for name, values in outputs.predictions.items()}
        arrays["axes"] = np.array(json.dumps(axes))
    plain: dict[str, NDArray[Any]] = {name: np.asarray(values) for name, values in arrays.items()}
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **plain)


def load_rows(path: Path) -> TestOutputs | CurveOutputs:
    """Read what `save_rows` wrote.

    Raises:
        DataError: If the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
        if "axes" not in arrays:
            probs = _below("probs/", arrays)
            return TestOutputs(probs=probs, target=arrays["target"], rows=arrays["rows"])
        axes = json.loads(str(arrays["axes"]))
        shape = tuple(int(size) for size in axes["sample_shape"])
        curves = _below("curves/", arrays)
        return CurveOutputs(curves, arrays["target"], arrays["rows"], CurveAxes.from_dict(axes), shape)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is missing or damaged ({error}); remove its run to have the round made anew"
        ) from error


def _below(prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}


def as_yaml(config: DictConfig) -> str:
    """The configuration as config.yaml holds it."""
    return OmegaConf.to_yaml(config, resolve=True)
