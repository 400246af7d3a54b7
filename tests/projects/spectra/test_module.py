import copy
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import Trainer
from sklearn.metrics import r2_score
from torch.utils.data import DataLoader

from projects.spectra import module as module_file
from projects.spectra.losses import mse_pearson
from projects.spectra.module import SpectraRegressor
from shared.callbacks.ema import EmaWeights
from shared.errors import CheckpointError, ConfigError

CHANNELS = ["B", "G upper right", "G lower left", "R"]
MEAN, SPREAD = torch.linspace(0.2, 0.3, 24).reshape(2, 2, 6), 0.05
SMALL = {"width": 0.0625, "decoder_layers": 1, "heads": 2}


def regressor(**changes: Any) -> SpectraRegressor:
    """Return a small module for 32 px cells at 6 wavelengths."""
    arguments: dict[str, Any] = {
        "network": "cnn_xattn",
        "parameters": SMALL,
        "loss": "mse_pearson",
        "loss_parameters": {},
        "error_unit": "spread",
        "map_to_pm1": True,
        "compile": False,
        "init_from": None,
        "output_shape": [2, 2, 6],
        "channels": CHANNELS,
        "axis": {"name": "wavelength", "unit": "nm", "values": [400, 460, 520, 580, 640, 700]},
        "image_side_px": 32,
        "target_mean": MEAN.tolist(),
        "target_spread": SPREAD,
        "optimizer": {"name": "adamw", "lr": 1e-3},
        "scheduler": {"name": "constant"},
    }
    return SpectraRegressor(**(arguments | changes))


def batch(size: int = 5, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "image": torch.randint(0, 2, (size, 1, 32, 32), generator=generator, dtype=torch.uint8),
        "target": torch.rand(size, 2, 2, 6, generator=generator),
        "sample_index": torch.arange(size),
    }


@pytest.mark.parametrize(("map_to_pm1", "low"), [(True, -1.0), (False, 0.0)])
def test_step_feeds_the_pixels_as_said(map_to_pm1: bool, low: float) -> None:
    module, given = regressor(map_to_pm1=map_to_pm1).eval(), batch()
    seen: list[torch.Tensor] = []
    module.network.register_forward_pre_hook(lambda network, inputs: seen.append(inputs[0]))
    outputs = module.shared_step(given, "val")
    assert seen[0].dtype == torch.float32
    assert torch.equal(seen[0], torch.where(given["image"] == 1, 1.0, low))
    torch.testing.assert_close(outputs["loss"], mse_pearson(outputs["prediction"], given["target"], unit=SPREAD))
    assert outputs["prediction"].shape == (5, 2, 2, 6)
    assert torch.equal(outputs["sample_index"], given["sample_index"])


def test_errors_count_in_the_unit_asked_for() -> None:
    """The loss of a batch missed by one spread everywhere: 1 as "spread", the spread squared as "power"."""
    given = batch()
    for error_unit, expected in (("spread", 1.0), ("power", SPREAD**2)):
        module = regressor(error_unit=error_unit, loss_parameters={"w_corr": 0.0}).eval()
        said = module.predict_step(given, 0)["prediction"].detach()
        outputs = module.shared_step(given | {"target": said + SPREAD}, "val")
        assert outputs["loss"].item() == pytest.approx(expected, rel=1e-4)


def test_an_untrained_network_says_about_the_mean() -> None:
    """What its layers say is in units of the spread: without them predictions would begin as far off as 1 is."""
    near = regressor().eval().predict_step(batch(), 0)["prediction"] - MEAN
    far = regressor(target_spread=1.0).eval().predict_step(batch(), 0)["prediction"] - MEAN
    assert near.abs().max() < 5 * SPREAD < far.abs().max()


def test_pictures_that_are_no_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"image is torch.float32, allowed: uint8 with values 0 and 1"):
        regressor().shared_step(batch() | {"image": torch.zeros(5, 1, 32, 32)}, "train")


