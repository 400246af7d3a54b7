"""The datamodules: stand-in and prepared folder, subjects left out, the floor, fine-tuning, GoEmotions."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from projects.redheart.data.datamodule import StoriesDataModule
from projects.redheart.data.goemotions_datamodule import GoEmotionsDataModule
from projects.redheart.data.prepared import PrepareOptions, prepare
from projects.redheart.encoders import EncoderOptions
from projects.redheart.module import RedHeartModule
from shared.errors import ConfigError, DataError
from shared.folds import FOLDS
from shared.leakage import check_leakage
from shared.splits import check_folds
from tests.fabricate.stories import story_objects, write_stories
from tests.fabricate.text_model import HIDDEN, write_text_model

HASHING = {"name": "hashing", "dim": 16}
NUM = 150


def stories_module(cache: Path, root: Path | None = None, **changes: Any) -> StoriesDataModule:
    options: dict[str, Any] = {
        "root": None if root is None else str(root), "standin": {"num_stories": 120} if root is None else {},
        "num_stories": None, "leave_out_subject": None, "encoder": HASHING, "max_parts": 6, "batch_size": 8,
        "eval_batch_size": 16, "num_workers": 0, "seed": 0, "cache_folder": str(cache),
    }  # fmt: skip
    return StoriesDataModule(**(options | changes))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stories")
    source = write_stories(folder / "in.json", story_objects(NUM))
    table = folder / "people.csv"
    rows = (f"s{row:05d},p{row // 2 % 6},{row % 9 + 1},5,5" for row in range(0, NUM, 2))
    table.write_text("id,subject,valence,arousal,dominance\n" + "\n".join(rows) + "\n")
    return prepare(source, folder / "out", PrepareOptions(), subjects=table).root


def test_the_stand_in_is_made_once_and_its_folds_hold(tmp_path: Path) -> None:
    told: list[str] = []
    datamodule = stories_module(tmp_path)
    datamodule.progress = lambda what, done, total: told.append(what)
    assert datamodule.index.source == "stand-in"
    assert {"stand-in stories", "embedding with hashing"} <= set(told)
    assert check_folds(datamodule.index, datamodule.fold) is not None
    assert check_leakage(datamodule.index, datamodule.fold).ok
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.name != "source.txt"}
    again = stories_module(tmp_path)
    assert again.index.data_hash() == datamodule.index.data_hash()
    assert times == {path: path.stat().st_mtime_ns for path in times}
    assert any("encoder=hashing knows spelling" in sentence for sentence in again.findings()[1])


def test_every_fold_gives_batches_and_every_sample_once(root: Path, tmp_path: Path) -> None:
    datamodule = stories_module(tmp_path, root)
    seen: list[int] = []
    for fold in FOLDS:
        loader = datamodule.loader(fold, "test")
        for batch in loader:
            assert batch["embedding"].shape[2] == 16
            assert batch["embedding"].shape[1] <= 6
            seen += batch["sample_index"].tolist()
    left_over = NUM - len(seen)  # train drops its last, smaller batch
    assert len(set(seen)) == len(seen)
    assert 0 <= left_over < 8
    assert list(root.glob("stories.embedded.*.npy"))


def test_stories_without_a_label_are_in_train_only(root: Path, tmp_path: Path) -> None:
    datamodule = stories_module(tmp_path, root)
    unlabelled = datamodule.corpus.stories.label < 0
    assert unlabelled.any()
    assert (datamodule.fold[unlabelled] == FOLDS.index("train")).all()


def test_a_story_without_a_label_that_a_text_brings_into_test_is_left_out(root: Path, tmp_path: Path) -> None:
    datamodule = stories_module(tmp_path, root)
    corpus = datamodule.read_corpus()
    stray = int(np.flatnonzero(corpus.stories.label < 0)[0])
    corpus.fold[stray] = FOLDS.index("test")
    datamodule.read_corpus = lambda: corpus  # type: ignore[method-assign]
    assert len(datamodule.index) == NUM - 1
    assert any("1 stories without a label have the text" in sentence for sentence in datamodule.findings()[1])


def test_fewer_stories_have_every_class_also_from_a_file_sorted_by_label(tmp_path: Path) -> None:
    objects = sorted(story_objects(NUM), key=lambda story: story.get("label", -1))
    source = write_stories(tmp_path / "in.json", objects)
    root = prepare(source, tmp_path / "out", PrepareOptions()).root
    datamodule = stories_module(tmp_path, root, num_stories=40)
    assert len(datamodule.index) == 40
    assert set(datamodule.index.label[datamodule.rows("train")].tolist()) == set(range(7))
    assert check_folds(datamodule.index, datamodule.fold) is not None
    whole = stories_module(tmp_path, root)
    fold_of = {whole.index.ids[row]: int(whole.fold[row]) for row in range(NUM)}
    assert [fold_of[datamodule.index.ids[row]] for row in range(40)] == datamodule.fold.tolist()
    again = stories_module(tmp_path, root, num_stories=40, seed=9)
    assert again.index.data_hash() == datamodule.index.data_hash()
    assert again.describe()["fingerprint"] == datamodule.describe()["fingerprint"] != whole.fingerprint


def test_a_left_out_subject_is_the_test_fold(root: Path, tmp_path: Path) -> None:
    datamodule = stories_module(tmp_path, root, leave_out_subject="p3")
    index, fold = datamodule.index, datamodule.fold
    rated = {f"out/s{row:05d}": f"p{row // 2 % 6}" for row in range(0, NUM, 2)}
    test = {index.ids[row] for row in datamodule.rows("test")}
    labelled = {index.ids[row] for row in np.flatnonzero(datamodule.corpus.stories.label >= 0)}
    assert test == {name for name, person in rated.items() if person == "p3"} & labelled
    assert check_leakage(index, fold).ok
    assert {index.group_name(row) for row in datamodule.rows("test")} == {"subject p3"}


def test_an_unknown_subject_or_no_table_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.leave_out_subject is 'zoe'; .*subjects.csv has p0"):
        _ = stories_module(tmp_path, root, leave_out_subject="zoe").index
    with pytest.raises(ConfigError, match=r"has no subjects.csv: run prepare_data again with --subjects"):
        _ = stories_module(tmp_path, leave_out_subject="zoe").index


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"standin": {"num_stories": 50}}, "data.root names your own stories, but data.standin is set"),
        ({"num_stories": 0}, "data.num_stories is 0; allowed is null, or 1 or more"),
        ({"max_parts": 2}, "data.max_parts is 2; allowed is 3 or more"),
        ({"encoder": {"name": "x"}}, "data.encoder.name is 'x'"),
    ],
)
def test_wrong_values_are_refused(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        stories_module(tmp_path, tmp_path, **changes)


def test_a_folder_that_was_not_prepared_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no complete folder of prepared stories; make one with `python -m"):
        _ = stories_module(tmp_path, tmp_path).index


def test_the_floor_is_fitted_on_labelled_stories_of_train(root: Path, tmp_path: Path) -> None:
    datamodule = stories_module(tmp_path, root)
    test = datamodule.rows("test")
    probs = datamodule.baselines(datamodule.rows("train"), test)["tfidf_logreg"]
    assert probs.shape == (len(test), 7)
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    # The fabricated texts name their emotion at the end.
    assert (probs.argmax(axis=1) == datamodule.index.label[test]).mean() > 0.5


def test_the_module_takes_what_the_datamodule_says(root: Path, tmp_path: Path) -> None:
    folder = write_text_model(tmp_path / "tiny")
    local = {"name": "local_path", "path": str(folder)}
    mean = stories_module(tmp_path, root)
    tokens = stories_module(tmp_path, root, encoder=local | {"pooling": "tokens", "max_tokens": 20})
    trained = stories_module(tmp_path, root, encoder=local | {"finetune": True, "max_tokens": 24})
    for datamodule in (mean, tokens, trained):
        assert datamodule.index is not None
    accepted = set(RedHeartModule.__init__.__kwdefaults__ or {}) | set(RedHeartModule.__init__.__annotations__)
    assert set(trained.module_arguments()) <= accepted
    assert [datamodule.module_arguments()["embedding_dim"] for datamodule in (mean, tokens, trained)] == [
        16,
        HIDDEN,
        HIDDEN,
    ]
    assert [datamodule.max_sequence for datamodule in (mean, tokens, trained)] == [6, 20, 24]
    assert mean.module_arguments()["encoder"].startswith("hashing (mean of whole text, unit length; weights ")
    assert trained.module_arguments()["encoder_config"]["model_type"] == "bert"
    assert trained.module_arguments()["encoder_folder"] == str(folder)
    batch = next(iter(trained.loader("val", "validate")))
    assert batch["input_ids"].shape[1] <= 24
    with pytest.raises(DataError, match=r"the network was trained on vectors of hashing .*; the data have tiny, "):
        tokens.align(mean.module_arguments())


def test_long_stories_are_told(root: Path, tmp_path: Path) -> None:
    datamodule = stories_module(tmp_path, root, max_parts=3)
    assert datamodule.index is not None
    assert any("stories have more than 3 parts; neighbouring" in sentence for sentence in datamodule.findings()[1])


def test_the_yaml_of_an_encoder_and_its_defaults_are_one_cache(repo_root: Path) -> None:
    """`prepare_data encoder=NAME` fills what `train encoder=NAME` reads."""
    files = sorted((repo_root / "conf" / "encoder").glob("*.yaml"))
    assert [path.stem for path in files] == ["hashing", "hub", "local_path", "minilm_packaged"]
    for path in files:
        options = yaml.safe_load(path.read_text())
        needed = {key: "x" for key, value in options.items() if value == "???"}
        read = dataclasses.replace(EncoderOptions.read(options | needed), batch_size=1)
        assert read == EncoderOptions(path.stem, batch_size=1, **needed)


def goemotions(root: Path, cache: Path, **changes: Any) -> GoEmotionsDataModule:
    options: dict[str, Any] = {
        "root": str(root), "num_stories": None, "encoder": HASHING, "max_parts": 6, "batch_size": 8,
        "eval_batch_size": 16, "num_workers": 0, "seed": 0, "cache_folder": str(cache),
    }  # fmt: skip
    return GoEmotionsDataModule(**(options | changes))


def write_comments(folder: Path) -> Path:
    lines = ["split\tid\tlabels\tekman\ttext"]
    for row in range(210):
        part = ("train", "train", "dev", "test", "train")[row // 7 % 5]
        lines.append(f"{part}\tc{row}\t{row % 28}\t{row % 7}\tComment {row} says word{row % 7}. Really.")
    folder.mkdir(parents=True)
    (folder / "goemotions.tsv").write_text("\n".join(lines) + "\n")
    return folder


def test_goemotions_masks_all_tasks_but_emotion_and_writes_below_the_cache(tmp_path: Path) -> None:
    source = write_comments(tmp_path / "comments")
    source.chmod(0o555)
    datamodule = goemotions(source, tmp_path / "cache")
    batch = next(iter(datamodule.loader("train", "fit")))
    assert batch["target_mask"]["emotion"].all()
    assert not any(batch["target_mask"][task].any() for task in ("bentham", "regret", "surd"))
    assert list((tmp_path / "cache" / "redheart").glob("goemotions.embedded.*.npy"))
    assert [path.name for path in source.iterdir()] == ["goemotions.tsv"]
    assert datamodule.index.classes[int(batch["target"]["emotion"][0])] in {"joy", "sadness", "anger", "fear"} | {
        "disgust", "surprise", "neutral",
    }  # fmt: skip
    test = datamodule.rows("test")
    probs = datamodule.baselines(datamodule.rows("train"), test)["tfidf_logreg"]
    assert (probs.argmax(axis=1) == datamodule.index.label[test]).mean() > 0.9


def test_fewer_comments_are_spread_over_the_file(tmp_path: Path) -> None:
    source = write_comments(tmp_path / "comments")
    datamodule = goemotions(source, tmp_path / "cache", num_stories=105)
    assert len(datamodule.index) == 105
    assert set(datamodule.fold.tolist()) == set(range(len(FOLDS)))
    with pytest.raises(ConfigError, match=r"data.num_stories is 0; allowed is null, or 1 or more"):
        goemotions(source, tmp_path, num_stories=0)
