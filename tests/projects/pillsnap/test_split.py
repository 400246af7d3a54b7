import pytest

from projects.pillsnap.chain.class_mapping import map_classes
from projects.pillsnap.chain.integration import Roots, integrate
from projects.pillsnap.split import main, parse_shares
from shared.errors import ConfigError
from tests.fabricate.pill_tree import write_pill_tree


@pytest.fixture
def dataset(tmp_path):
    raw = write_pill_tree(tmp_path / "raw", 3, num_others=3)
    map_classes(raw / "top_100_drugs.json", tmp_path / "dataset")
    integrate(tmp_path / "dataset", Roots(raw / "studio", raw / "real", raw / "others"))
    return tmp_path / "dataset"


def test_the_command_tells_groups_photos_and_absent_classes(dataset, capsys):
    assert main([str(dataset)]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].startswith("train: 48 groups, ")
    assert [line.split(" groups")[0] for line in lines[1:5]] == ["val: 3", "accept: 2", "calibrate: 1", "test: 6"]
    assert "absent from calibrate: 2 classes: K-00000" in out
    assert "others, tune: 1 classes, 6 photos" in out
    assert "others, test: 2 classes, 12 photos" in out
    assert "splits.json: written" in out
    assert main([str(dataset)]) == 0
    assert "splits.json: nothing to do" in capsys.readouterr().out


def test_shares_are_percentages_of_the_five_folds(dataset, capsys):
    assert parse_shares("70/10/5/5/10") == pytest.approx(
        {"train": 0.7, "val": 0.1, "accept": 0.05, "calibrate": 0.05, "test": 0.1}
    )
    assert main([str(dataset), "--shares", "60/20/0/0/20"]) == 0
    assert "accept: 0 groups, 0 photos" in capsys.readouterr().out
    for text in ("80/20", "a/b/c/d/e", ""):
        with pytest.raises(ConfigError, match=r"allowed are 5 percentages such as 80/5/3/2/10"):
            parse_shares(text)


def test_errors_are_one_sentence_with_their_exit_code(dataset, tmp_path, capsys):
    assert main([str(tmp_path / "none")]) == 1
    assert "run `python -m projects.pillsnap.map_classes` first" in capsys.readouterr().err
    assert main([str(dataset), "--shares", "80/5/3/2/9"]) == 2
    assert "sum to 0.99" in capsys.readouterr().err
    assert main([str(dataset), "--seed", "-1"]) == 2
    assert "seed is -1; allowed is 0 or more" in capsys.readouterr().err