def test_predicting_needs_no_curves_and_everything_else_does() -> None:
    module = regressor().eval()
    bare = batch() | {"target": torch.zeros(5, dtype=torch.int64)}
    outputs = module.predict_step(bare, 0)
    assert outputs["loss"].isnan()
    assert torch.equal(outputs["prediction"], module.predict_step(batch(), 0)["prediction"])
    assert module.predict_step(batch(), 0)["loss"].isfinite()
    with pytest.raises(ValueError, match="allowed: equal shapes"):
        module.validation_step(bare, 0)


def test_validation_logs_the_metrics_of_the_whole_epoch(tmp_path: Path) -> None:
    module = regressor()
    batches = [batch(5, 1), batch(4, 2), batch(1, 3)]
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
    )
    logged = trainer.validate(module, DataLoader(batches, batch_size=None), verbose=False)[0]
    with torch.no_grad():
        prediction = torch.cat([module.eval().predict_step(one, 0)["prediction"] for one in batches])
    target = torch.cat([one["target"] for one in batches])
    assert set(logged) == {"val/loss", "val/mse", "val/r2", "val/pearson"}
    true, said = (curves.flatten(1).double().numpy() for curves in (target, prediction))
    assert logged["val/r2"] == pytest.approx(r2_score(true, said, multioutput="variance_weighted"), rel=1e-4)
    squared = logged["val/mse"] / SPREAD**2
    assert logged["val/loss"] == pytest.approx(squared + 0.2 * (1 - logged["val/pearson"]), rel=1e-4)


@pytest.mark.parametrize("network", ["cnn_xattn", "cnn_gru"])
def test_each_tensor_of_the_module_is_in_one_group(network: str) -> None:
    module = regressor(network=network, parameters={"width": 0.0625})
    for name in module.state_dict():
        assert sum(name.startswith(prefixes) for prefixes in module.module_groups().values()) == 1, name


def test_what_it_says_about_itself() -> None:
    module = regressor(loss="weighted_smooth", loss_parameters={"w_smooth": 0.3})
    described = module.describe()
    assert described["network"] == "cnn_xattn"
    assert described["loss"] == "weighted_smooth"
    assert described["output"] == "2 x 2 x 6"
    assert described["first weights"] == "none"
    assert r"0.3 \cdot" in module.formula()
    assert r"\sigma^2" in module.formula()
    assert r"\sigma" not in regressor(error_unit="power").formula()
    assert module.curve_axes()["channels"] == CHANNELS
    assert module.curve_axes()["axis"]["values"][-1] == 700


def test_checks_measure_the_worst_point() -> None:
    cells = torch.full((4, 2, 2, 6), 0.25)
    cells[1, 0, 0, 3] = -0.1  # negative; the total stays below 1
    cells[2, 1, 1, 5] = 0.5  # total 1.25
    cells[3, 0, 1, 0], cells[3, 1, 0, 0] = 0.1, 0.3  # the same total
    found = {name: excess.tolist() for name, excess in regressor().checks(cells).items()}
    assert found["power is not negative"] == pytest.approx([0, 0.1, 0, 0])
    assert found["no more than the incident power"] == pytest.approx([0, 0, 0.25, 0], abs=1e-6)
    two = regressor(output_shape=[2, 6], channels=["x", "y"], target_mean=MEAN[0].tolist())
    single = two.checks(torch.tensor([0.2, 1.5]).expand(3, 6, 2).mT)
    assert single["no more than the incident power"].tolist() == pytest.approx([0.5] * 3)
    assert set(single) == set(found)


def test_the_network_is_compiled_once_and_only_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda network: compiled.append(network))
    module, plain = regressor(compile=True), regressor()
    assert compiled == []  # not while it is built: a run that is only loaded must not wait for a compiler
    for stage in ("fit", "test"):
        module.setup(stage)
        plain.setup(stage)
    assert compiled == [module.network]


