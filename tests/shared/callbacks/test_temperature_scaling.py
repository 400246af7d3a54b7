import json
import logging

import lightning
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from shared.calibrators import load_calibrator
from shared.callbacks import temperature_scaling
from shared.callbacks.crossover import ParameterCrossover
from shared.callbacks.sweet_spot import SweetSpotCheckpoint
from shared.callbacks.temperature_scaling import TemperatureScaling
from shared.errors import ConfigError, DataError, LeakError, TrainingError
from shared.loader_overlap import refuse_shared_samples
from shared.sample_losses import widen
from tests.shared.calibrators.samples import planted

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class PlainModule(lightning.LightningModule):
    """Somebody else's module: no base class of ours, and over-confident by a factor of 3."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))
        self.dropout = nn.Dropout(0.5)

    def validation_step(self, batch, batch_idx):
        inputs, target = batch
        logits = self.dropout(self.scale * inputs)
        loss = nn.functional.cross_entropy(logits, target)
        self.log("val/loss", loss)
        return {"loss": loss, "logits": logits, "target": target}

    def training_step(self, batch, batch_idx):
        return self.validation_step(batch, batch_idx)["loss"]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Head(PlainModule):
    """Returns whatever the test wants."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def predict_step(self, batch, batch_idx):
        return self.outputs(batch)


class Coded(Dataset):
    """Samples as dicts that carry their row and group in an index, and a domain."""

    def __init__(self, rows, num_groups=40, temperature=1.0):
        self.inputs, self.target = (table.float() if table.is_floating_point() else table for table in samples(4000))
        self.rows, self.num_groups, self.temperature = list(rows), num_groups, temperature

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, place):
        row = self.rows[place]
        inputs = self.inputs[row] * (self.temperature if row % 2 else 1.0)
        return {
            "image": inputs, "target": self.target[row], "sample_index": row, "group_index": row // 20,
            "domain": row % 2,
        }  # fmt: skip


class CodedModule(PlainModule):
    def validation_step(self, batch, batch_idx):
        return super().validation_step((batch["image"], batch["target"]), batch_idx)


def samples(number, seed=0):
    return planted(number, 3, 1.0, seed)


def loader(number=600, seed=0, batch_size=64):
    inputs, target = samples(number, seed)
    return DataLoader(TensorDataset(inputs.float(), target), batch_size=batch_size)


def fit(folder, callback, module=None, train=None, val=None, datamodule=None, before=(), behind=(), **settings):
    trainer = lightning.Trainer(
        max_epochs=1, limit_train_batches=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        callbacks=[*before, callback, *behind], **settings,
    )  # fmt: skip
    module = module or PlainModule()
    if datamodule is not None:
        trainer.fit(module, datamodule=datamodule)
    else:
        trainer.fit(module, train or loader(seed=1), val or loader(seed=2))
    return module


def test_three_lines_in_a_plain_trainer(tmp_path):
    callback = TemperatureScaling(calibrate=loader(seed=3))
    module = fit(tmp_path, callback)
    content = json.loads((tmp_path / "calibration.json").read_text())
    assert (content["schema"], content["method"], content["n"], content["groups"]) == (1, "temperature", 600, 600)
    assert content["temperature"] == pytest.approx(
        3.0, rel=0.15
    )  # dropout would spoil it: the network was in eval mode
    assert content["after"]["ece"]["value"] < content["before"]["ece"]["value"]
    assert set(content["before"]) == {
        "ece", "classwise_ece", "adaptive_ece", "brier", "nll", "confidence_right", "confidence_wrong",
    }  # fmt: skip
    assert set(content["cv"]) == {"identity", "temperature", "platt", "isotonic"}
    loaded = load_calibrator(tmp_path / "calibrator.safetensors")
    assert float(loaded.temperature) == content["temperature"] == float(callback.calibrator.temperature)
    assert module.training
    assert "log" not in vars(module)


