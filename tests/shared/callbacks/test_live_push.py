import base64
import json

import lightning as L
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from shared import engine
from shared.callbacks.live_push import LivePush, sample_data
from shared.events import EventWriter, read_events
from tests.fabricate import plain_fit
from tests.fabricate.battery_run import tiny_run

DEAD = "http://127.0.0.1:9"
AXIS = {"name": "wavelength", "unit": "nm", "values": [400.0, 550.0, 700.0]}


class Curves(L.LightningModule):
    """Predicts two curves from a picture."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(16, 6)

    def curve_axes(self):
        return {"channels": ["x", "y"], "axis": AXIS}

    def formula(self):
        return r"\mathcal{L}"

    def loss(self, batch):
        prediction = self.linear(batch["image"].float().flatten(1)).view(-1, 2, 3)
        return torch.nn.functional.mse_loss(prediction, batch["target"]), prediction

    def training_step(self, batch, batch_idx):
        return self.loss(batch)[0]

    def validation_step(self, batch, batch_idx):
        loss, prediction = self.loss(batch)
        self.log("val/loss", loss)
        return {"loss": loss, "prediction": prediction, "target": batch["target"]}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def loader():
    generator = torch.Generator().manual_seed(0)
    samples = [
        {
            "image": (torch.rand(1, 4, 4, generator=generator) > 0.5).to(torch.uint8),
            "target": torch.rand(2, 3, generator=generator),
        }
        for _ in range(10)
    ]
    return DataLoader(samples, batch_size=3)


def fit(folder, callback, loader, module=None, **settings):
    trainer = L.Trainer(
        max_epochs=3, default_root_dir=folder, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, callbacks=[callback], **settings,
    )  # fmt: skip
    module = module or Curves()
    trainer.fit(module, loader, loader)
    return module


def of_kind(path, kind):
    return [event for event in read_events(path) if event["kind"] == kind]


def test_somebody_elses_project_gets_its_events_without_an_engine(tmp_path, loader):
    fit(tmp_path / "run", LivePush(DEAD), loader)
    path = tmp_path / "run" / "events.jsonl"
    (start,) = of_kind(path, "start")
    assert start["data"]["max_epochs"] == 3
    assert start["data"]["batches_per_epoch"] == 4
    assert start["data"]["model"] == {"class": "Curves", "parameters": "102"}
    assert start["data"]["formula"] == r"\mathcal{L}"
    assert of_kind(path, "step")
    epochs = of_kind(path, "epoch")
    assert [event["epoch"] for event in epochs] == [0, 1, 2]
    assert set(epochs[0]["data"]) == {"val/loss", "lr"}
    (end,) = of_kind(path, "end")
    assert end["data"]["state"] == "done"
    assert 0 < end["data"]["live_push"]["hook_s"] < 5
    assert [event["seq"] for event in read_events(path)] == list(range(end["seq"] + 1))


def test_the_samples_are_the_first_of_val_and_the_networks_own_predictions(tmp_path, loader):
    callback = LivePush(DEAD, num_samples=4)
    module = fit(tmp_path, callback, loader)
    samples = of_kind(tmp_path / "events.jsonl", "sample")
    assert [event["data"]["index"] for event in samples] == [0, 1, 2, 3] * 3
    last = samples[-4:]
    for k, event in enumerate(last):
        item = loader.dataset[k]
        with torch.no_grad():
            expected = module.loss({"image": item["image"][None], "target": item["target"][None]})[1][0]
        assert event["data"]["prediction"] == [pytest.approx(curve, rel=1e-4, abs=1e-6) for curve in expected.tolist()]
        assert event["data"]["target"] == [pytest.approx(curve, rel=1e-4) for curve in item["target"].tolist()]
        bits = np.unpackbits(np.frombuffer(base64.b64decode(event["data"]["image"]["bits"]), dtype=np.uint8))
        assert bits.tolist() == item["image"].flatten().tolist()
        assert event["data"]["axis"] == AXIS


def test_every_second_epoch_and_the_last_are_shown(tmp_path, loader):
    fit(tmp_path, LivePush(DEAD, num_samples=1, every_n_epochs=2), loader)
    assert [event["epoch"] for event in of_kind(tmp_path / "events.jsonl", "sample")] == [0, 2]


@pytest.mark.parametrize("num_samples", [0, 4])
def test_a_module_that_predicts_no_curves_has_no_samples(tmp_path, num_samples):
    plain_fit.fit(tmp_path, LivePush(DEAD, num_samples=num_samples), max_epochs=1)
    path = tmp_path / "events.jsonl"
    assert of_kind(path, "sample") == []
    assert set(of_kind(path, "epoch")[0]["data"]) >= {"train/loss", "val/loss"}


def test_with_the_runs_own_writer_it_writes_samples_only(tmp_path, loader):
    events = EventWriter(tmp_path / "events.jsonl", "run")
    fit(tmp_path, LivePush(DEAD, num_samples=1, events=events), loader)
    assert {event["kind"] for event in read_events(events.path)} == {"sample"}
    events.write("end", 0, 0, state="done")
    (end,) = of_kind(events.path, "end")
    assert set(end["data"]) == {"state", "live_push"}


def test_the_engine_gives_it_the_runs_events(tmp_path):
    enabled = ("callbacks.live_push.enabled=true", f"callbacks.live_push.url={DEAD}")
    config = tiny_run(tmp_path / "outputs", tmp_path / "cache", *enabled, "stages=[fit]")
    result = engine.fit(config, quiet=True)
    events = read_events(result.run.path / "events.jsonl")
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert [event["kind"] for event in events].count("start") == 1
    assert events[-1]["kind"] == "end"
    assert events[-1]["data"]["live_push"]["errors"] >= 1


@pytest.mark.parametrize(("error", "state"), [(RuntimeError, "failed"), (KeyboardInterrupt, "interrupted")])
def test_a_fit_that_ends_early_says_so(tmp_path, loader, error, state):
    class Broken(Curves):
        def training_step(self, batch, batch_idx):
            raise error

    with pytest.raises((error, SystemExit)):
        fit(tmp_path, LivePush(DEAD), loader, Broken())
    assert of_kind(tmp_path / "events.jsonl", "end")[0]["data"]["state"] == state


def test_the_weights_do_not_depend_on_it(tmp_path, loader):
    torch.manual_seed(1)
    with_push = fit(tmp_path / "a", LivePush(DEAD), loader)
    torch.manual_seed(1)
    without = fit(tmp_path / "b", L.Callback(), loader)
    assert all(torch.equal(a, b) for a, b in zip(with_push.parameters(), without.parameters(), strict=True))


@pytest.mark.parametrize(
    ("image", "side"),
    [
        (np.zeros((1, 4, 4)), 4), (np.eye(4)[None], 4), (np.eye(4)[None] * 0.5, None),
        (np.random.default_rng(0).normal(size=(1, 4, 4)), None),
        (np.zeros((3, 4, 4)), None), (np.zeros((1, 4, 8)), None), (np.zeros((1, 600, 600)), None), (None, None),
    ],
)  # fmt: skip
def test_only_a_binary_square_picture_is_shown(image, side):
    curve = np.zeros((2, 2, 3))
    data = sample_data(0, image, curve, curve, {"channels": list("abcd"), "axis": AXIS})
    assert (data["image"] or {}).get("side") == side
    assert np.shape(data["target"]) == (4, 3)  # the two channel dimensions in one row


def test_what_is_not_finite_is_a_gap():
    curve = np.array([[np.nan, np.inf, 0.123456789]])
    data = sample_data(0, None, curve, curve, {"channels": ["a"], "axis": AXIS})
    assert data["prediction"] == [[None, None, 0.12346]]
    json.dumps(data, allow_nan=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": "127.0.0.1:8600"}, "url must begin with http:// or https://, got '127.0.0.1:8600'"),
        ({"num_samples": 17}, "num_samples must be 0 to 16, got 17"),
        ({"every_n_epochs": 0}, "every_n_epochs must be at least 1, got 0"),
        ({"queue_size": 0}, "queue_size must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LivePush(**arguments)
