"""A cross-validation of tiny cells that begins with the weights of a run on other cells."""

import pytest

from projects.spectra.cross_validation.job import cross_validate
from projects.spectra.standin import StandinConfig, generate_standin
from shared.engine import fit
from tests.fabricate.spectra_run import tiny_run

TINY = ("data.standin.num_samples=60", "data.standin.num_files=1", "trainer.max_epochs=1", "stages=[fit,test]")


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory):
    """Return a function: outputs folder, overrides and a name of the experiment to a configuration."""
    cache = tmp_path_factory.mktemp("cache")

    def compose_tiny(outputs, *overrides, name="tiny"):
        config = tiny_run(outputs, cache, *TINY, *overrides)
        config.experiment = name
        return config

    return compose_tiny


@pytest.fixture(scope="session")
def outputs(tmp_path_factory):
    """Return the folder that the finished runs stand in."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="session")
def origin(tiny_config, outputs):
    """Return the directory of a finished run on stand-in cells."""
    return fit(tiny_config(outputs, name="origin"), quiet=True).run.path


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Return overrides that name a user's files: 60 other cells, one of them padding."""
    standin = StandinConfig(num_samples=60, side_px=32, sigma_px=3.0, num_files=1, padding_share=0.02, seed=1)
    folder = generate_standin(tmp_path_factory.mktemp("files"), standin, workers=1)
    return (f"data.struct_files=[{folder}/struct_0.npy]", f"data.spectra_files=[{folder}/spectra_0.npy]")


@pytest.fixture(scope="session")
def finetuned(tiny_config, files, outputs, origin):
    """Return configuration and result of five rounds that begin with the weights of `origin`, named by the link."""
    config = tiny_config(outputs, *files, f"model.init_from={outputs}/spectra/latest", name="finetuned")
    return config, cross_validate(config, quiet=True)