def test_a_moving_average_has_nothing_to_warn_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Lightning's calls `configure_model` itself where it is overridden, and warns of layers it cannot shard."""
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda network: compiled.append(network))
    module, average = regressor(compile=True), EmaWeights()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[average],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(module, DataLoader([batch(), batch(seed=1)], batch_size=None))
    assert [str(warning.message) for warning in caught if "configure_model" in str(warning.message)] == []
    assert compiled == [module.network]  # the network that trains, not the copy that is averaged
    assert average.num_updates == 2
    state = average.averaged_state()
    assert state is not None
    torch.testing.assert_close(state["network.head.centre"], MEAN)  # a constant, and so is its average


@pytest.mark.slow
def test_a_compiled_network_keeps_its_names_and_answers_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    original = torch.nn.Module.compile
    # The default backend takes minutes, and what it computes is torch's to test.
    monkeypatch.setattr(torch.nn.Module, "compile", lambda network: original(network, backend="eager"))
    module, plain = regressor(compile=True), regressor()
    module.setup("fit")
    assert list(module.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(module.state_dict())
    inputs = batch()
    torch.testing.assert_close(
        module.eval().predict_step(inputs, 0)["prediction"], plain.eval().predict_step(inputs, 0)["prediction"]
    )
    copy.deepcopy(module)  # as the moving average does


def finished(module: SpectraRegressor, path: Path) -> Any:
    """Return what `load_run` gives, as far as it is read here."""
    return SimpleNamespace(module=module, run=SimpleNamespace(path=path))


def test_first_weights_come_from_a_run_and_the_units_from_the_data(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = regressor(target_mean=(MEAN + 0.1).tolist(), target_spread=0.2)
    monkeypatch.setattr(module_file, "load_run", lambda path: finished(other, path))
    module = regressor(init_from=str(tmp_path / "run7"), loss="weighted_smooth")
    differing = [
        name for name, tensor in module.state_dict().items() if not torch.equal(tensor, other.state_dict()[name])
    ]
    assert differing == ["network.head.centre", "network.head.spread"]
    torch.testing.assert_close(module.network.head.centre, MEAN)
    assert module.network.head.spread.item() == pytest.approx(SPREAD)
    # In units of each data set the two networks say the same.
    inputs = batch()
    said, before = (one.eval().predict_step(inputs, 0)["prediction"] for one in (module, other))
    torch.testing.assert_close((said - MEAN) / SPREAD, (before - MEAN - 0.1) / 0.2, rtol=1e-4, atol=1e-4)
    assert module.describe()["first weights"] == "run run7"
    assert module.hparams["init_from"] == str(tmp_path / "run7")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"parameters": {**SMALL, "width": 0.25}}, CheckpointError, r"weights of .*run7 do not fit this network \(\d+"),
        ({"network": "cnn_gru", "parameters": {"width": 0.0625}}, CheckpointError, "output_shape must be the same"),
        ({"map_to_pm1": False}, ConfigError, "model.map_to_pm1 is False, but .*run7, .* was trained with True"),
    ],
)
def test_first_weights_that_do_not_fit_are_refused(
    monkeypatch: pytest.MonkeyPatch, change: dict, error: type[Exception], message: str
) -> None:
    other = regressor()
    monkeypatch.setattr(module_file, "load_run", lambda path: finished(other, path))
    with pytest.raises(error, match=message):
        regressor(init_from="run7", **change)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=str(tmp_path)):
        regressor(init_from=str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "cnn_grru"}, "model: network is .*did you mean 'cnn_gru'"),
        ({"parameters": {"widht": 1.0}}, "has no parameter 'widht', .*did you mean 'width'"),
        ({"parameters": {"width": "wide"}}, "model: "),
        ({"loss": "mse"}, "model: loss is 'mse', allowed: mse_pearson, weighted_smooth"),
        ({"loss_parameters": {"w_curr": 1}}, "has no weight 'w_curr', .*did you mean 'w_corr'"),
        ({"image_side_px": 48}, "model: image_side_px is 48"),
        ({"error_unit": "sigma"}, "model.error_unit is 'sigma'; allowed are spread, power"),
        ({"channels": ["B"]}, "which is 4 curves of 6 points, but there are 1 names and 6 points of the axis"),
    ],
)
def test_wrong_configuration_is_a_config_error(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        regressor(**change)
