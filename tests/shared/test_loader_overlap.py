import pytest
import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import DataLoader, IterableDataset

from shared.errors import LeakError
from shared.loader_overlap import KeepsLoader, loader_of, refuse_shared_samples


def coded(first, last, key="sample_index"):
    return DataLoader([{key: number, "x": float(number)} for number in range(first, last)], batch_size=4)


class Endless(IterableDataset):
    def __iter__(self):
        number = 0
        while True:
            yield {"sample_index": number}
            number += 1


@pytest.mark.parametrize(
    "wrap", [lambda one: one, lambda one: [one], lambda one: {"a": [one]}, lambda one: CombinedLoader({"a": one})]
)
def test_a_loader_is_found_wherever_a_trainer_holds_it(wrap):
    ours = coded(0, 10)
    with pytest.raises(LeakError, match="the accept loader is the val loader itself; give it samples that nothing"):
        refuse_shared_samples("accept", ours, {"train": None, "val": wrap(ours)})


@pytest.mark.parametrize("key", ["sample_index", "group_index"])
def test_codes_are_compared_by_name(key):
    ours = coded(0, 10, key)
    message = rf"the accept loader shares 3 values of {key} \(for example 7\) with the test loader"
    with pytest.raises(LeakError, match=message):
        refuse_shared_samples("accept", ours, {"test": coded(7, 20, key)})
    refuse_shared_samples("accept", ours, {"test": coded(10, 20, key), "train": coded(7, 20, "another")})


def test_batches_without_codes_and_endless_ones_are_not_read():
    ours = coded(0, 10)
    refuse_shared_samples("accept", ours, {"train": DataLoader(Endless(), batch_size=4)})
    refuse_shared_samples("accept", ours, {"train": DataLoader(torch.zeros(8, 2), batch_size=4)})
    refuse_shared_samples("accept", DataLoader(torch.zeros(8, 2)), {"train": ours})


def test_the_loader_given_comes_before_the_datamodules():
    class Data(LightningDataModule):
        def accept_dataloader(self):
            return "the datamodule's"

    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    assert loader_of(trainer, None, "accept") is None
    trainer.datamodule = Data()
    assert loader_of(trainer, None, "accept") == "the datamodule's"
    assert loader_of(trainer, None, "calibrate") is None
    assert loader_of(trainer, "given", "accept") == "given"


def test_what_keeps_a_loader_is_known_by_its_method():
    class Keeper:
        def kept_loader(self, trainer):
            return "ranking", None

    assert isinstance(Keeper(), KeepsLoader)
    assert not isinstance(object(), KeepsLoader)
