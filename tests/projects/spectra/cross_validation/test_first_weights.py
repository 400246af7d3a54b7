import pytest
from omegaconf import OmegaConf

from projects.spectra.cross_validation.first_weights import with_fixed_origin


def config_with(origin):
    return OmegaConf.create({"model": {"init_from": origin}})


def test_a_link_is_replaced_by_what_it_means_now(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "latest").symlink_to("runs/a")
    config = config_with("latest")
    assert with_fixed_origin(config).model.init_from == "runs/a"
    assert config.model.init_from == "latest"
    monkeypatch.chdir(tmp_path / "runs")
    assert with_fixed_origin(config_with(str(tmp_path / "latest"))).model.init_from == "a"
    monkeypatch.chdir(tmp_path / "runs" / "a")
    assert with_fixed_origin(config_with("../../latest/../b")).model.init_from == str(tmp_path / "runs" / "b")


@pytest.mark.parametrize("config", [config_with(None), OmegaConf.create({"model": {}})])
def test_random_first_weights_stay(config):
    assert with_fixed_origin(config) == config