def test_dirpath_and_datamodule(tmp_path):
    class Data(lightning.LightningDataModule):
        def train_dataloader(self):
            return loader(seed=1)

        def val_dataloader(self):
            return loader(seed=2)

        def calibrate_dataloader(self):
            return loader(seed=3)

    fit(tmp_path / "root", TemperatureScaling(dirpath=str(tmp_path / "here")), datamodule=Data())
    assert (tmp_path / "here" / "calibrator.safetensors").is_file()
    assert not (tmp_path / "root" / "calibrator.safetensors").exists()


def test_groups_and_domains_are_taken_from_the_batch(tmp_path):
    ours = DataLoader(Coded(range(0, 2000), temperature=4.0), batch_size=100)
    val = DataLoader(Coded(range(2000, 2400)), batch_size=100)
    callback = TemperatureScaling(calibrate=ours)
    fit(tmp_path, callback, CodedModule(), train=val, val=val)
    assert callback.choice.num_groups == 100
    assert callback.choice.method == "domain_temperature"
    assert callback.choice.per_group["1"]["own_temperature"] == pytest.approx(12.0, rel=0.2)
    without = TemperatureScaling(calibrate=ours, per_domain=False)
    fit(tmp_path, without, CodedModule(), train=val, val=val)
    assert "domain_temperature" not in without.choice.cv


def test_without_samples_it_says_how_to_give_them(tmp_path):
    with pytest.raises(ConfigError, match="give it calibrate=<loader>, or the datamodule a calibrate_dataloader"):
        fit(tmp_path, TemperatureScaling())


def test_switched_off_at_fit_end_nothing_happens(tmp_path):
    fit(tmp_path, TemperatureScaling(at_fit_end=False))
    assert list(tmp_path.iterdir()) == []


# -- leaks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train", "val"])
def test_another_loader_is_refused(tmp_path, name):
    same = loader(seed=2)
    with pytest.raises(LeakError, match=f"the calibrate loader is the {name} loader itself"):
        fit(tmp_path, TemperatureScaling(calibrate=same), **{name: same})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["train", "val"])
def test_the_dataset_of_another_loader_is_refused(tmp_path, name):
    same = loader(seed=2)
    with pytest.raises(LeakError, match=f"shares its dataset with the {name} loader"):
        fit(tmp_path, TemperatureScaling(calibrate=DataLoader(same.dataset, batch_size=10)), **{name: same})


def test_one_of_several_val_loaders_is_refused(tmp_path):
    class Several(PlainModule):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            return super().validation_step(batch, batch_idx)

    same = loader(seed=2)
    with pytest.raises(LeakError, match="is the val loader itself"):
        fit(tmp_path, TemperatureScaling(calibrate=same), Several(), val=[loader(seed=4), same])


def test_overlapping_subsets_are_refused_and_disjoint_ones_are_not(tmp_path):
    whole = loader(900).dataset
    val = DataLoader(Subset(whole, range(300)), batch_size=100)
    nested = Subset(Subset(whole, range(250, 900)), range(600))  # rows 250 to 849
    with pytest.raises(LeakError, match="shares 50 samples of one dataset with the val loader"):
        fit(tmp_path, TemperatureScaling(calibrate=DataLoader(nested, batch_size=100)), val=val)
    fit(tmp_path, TemperatureScaling(calibrate=DataLoader(Subset(whole, range(300, 900)), batch_size=100)), val=val)
    assert (tmp_path / "calibrator.safetensors").is_file()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (range(390, 800), r"shares 10 values of sample_index \(for example 390\) with the val loader"),
        (range(401, 800), r"shares 1 values of group_index \(for example 20\) with the val loader"),
    ],
)
def test_shared_samples_and_groups_are_refused(tmp_path, rows, message):
    val = DataLoader(Coded(range(0, 400 if rows[0] < 400 else 401)), batch_size=100)
    train = DataLoader(Coded(range(3000, 3100)), batch_size=100)
    ours = DataLoader(Coded(rows))
    with pytest.raises(LeakError, match=message):
        fit(tmp_path, TemperatureScaling(calibrate=ours), CodedModule(), train=train, val=val)
    with pytest.raises(LeakError, match=message.replace("the val", "the train")):
        fit(tmp_path, TemperatureScaling(calibrate=ours), CodedModule(), train=val, val=train)


