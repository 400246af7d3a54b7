"""Samples kept for one decision in a foreign Trainer: where they come from, that nothing else was made with them."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from lightning import Callback, Trainer
from lightning.pytorch.utilities import CombinedLoader
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Subset

from shared.errors import LeakError

_KEYS = ("sample_index", "group_index")


@runtime_checkable
class KeepsLoader(Protocol):
    """A callback that decides something on samples of its own."""

    def kept_loader(self, trainer: Trainer) -> tuple[str, Any]:
        """What the samples are called, and their loader; None where there is none."""


def loader_of(trainer: Trainer, given: Any, name: str) -> Any:
    """The loader given to the callback, otherwise the datamodule's `<name>_dataloader()`, None without either."""
    if given is not None:
        return given
    make = getattr(getattr(trainer, "datamodule", None), f"{name}_dataloader", None)
    return None if make is None else make()


def other_loaders(trainer: Trainer, own: Callback) -> dict[str, Any]:
    """What a callback's own samples must have nothing in common with, by name.

    That is what the trainer fits and validates on, what it has tested on already, and what other callbacks keep.
    """
    found = {"train": trainer.train_dataloader, "val": trainer.val_dataloaders, "test": trainer.test_dataloaders}
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    kept = [each.kept_loader(trainer) for each in callbacks if each is not own and isinstance(each, KeepsLoader)]
    return found | dict(kept)


def refuse_shared_samples(name: str, loader: Any, others: Mapping[str, Any]) -> None:
    """Refuse a loader that has samples or groups in common with another one.

    Compared are the loaders themselves, their datasets (a `Subset` by its rows), and `sample_index` and `group_index`
    where the batches of both sides have them; each loader is read once for it, but one without a length, which may be
    endless, not at all.

    Args:
        name: What the samples are called, for example "calibrate".
        loader: Of these samples.
        others: Name -> None, a loader, a collection or Lightning's combination of several.

    Raises:
        LeakError: Names the loader, what is shared and how much of it.
    """
    remedy = "give it samples that nothing else was made with"
    rows, singles = _rows(loader), [(other_name, other) for other_name in others for other in _each(others[other_name])]
    for other_name, other in singles:
        if other is loader:
            raise LeakError(f"the {name} loader is the {other_name} loader itself; {remedy}")
        shared = _overlap(rows, _rows(other))
        if shared:
            raise LeakError(f"the {name} loader shares {shared} with the {other_name} loader; {remedy}")
    ours = _codes(loader)
    for other_name, other in singles if ours else []:
        theirs = _codes(other)
        for key in (key for key in _KEYS if key in ours and key in theirs):  # in this order in every process
            both = np.intersect1d(ours[key], theirs[key])
            if len(both):
                raise LeakError(
                    f"the {name} loader shares {len(both)} values of {key} (for example {both[0]}) with the "
                    f"{other_name} loader; {remedy}"
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
    """The sample and group codes in a loader's batches; empty if they do not carry any or may have no end."""
    try:
        len(loader)
    except TypeError:
        return {}
    parts: dict[str, list[NDArray[np.int64]]] = {}
    for batch in loader:
        if not isinstance(batch, Mapping):
            return {}
        found = {key: batch[key].cpu().numpy().astype(np.int64) for key in _KEYS if isinstance(batch.get(key), Tensor)}
        if not found:
            return {}
        for key, values in found.items():
            parts.setdefault(key, []).append(values.reshape(-1))
    return {key: np.unique(np.concatenate(values)) for key, values in parts.items()}
