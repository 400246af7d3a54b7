import doctest
import os

import pytest
import torch
from safetensors.torch import save_file

import shared.calibrators.base as base
import shared.calibrators.store as store
from shared.calibrators import VarianceCalibrator, load_calibrator, save_calibrator
from shared.calibrators.store import read_metadata
from shared.calibrators.temperature import TemperatureCalibrator
from shared.errors import CheckpointError
from tests.shared.calibrators.test_export import CALIBRATORS


def test_examples():
    assert doctest.testmod(base).failed == 0


@pytest.mark.parametrize("method", CALIBRATORS)
def test_round_trip(method, tmp_path):
    path, calibrator = tmp_path / "calibrator.safetensors", CALIBRATORS[method]()
    save_calibrator(path, calibrator, {"domain_names": ["cell", "module"]})
    loaded = load_calibrator(path)
    logits, domain = torch.randn(20, 3), torch.arange(20) % 4 - 1
    assert loaded.method == method
    assert torch.equal(loaded(logits, domain), calibrator(logits, domain))
    assert not loaded.training
    assert read_metadata(path) == {"domain_names": ["cell", "module"]}
    save_calibrator(tmp_path / "again.safetensors", loaded, {"domain_names": ["cell", "module"]})
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_variance_round_trip(tmp_path):
    save_calibrator(tmp_path / "v.safetensors", VarianceCalibrator(2.5))
    assert load_calibrator(tmp_path / "v.safetensors")(torch.ones(2)).tolist() == [2.5, 2.5]


@pytest.mark.parametrize("kept", [0, 5, 60, -1])
def test_truncated_file_is_refused(tmp_path, kept):
    path = tmp_path / "calibrator.safetensors"
    save_calibrator(path, TemperatureCalibrator(2.0))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"calibrator\.safetensors is truncated or no safetensors file .* bytes"):
        load_calibrator(path)


def header(method="temperature", format_name="calibrator-1"):
    return {"calibrator": f'{{"method": "{method}", "format": "{format_name}", "metadata": {{}}}}'}


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"weight": torch.ones(2)}, None, "is a safetensors file but no calibrator"),
        ({"temperature": torch.tensor(1.0)}, {"calibrator": "{"}, "is a safetensors file but no calibrator"),
        ({"temperature": torch.tensor(1.0)}, header(format_name="calibrator-9"), "calibrator-1 is needed"),
        ({"temperature": torch.tensor(1.0)}, header("beta"), "has method 'beta'; allowed are identity, temperature"),
        ({"weight": torch.ones(2)}, header(), "does not fit its method 'temperature'"),
        ({"temperature": torch.tensor(-1.0)}, header(), "does not fit its method 'temperature': temperature is -1"),
        ({"temperature": torch.tensor(float("nan"))}, header(), "not finite in 'temperature'"),
    ],
)
def test_other_files_are_refused(tmp_path, tensors, metadata, message):
    save_file(tensors, tmp_path / "c.safetensors", metadata)
    with pytest.raises(CheckpointError, match=message):
        load_calibrator(tmp_path / "c.safetensors")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.safetensors does not exist"):
        load_calibrator(tmp_path / "none.safetensors")


def test_full_disk_leaves_the_former_file(tmp_path, monkeypatch):
    path = tmp_path / "calibrator.safetensors"
    save_calibrator(path, TemperatureCalibrator(2.0))

    def full(path, content):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(store, "write_bytes", full)
    with pytest.raises(CheckpointError, match=r"cannot be written .*No space left.* free disk space"):
        save_calibrator(path, TemperatureCalibrator(3.0))
    assert float(load_calibrator(path).temperature) == 2.0
