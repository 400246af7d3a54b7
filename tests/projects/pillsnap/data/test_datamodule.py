import numpy as np
import pytest
from omegaconf import OmegaConf

from projects.pillsnap.chain.manifest import DEFAULT_AUGMENTATION
from projects.pillsnap.data.datamodule import PillDataModule
from shared.errors import ConfigError, DataError
from shared.folds import FOLDS
from shared.instantiate import instantiate
from tests.fabricate.battery_run import composed
from tests.fabricate.pill_run import TINY
from tests.fabricate.pill_standin import tiny_config


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def module(cache, *overrides):
    standin = [f"data.standin.{key}={value}" for key, value in tiny_config().as_dict().items()]
    given = TINY[:3] if "data=pillsnap_folder" not in overrides else ["data.num_workers=0"]
    config = composed("pillsnap", *([] if "data=pillsnap_folder" in overrides else standin), *given, *overrides)
    return instantiate(dict(config.data), "data", seed=0, cache_folder=str(cache))


def test_the_stand_in_goes_through_the_chain_once(cache):
    data = module(cache)
    index = data.index
    assert index.source == "stand-in"
    assert len(index.classes) == 6
    assert index.meta_names["domain"] == ("real", "studio")
    np.testing.assert_array_equal(data.fold, data.dataset.fold)
    manifest = data.dataset.root / "manifest.json"
    before = manifest.stat().st_mtime_ns
    assert module(cache).index.data_hash() == index.data_hash()
    assert manifest.stat().st_mtime_ns == before


def test_no_capture_is_on_two_sides(cache):
    data = module(cache)
    for group in np.unique(data.index.group):
        assert len(np.unique(data.fold[data.index.group == group])) == 1
    assert set(np.unique(data.fold)) == set(range(len(FOLDS)))


def test_a_sample_is_the_preprocessed_photo_and_a_training_one_is_augmented(cache):
    data = module(cache)
    rows = data.rows("val")
    sample = data.build_dataset("val", rows)[0]
    np.testing.assert_array_equal(sample["image"].numpy(), data.preprocess(data.photo(int(rows[0]))))
    assert sample["target"] == data.index.label[rows[0]]
    assert sample["attributes"].shape == (0,)
    batch = next(iter(data.loader("train", "fit")))
    assert batch["image"].shape == (8, 3, 32, 32)
    row = int(batch["sample_index"][0])
    assert not np.array_equal(batch["image"][0].numpy(), data.preprocess(data.photo(row)))


def test_photos_of_other_drugs_are_no_samples(cache):
    data = module(cache)
    listed = {path for part in ("tune", "test") for path, _ in data.others(part)}
    assert listed
    assert not listed & set(data.index.ids.to_list())
    path, kcode = data.others("test")[0]
    assert data.other_photo(path).shape == (96, 96, 3)
    assert kcode not in data.index.classes
    assert not {kcode for _, kcode in data.others("tune")} & {kcode for _, kcode in data.others("test")}


def test_a_rendered_photo_can_be_taken_again_on_another_background(cache):
    data = module(cache)
    row = int(data.rows("test")[0])
    black, white = data.photo_on(row, "black"), data.photo_on(row, "white")
    assert black[:4].mean() + 60 < white[:4].mean()
    assert data.photo(row).shape == black.shape


def test_a_finished_data_set_is_read_by_its_folder(cache):
    root = module(cache).dataset.root
    size = "data.preprocessing.size_px=32"
    data = module(cache, "data=pillsnap_folder", f"data.root={root}", size)
    assert data.index.source == "stand-in"  # rendered photos stay rendered ones, whoever ran the chain
    with pytest.raises(DataError, match="only rendered ones"):
        data.photo_on(0, "black")
    with pytest.raises(DataError, match=r"manifest\.json was made for the preprocessing"):
        module(cache, "data=pillsnap_folder", f"data.root={root}").build_index()


def test_training_weights_of_the_drugs(cache):
    data = module(cache, "data.sampler=weighted")
    weights = data.sampling_weights(data.rows("train"))
    stated = [data.dataset.metadata[kcode]["weight"] for kcode in data.index.classes]
    np.testing.assert_allclose(weights, np.array(stated)[data.index.label[data.rows("train")]])
    assert module(cache).sampling_weights(data.rows("train")) is None


def test_what_does_not_go_together_is_refused(cache):
    with pytest.raises(ConfigError, match=r"data\.sampler is 'balanced'; allowed are shuffle, weighted"):
        module(cache, "data.sampler=balanced")
    with pytest.raises(ConfigError, match=r"data\.preprocessing is refused: .*size_px"):
        module(cache, "data.preprocessing.size_px=33")
    options = dict(composed("pillsnap").data) | {"root": "somewhere"}
    with pytest.raises(ConfigError, match=r"data\.standin is set: choose data=pillsnap_folder"):
        instantiate(options, "data", seed=0, cache_folder=str(cache))


def test_a_network_of_another_preprocessing_is_refused(cache):
    data = module(cache)
    arguments = data.module_arguments()
    data.align(arguments)
    other = arguments | {"preprocessing": arguments["preprocessing"] | {"clahe": False}}
    with pytest.raises(DataError, match="the network was trained on pixels from"):
        data.align(other)


def test_report_pictures_are_what_the_network_sees_in_grey(cache):
    data = module(cache)
    pictures = data.pictures(data.rows("test")[:2])
    assert pictures.shape == (2, 32, 32)
    assert pictures.dtype == np.uint8
    assert isinstance(data, PillDataModule)


def test_the_manifest_states_what_training_does_to_the_pixels(cache):
    data = module(cache)
    assert data.dataset.manifest["augmentation"] == data.augmentation
    shipped = composed("pillsnap", "data=pillsnap_folder", "data.root=somewhere").data.augmentation
    assert dict(DEFAULT_AUGMENTATION) == OmegaConf.to_container(shipped)
