"""The samples a foreign Trainer calibrates on: where they come from, and that nothing else was made with them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from lightning import Trainer
from lightning.pytorch.utilities import CombinedLoader
from numpy.typing import NDArray
from torch.utils.data import Subset

from shared.errors import ConfigError, LeakError

_KEYS = ("sample_index", "group_index")


def find_loader(trainer: Trainer, given: Any) -> Any:
    """The calibrate loader: the one given, otherwise the datamodule's `calibrate_dataloader()`.

    Raises:
        ConfigError: If there is neither.
    """
    if given is not None:
        return given
    make = getattr(getattr(trainer, "datamodule", None), "calibrate_dataloader", None)
    if make is None:
        raise ConfigError(
            "TemperatureScaling has no samples: give it calibrate=<loader>, or the datamodule a calibrate_dataloader()"
        )
    return make()


def refuse_shared_samples(trainer: Trainer, loader: Any) -> None:
    """Refuse a loader whose samples the trainer fits, validates or tests on.

    Compared are the loaders themselves, their datasets (a `Subset` by its rows), and with the validation samples, whose
    batches are read once for it, `sample_index` and `group_index` where both sides have them. The training samples are
    compared by dataset only.

    Raises:
        LeakError: Names the loader, what is shared and how much of it.
    """
    rows = _rows(loader)
    loaders = {"train": trainer.train_dataloader, "val": trainer.val_dataloaders, "test": trainer.test_dataloaders}
    remedy = "calibrate on samples that nothing else was made with"
    for name, other in ((name, other) for name, found in loaders.items() for other in _each(found)):
        if other is loader:
            raise LeakError(f"the calibrate loader is the {name} loader itself; {remedy}")
        shared = _overlap(rows, _rows(other))
        if shared:
            raise LeakError(f"the calibrate loader shares {shared} with the {name} loader; {remedy}")
    ours = _codes(loader)
    if not ours:
        return
    for other in _each(loaders["val"]):
        theirs = _codes(other)
        for key in (key for key in _KEYS if key in ours and key in theirs):  # in this order in every process
            both = np.intersect1d(ours[key], theirs[key])
            if len(both):
                raise LeakError(
                    f"the calibrate loader shares {len(both)} values of {key} (for example {both[0]}) with the val "
                    f"loader; {remedy}"
                )


def _each(loaders: Any) -> Iterator[Any]:
    """The single loaders in what a Trainer holds: None, one, a collection or Lightning's combination of several."""
    if isinstance(loaders, CombinedLoader):
        yield from loaders.flattened
    elif isinstance(loaders, Mapping):
        for part in loaders.values():
            yield from _each(part)
    elif isinstance(loaders, list | tuple):
        for part in loaders:
            yield from _each(part)
    elif loaders is not None:
        yield loaders


def _rows(loader: Any) -> tuple[Any, NDArray[np.int64] | None]:
    """The dataset below all subsets, and the rows of it that are used, None for all."""
    dataset, rows = getattr(loader, "dataset", None), None
    while isinstance(dataset, Subset):
        indices = np.asarray(dataset.indices, dtype=np.int64)
        rows = indices if rows is None else indices[rows]
        dataset = dataset.dataset
    return dataset, rows


def _overlap(ours: tuple[Any, NDArray[np.int64] | None], theirs: tuple[Any, NDArray[np.int64] | None]) -> str | None:
    """What two loaders have in common, in words."""
    if ours[0] is None or ours[0] is not theirs[0]:
        return None
    if ours[1] is None or theirs[1] is None:
        return "its dataset"
    both = np.intersect1d(ours[1], theirs[1])
    return f"{len(both)} samples of one dataset" if len(both) else None


def _codes(loader: Any) -> dict[str, NDArray[np.int64]]:
    """The sample and group codes in a loader's batches; empty if its batches do not carry them."""
    parts: dict[str, list[NDArray[np.int64]]] = {}
    for batch in loader:
        if not isinstance(batch, Mapping):
            return {}
        found = {key: batch[key].cpu().numpy().astype(np.int64) for key in _KEYS if key in batch}
        if not found:
            return {}
        for key, values in found.items():
            parts.setdefault(key, []).append(values)
    return {key: np.unique(np.concatenate(values)) for key, values in parts.items()}
