"""A finished run opened again on its own test fold, and the pass over it with modules switched off."""

import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from projects.redheart.ablation.answers import StoryAnswers
from projects.redheart.tasks import SCORES
from shared.base_data import FoldedDataModule, Progress
from shared.errors import CheckpointError
from shared.final import final_sha256
from shared.instantiate import instantiate
from shared.ledger import Ledger
from shared.loading import LoadedRun, load_run
from shared.splits import write_splits

PROJECT = "redheart"


@dataclass(frozen=True, eq=False)
class OpenedRun:
    """A finished run with its data, the test fold open for the very network that it tested.

    Attributes:
        loaded: Final network and calibrator.
        datamodule: Its data, bound to the run's ledger.
        final_sha256: Hash of network and calibrator.
    """

    loaded: LoadedRun
    datamodule: FoldedDataModule
    final_sha256: str

    @property
    def analyzers(self) -> tuple[str, ...]:
        """Names of the analyzers that the network has, in their order."""
        analyzers = self.loaded.module.network.analyzers
        assert isinstance(analyzers, nn.ModuleDict)
        return tuple(analyzers)

    @property
    def switches(self) -> tuple[str, ...]:
        """Everything that the network can leave out of a pass: backbone and heads, then the analyzers."""
        return tuple(self.loaded.module.network.switches)  # type: ignore[arg-type]  # StoryNetwork.switches


def load_story_run(path: Path) -> LoadedRun:
    """The final network of a finished run of this project.

    Raises:
        ConfigError: If the folder is not a run directory.
        CheckpointError: If the run is not finished, or of another project.
    """
    loaded = load_run(path)
    if loaded.settings.project != PROJECT:
        raise CheckpointError(f"{path} is a run of the project {loaded.settings.project}, allowed: runs of {PROJECT}")
    return loaded


def build_datamodule(loaded: LoadedRun) -> FoldedDataModule:
    """The datamodule of a run's own configuration, not bound to a ledger."""
    settings = loaded.settings
    datamodule = instantiate(settings.plain["data"], "data", seed=settings.seed, cache_folder=settings.paths.cache)
    assert isinstance(datamodule, FoldedDataModule)
    return datamodule


def open_run(path: Path, progress: Progress) -> OpenedRun:
    """Open a finished run on its own test fold.

    Nothing of the run changes but its ledger, which records what is read. The test fold opens again for the very
    weights and calibrator that the run tested, and for no other.

    Args:
        path: Run directory or a link to it.
        progress: Shown while data are made or read.

    Raises:
        ConfigError: If the folder is not a run directory.
        CheckpointError: If the run is not finished, not tested, or of another project.
        LeakError: If the data or folds are not those of the run, or test was opened for other weights.
    """
    loaded = load_story_run(path)
    if loaded.run.done("test") is None:
        raise CheckpointError(f"{path} has not been tested; resume it first, with the stage test among its stages")
    datamodule = build_datamodule(loaded)
    datamodule.progress = progress
    ledger = Ledger(loaded.run.path, tuple(Path(parent) for parent in loaded.run.status()["parents"]))
    with tempfile.TemporaryDirectory() as folder:  # the ledger compares the hash of splits.csv, which stays as it is
        splits_hash = write_splits(Path(folder) / "splits.csv", datamodule.index, datamodule.fold)
    ledger.bind(datamodule.index, datamodule.fold, splits_hash)
    final = final_sha256(loaded.module.state_dict(), loaded.calibrator)
    ledger.open_test(final)
    datamodule.ledger = ledger
    return OpenedRun(loaded, datamodule, final)


@contextmanager
def switched_off(network: nn.Module, modules: Collection[str]) -> Iterator[None]:
    """Leave the contributions of some modules out of every forward pass in the block, by the network's own `off`."""
    names = tuple(modules)

    def add(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, kwargs | {"off": names}

    handle = network.register_forward_pre_hook(add, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def answer_test(opened: OpenedRun, off: Collection[str] = ()) -> StoryAnswers:
    """What the final network with its calibrator says about the test fold; see `answer_fold`."""
    return answer_fold(opened, "test", "test", off)


@torch.inference_mode()
def answer_fold(
    opened: OpenedRun,
    fold: str,
    purpose: str,
    off: Collection[str] = (),
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> StoryAnswers:
    """What the final network with its calibrator says about a fold.

    The calibrator is the one fitted behind the whole network, whatever is switched off.

    Args:
        opened: The run.
        fold: Name of the fold, not train.
        purpose: What the ledger is told.
        off: Modules whose contributions are left out.
        advance: Called with (batches done, batches in all).

    Returns:
        Answers in the order of the index.

    Raises:
        LeakError: If the ledger refuses.
    """
    loader = opened.datamodule.loader(fold, purpose)
    module = opened.loaded.module
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module.to(device)
    parts: dict[str, list[Tensor]] = {}
    with switched_off(module.network, off):
        for done, batch in enumerate(loader):
            outputs = module.predict_step(_to(batch, device), done)
            _keep(parts, outputs, batch, opened)
            advance(done + 1, len(loader))
    module.to("cpu")
    arrays = {key: torch.cat(values).numpy() for key, values in parts.items()}
    rows = arrays["rows"].astype(np.int64)
    tasks = {
        part: {task: arrays[f"{part}/{task}"] for task in SCORES if f"{part}/{task}" in arrays}
        for part in ("prediction", "target", "mask")
    }
    group = opened.datamodule.index.group[rows].astype(np.int64)
    return StoryAnswers(rows, group, arrays["probs"], arrays["label"].astype(np.int64), **tasks).sorted_by_row()


def _keep(parts: dict[str, list[Tensor]], outputs: dict[str, Any], batch: Any, opened: OpenedRun) -> None:
    """Add one batch's calibrated probabilities and the numbers of the other tasks."""
    logits = outputs["logits"].detach().cpu().double()
    if opened.loaded.calibrator is not None:
        logits = opened.loaded.calibrator.module(logits, batch.get("domain"))
    found = {"probs": logits.softmax(dim=1), "label": outputs["target"], "rows": outputs["sample_index"]}
    for task in SCORES:
        if task in outputs["heads"]:
            head = outputs["heads"][task]
            found[f"prediction/{task}"] = head["prediction"].double()
            found[f"target/{task}"] = head["target"].double()
            found[f"mask/{task}"] = head["mask"].bool()
    for key, values in found.items():
        parts.setdefault(key, []).append(values.detach().cpu())


def _to(batch: Any, device: torch.device) -> Any:
    """A batch with all its tensors on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {key: _to(value, device) for key, value in batch.items()}
    return batch


def check_against_run(opened: OpenedRun, full: StoryAnswers) -> None:
    """Refuse to go on where the network with everything does not say what the run's own test said.

    Raises:
        CheckpointError: Naming a story.
    """
    from projects.redheart.people.predictions import read_predictions

    said = read_predictions(opened.loaded.run.path)
    index = opened.datamodule.index
    for place, row in enumerate(full.rows.tolist()):
        sample_id = index.ids[row]
        theirs = said.probs.get(sample_id)
        if theirs is None or np.abs(theirs - full.probs[place]).max() > 1e-3:
            raise CheckpointError(
                f"the network does not say about {sample_id!r} what predictions.csv of {opened.loaded.run.path} holds; "
                "code, encoder or data have changed since the run's test: run the training again"
            )