def test_the_accept_samples_of_a_crossover_are_refused(tmp_path):
    whole = loader(900).dataset
    crossover = ParameterCrossover(accept=DataLoader(Subset(whole, range(300)), batch_size=100))
    callback = TemperatureScaling(calibrate=DataLoader(Subset(whole, range(290, 900)), batch_size=100))
    with pytest.raises(LeakError, match="the accept loader shares 10 samples of one dataset with the calibrate loader"):
        fit(tmp_path, callback, before=[SweetSpotCheckpoint(), crossover])  # before the search, not after it
    with pytest.raises(LeakError, match="the calibrate loader shares 10 samples of one dataset with the accept loader"):
        refuse_shared_samples("calibrate", callback.kept_loader(lightning.Trainer())[1], {"accept": crossover.accept})


def test_a_test_on_the_calibrate_samples_is_refused(tmp_path):
    class Tested(PlainModule):
        def test_step(self, batch, batch_idx):
            return self.validation_step(batch, batch_idx)

    kept = loader(seed=3)
    module = fit(tmp_path, TemperatureScaling(calibrate=kept), Tested())
    module.trainer.test(module, loader(seed=4), verbose=False)
    with pytest.raises(LeakError, match="the calibrate loader is the test loader itself"):
        module.trainer.test(module, kept, verbose=False)


# -- which weights ------------------------------------------------------------------------------------------------


def test_a_crossover_behind_it_is_refused(tmp_path):
    sweet_spot, kept = SweetSpotCheckpoint(), loader(seed=3)
    with pytest.raises(ConfigError, match=r"stands before ParameterCrossover .* put it behind"):
        fit(tmp_path, TemperatureScaling(calibrate=kept), behind=[sweet_spot, ParameterCrossover()])
    engine = [SweetSpotCheckpoint(at_fit_end=False), ParameterCrossover(at_fit_end=False)]
    fit(tmp_path, TemperatureScaling(at_fit_end=False), behind=engine)  # the engine has an order of its own


def test_without_a_crossover_it_says_once_which_weights(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(temperature_scaling, "rank_zero_info", said.append)
    fit(tmp_path, TemperatureScaling(calibrate=loader(60, seed=3)))
    (sentence,) = said
    assert "calibrates the weights that the module holds at the end of the fit, not those of the best" in sentence
    crossed = [SweetSpotCheckpoint(), ParameterCrossover()]
    fit(tmp_path, TemperatureScaling(calibrate=loader(seed=3)), before=crossed, fast_dev_run=True)
    assert len(said) == 1


def test_a_trial_run_leaves_an_earlier_fits_files_alone(tmp_path):
    for name in ("calibrator.safetensors", "calibration.json"):
        (tmp_path / name).write_bytes(b"of an earlier fit")
    callback = TemperatureScaling(calibrate=loader(seed=3))
    fit(tmp_path, callback, fast_dev_run=True)
    assert callback.choice is None
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"of an earlier fit"}


# -- what heads return --------------------------------------------------------------------------------------------


def test_point_predictions_do_not_apply(tmp_path):
    module = Head(lambda batch: {"prediction": batch[0][:, 0], "target": batch[0][:, 1]})
    callback = TemperatureScaling(calibrate=loader(seed=3))
    (tmp_path / "calibrator.safetensors").write_bytes(b"of an earlier fit")
    fit(tmp_path, callback, module)
    content = json.loads((tmp_path / "calibration.json").read_text())
    assert content["method"] == "does not apply"
    assert "point predictions without a variance" in content["reason"]
    assert not (tmp_path / "calibrator.safetensors").exists()


