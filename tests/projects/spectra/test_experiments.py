"""Every experiment's network and loss can be built, not only composed."""

import pytest

from shared.config import check_config
from shared.instantiate import instantiate
from shared.learning_rate import without_origin
from tests.fabricate.battery_run import composed
from tests.test_conf import MANDATORY, experiment_cases

NAMES = [name for project, name in experiment_cases() if project == "spectra"]
CURVES = {
    "spectra": ([2, 2, 30], ["B", "G upper right", "G lower left", "R"], 128),
    "deepnano": ([2, 43], ["x polarisation", "y polarisation"], 64),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_module_of_an_experiment_is_built(name):
    plain = check_config(composed("spectra", f"+experiment={name}", *MANDATORY.get(name, []))).plain
    shape, channels, side = CURVES.get(name, CURVES["spectra"])
    mean = [[0.25] * shape[-1]] * 2
    module = instantiate(
        plain["model"] | {"init_from": None}, "model", optimizer=without_origin(plain["optimizer"]),
        scheduler=plain["scheduler"],
        output_shape=shape, channels=channels, axis={"name": "wavelength", "unit": "nm", "values": range(shape[-1])},
        image_side_px=side, target_mean=mean if len(shape) == 2 else [mean, mean], target_spread=0.05,
    )  # fmt: skip
    assert module.loss.name == ("weighted_smooth" if name == "weighted_smooth" else "mse_pearson")


def test_there_are_all_that_users_know():
    assert {"cnn_xattn", "cnn_gru", "weighted_smooth", "no_dashboard", "deepnano", "rcwa_finetune"} <= set(NAMES)


def test_the_reference_runs_on_a_users_own_files():
    files = ("data.struct_files=[a.npy]", "data.spectra_files=[b.npy]", "data.store_device=cpu")
    plain = check_config(composed("spectra", "+experiment=reference", *files)).plain
    datamodule = instantiate(plain["data"], "data", seed=0, cache_folder="x")
    assert (datamodule.struct_files, datamodule.num_workers) == (["a.npy"], 0)
