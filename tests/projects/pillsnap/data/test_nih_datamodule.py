from pathlib import Path

import numpy as np
import pytest

from shared.errors import ConfigError
from shared.folds import FOLDS
from shared.instantiate import instantiate
from tests.fabricate.pill_run import tiny_nih_run, write_nih


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_nih(tmp_path_factory.mktemp("nih"))


def module(folder, cache, *overrides):
    config = tiny_nih_run(folder, cache, cache, *overrides)
    return instantiate(dict(config.data), "data", seed=0, cache_folder=str(cache))


def test_the_published_test_part_stays_and_sides_of_a_pill_keep_together(folder, tmp_path):
    data = module(folder, tmp_path, "data.domain=studio")
    index = data.index
    assert len(index) == 3 * 14 * 2
    assert index.classes == ("OVAL__WHITE", "ROUND__RED", "ROUND__WHITE")
    test = data.rows("test")
    assert {index.group_name(int(row)).split("-")[1] for row in test} == {"0000", "0005", "0010"}
    for group in np.unique(index.group):
        assert len(np.unique(data.fold[index.group == group])) == 1


def test_scenes_are_rendered_once_and_follow_their_pill(folder, tmp_path):
    data = module(folder, tmp_path)
    index = data.index
    assert len(index) == 3 * 14 * 2 * 2  # the photograph and its scene
    assert index.meta_names["domain"] == ("rendered", "studio")
    files = sorted(Path(tmp_path).rglob("*_r0.jpg"))
    assert len(files) == 84
    before = [file.stat().st_mtime_ns for file in files]
    assert module(folder, tmp_path).index.data_hash() == index.data_hash()
    assert [file.stat().st_mtime_ns for file in files] == before
    for group in np.unique(index.group):
        assert len(np.unique(data.fold[index.group == group])) == 1
    rendered = int(np.flatnonzero(index.meta["domain"] == 0)[0])
    assert data.photo(rendered).shape == (64, 64, 3)


def test_a_killed_rendering_is_completed(folder, tmp_path):
    data = module(folder, tmp_path)
    whole = data.index.data_hash()
    files = sorted(Path(tmp_path).rglob("*_r0.jpg"))
    for file in files[::3]:
        file.unlink()
    assert module(folder, tmp_path).index.data_hash() == whole


def test_by_labeler_no_maker_is_on_two_sides(folder, tmp_path):
    shares = {"train": 0.4, "val": 0.15, "accept": 0.15, "calibrate": 0.15, "test": 0.15}
    overrides = [f"data.labeler_shares.{fold}={share}" for fold, share in shares.items()]
    data = module(folder, tmp_path, "data.domain=studio", "data.protocol=labeler", *overrides)
    assert len(data.index.group_names) == 7
    assert set(np.unique(data.fold)) == set(range(len(FOLDS)))
    for group in range(7):
        assert len(np.unique(data.fold[data.index.group == group])) == 1


def test_small_classes_are_left_out_and_told(folder, tmp_path):
    data = module(folder, tmp_path, "data.domain=studio", "data.target=color", "data.min_images=40")
    assert data.index.classes == ("WHITE",)
    assert any("28 of 84 photographs are of classes with fewer than 40" in text for text in data.findings()[1])


def test_attributes_are_codes_of_shape_and_colour(folder, tmp_path):
    data = module(folder, tmp_path, "data.domain=studio")
    sample = data.build_dataset("val", data.rows("val"))[0]
    shapes, colors = data.module_arguments()["attribute_names"].values()
    row = int(sample["sample_index"])
    looks = f"{shapes[sample['attributes'][0]]}__{colors[sample['attributes'][1]]}"
    assert looks == data.index.classes[data.index.label[row]]


def test_the_pill_can_be_put_on_another_background(folder, tmp_path):
    data = module(folder, tmp_path, "data.domain=studio")
    black, white = data.photo_on(0, "black"), data.photo_on(0, "white")
    assert black.shape == white.shape == (64, 64, 3)
    assert black[:3].mean() + 60 < white[:3].mean()


def test_a_rendering_on_another_background_is_the_same_scene(folder, tmp_path):
    data = module(folder, tmp_path, "data.domain=rendered")
    black, white, own = data.photo_on(3, "black"), data.photo_on(3, "white"), data.photo(3)
    centre = slice(28, 36)
    spread = [np.abs(a[centre, centre].astype(int) - own[centre, centre]).mean() for a in (black, white)]
    assert max(spread) < 12  # the pill, its pose and its light stay; only JPEG carries the surface a little into it
    assert black[:3].mean() + 60 < white[:3].mean()


def test_other_lists_of_photographs_have_other_scenes_beside_each_other(folder, tmp_path):
    whole = module(folder, tmp_path).index
    assert len(module(folder, tmp_path, "data.target=color", "data.min_images=40").index) < len(whole)
    assert len(list((tmp_path / "pillsnap").iterdir())) == 2
    assert module(folder, tmp_path).index.data_hash() == whole.data_hash()


def test_classes_too_small_to_train_on_are_the_open_sets_others(folder, tmp_path):
    data = module(folder, tmp_path, "data.domain=studio", "data.target=color", "data.min_images=40")
    assert {name for _, name in data.others("tune")} == {"RED"}
    assert data.others("test") == []
    path, _ = data.others("tune")[0]
    assert data.other_photo(path).shape == (64, 64, 3)
    assert len(data.other_digest(path)) == 64
    assert not {path for path, _ in data.others("tune")} & {name.removeprefix("studio/") for name in data.index.ids}


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("data.protocol=maker", r"data\.protocol is 'maker'; allowed are pill, labeler"),
        ("data.target=imprint", r"data\.target is 'imprint'"),
        ("data.domain=real", r"data\.domain is 'real'; allowed are studio, rendered, both"),
        ("data.renders_per_photo=0", r"data\.renders_per_photo is 0"),
        ("data.min_images=1000", r"the largest class has 28"),
    ],
)
def test_values_that_are_not_allowed(folder, tmp_path, override, sentence):
    with pytest.raises(ConfigError, match=sentence):
        _ = module(folder, tmp_path, override).index