def test_stated_variances_are_scaled(tmp_path):
    def outputs(batch):
        mean = batch[0][:, 0]
        return {"prediction": mean, "variance": torch.full_like(mean, 0.25), "target": mean + batch[0][:, 1]}

    fit(tmp_path, TemperatureScaling(calibrate=loader(4000, seed=3)), Head(outputs))
    content = json.loads((tmp_path / "calibration.json").read_text())
    assert content["method"] == "variance"
    assert content["variance_scale"] == pytest.approx(1.5**2 / 0.25, rel=0.1)  # inputs are normal with deviation 1.5
    assert float(load_calibrator(tmp_path / "calibrator.safetensors").scale) == content["variance_scale"]


@pytest.mark.parametrize(("columns", "dtype"), [(slice(1, 2), torch.int64), (1, torch.float32)], ids=["(B, 1)", "(B,)"])
def test_a_binary_head_with_one_logit(tmp_path, columns, dtype):
    inputs, target = planted(600, 2, 1.0, seed=3)
    inputs = (inputs - inputs[:, :1]).float()  # (0, z)
    data = DataLoader(TensorDataset(inputs, target), batch_size=64)
    one = Head(lambda batch: {"logits": 3 * batch[0][:, columns], "target": batch[1].to(dtype)})
    callback = TemperatureScaling(calibrate=data, methods=["temperature"])
    fit(tmp_path, callback, one)
    two = TemperatureScaling(methods=["temperature"]).run(3 * inputs, target, np.arange(600), domain_names=())
    assert callback.choice.as_dict() == two.as_dict()
    assert callback.choice.temperature == pytest.approx(3.0, rel=0.15)
    stated = torch.tensor([[3.0], [-6.0]])
    calibrated = callback.calibrator(widen(stated))
    torch.testing.assert_close(calibrated[:, 1:] - calibrated[:, :1], stated / callback.choice.temperature)


def test_one_hot_targets_are_classes(tmp_path):
    hot = Head(lambda b: {"logits": 3 * b[0], "target": nn.functional.one_hot(b[1], 3).float()})
    callback = TemperatureScaling(calibrate=loader(200, seed=3))
    fit(tmp_path, callback, hot)
    assert callback.choice.method == "temperature"


def test_doubtful_logits_are_told(tmp_path):
    small = Head(lambda b: {"logits": b[0].relu() / 100, "target": b[1]})
    with pytest.warns(UserWarning, match="TemperatureScaling: every logit lies between 0 and 1"):
        fit(tmp_path, TemperatureScaling(calibrate=loader(seed=3)), small)


@pytest.mark.parametrize(
    ("outputs", "error", "message"),
    [
        (
            lambda b: {"logits": b[0], "target": b[0].softmax(1)},
            TrainingError,
            r"target \(600, 3\) that is not one-hot",
        ),
        (lambda b: {"logits": b[0] * torch.nan, "target": b[1]}, DataError, "logits are not finite"),
        (lambda b: {"logits": b[0].softmax(1), "target": b[1]}, DataError, "logits look like probabilities"),
        (lambda b: {"logits": {"a": b[0]}, "target": b[1]}, TrainingError, "returns no tensor under logits"),
    ],
)
def test_bad_outputs_are_named(tmp_path, outputs, error, message):
    with pytest.raises(error, match=message):
        fit(tmp_path, TemperatureScaling(calibrate=loader(seed=3)), Head(outputs))


def test_an_empty_loader_is_named(tmp_path):
    empty = DataLoader(TensorDataset(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)))
    with pytest.raises(TrainingError, match="gives no batch"):
        fit(tmp_path, TemperatureScaling(calibrate=empty))


# -- run ----------------------------------------------------------------------------------------------------------


def test_equal_inputs_give_equal_bytes(tmp_path):
    logits, target = planted(800, 3, 2.0, seed=5)
    group = np.arange(800) // 20
    for name in ("a", "b"):
        folder = tmp_path / name
        choice = TemperatureScaling(seed=1).run(
            logits=logits, target=target, group=group, domain=group % 2, domain_names=("cell", "module"), folder=folder
        )
        assert choice.method == "temperature"
    for file in ("calibrator.safetensors", "calibration.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("settings", [{"folds": 1}, {"methods": ["beta"]}, {"isotonic_min_per_class": 0}])
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        TemperatureScaling(**settings)
