import json

import pytest

from projects.pillsnap.chain.class_mapping import map_classes
from projects.pillsnap.chain.dataset import read_dataset
from projects.pillsnap.chain.integration import Roots, integrate
from projects.pillsnap.chain.splitting import split
from projects.pillsnap.manifest import main
from projects.pillsnap.preprocess import UnifiedPreprocessor
from tests.fabricate.pill_tree import write_pill_tree


@pytest.fixture
def dataset(tmp_path):
    raw = write_pill_tree(tmp_path / "raw", 3, num_others=2)
    map_classes(raw / "top_100_drugs.json", tmp_path / "dataset")
    integrate(tmp_path / "dataset", Roots(raw / "studio", raw / "real", raw / "others"))
    split(tmp_path / "dataset")
    return tmp_path / "dataset"


def test_the_command_says_what_it_did_and_then_that_nothing_is_to_do(dataset, capsys):
    assert main([str(dataset), "--size-px", "128", "--name", "mine", "--data-version", "2"]) == 0
    out = capsys.readouterr().out
    assert "hashed: 150 photos of 3 classes, 12 of other drugs" in out
    assert f"preprocessing: 128 px, digest {UnifiedPreprocessor(size_px=128).digest()[:12]}" in out
    assert "manifest.json: made" in out
    found = read_dataset(dataset).manifest
    assert (found["name"], found["version"]) == ("mine", "2")
    assert main([str(dataset), "--size-px", "128", "--name", "mine", "--data-version", "2"]) == 0
    assert "manifest.json: nothing to do" in capsys.readouterr().out
    assert main([str(dataset), "--size-px", "128"]) == 0
    assert "manifest.json: name, version" in capsys.readouterr().out


def test_settings_come_from_files(dataset, tmp_path):
    (tmp_path / "pixels.json").write_text(json.dumps(UnifiedPreprocessor(size_px=64, clahe=False).get_config()))
    (tmp_path / "augmentation.json").write_text('{"rotation_degrees": 5}')
    arguments = [str(dataset), "--preprocessing", str(tmp_path / "pixels.json")]
    assert main([*arguments, "--augmentation", str(tmp_path / "augmentation.json")]) == 0
    found = read_dataset(dataset).manifest
    assert found["preprocessing"]["clahe"] is False
    assert found["augmentation"] == {"rotation_degrees": 5}


def test_errors_are_one_sentence_with_their_exit_code(dataset, tmp_path, capsys):
    assert main([str(dataset), "--size-px", "13"]) == 2
    assert "the preprocessing cannot be used: size_px is 13" in capsys.readouterr().err
    assert main([str(dataset), "--augmentation", str(tmp_path / "no.json")]) == 1
    assert "no.json cannot be read (No such file or directory)." in capsys.readouterr().err
    (dataset / "splits.json").unlink()
    assert main([str(dataset)]) == 1
    assert "run `python -m projects.pillsnap.split` first" in capsys.readouterr().err
