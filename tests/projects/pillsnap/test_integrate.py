import shutil

import pytest

from projects.pillsnap.chain.class_mapping import map_classes
from projects.pillsnap.integrate import main
from tests.fabricate.pill_tree import write_pill_tree


@pytest.fixture
def arguments(tmp_path):
    raw = write_pill_tree(tmp_path / "raw", 3, num_others=1)
    map_classes(raw / "top_100_drugs.json", tmp_path / "dataset")
    return [str(tmp_path / "dataset"), "--studio", str(raw / "studio"), "--real", str(raw / "real")]


def test_the_command_says_what_it_did_and_then_that_nothing_is_to_do(arguments, tmp_path, capsys):
    assert main([*arguments, "--others", str(tmp_path / "raw" / "others")]) == 0
    out = capsys.readouterr().out
    for line in (
        "studio: 45 photos in 24 groups",
        "real: 105 photos in 36 groups",
        "other: 6 photos in 3 groups",
        "wrote 156 photos, removed 0: made",
        "next: python -m projects.pillsnap.split, then manifest",
    ):
        assert line in out
    assert out.splitlines()[-1] == f"dataset: {tmp_path / 'dataset'}"
    assert main([*arguments, "--others", str(tmp_path / "raw" / "others")]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "removed 6: 6 photo(s) removed, first others/K-900001/other_r00_00.jpg" in capsys.readouterr().out


def test_what_was_left_out_and_what_falls_short_is_printed(arguments, tmp_path, capsys):
    real = tmp_path / "raw" / "real"
    for path in (real / "K-000002").glob("r0*"):
        path.unlink()
    shutil.copy(real / "K-000001" / "r00_00.jpg", real / "K-000001" / "again.jpg")
    (real / "K-7").mkdir()
    (real / "K-000001" / "notes.txt").touch()
    assert main(arguments) == 0
    out = capsys.readouterr().out
    for text in (
        "classes short of 3:7 or of 50 photos",
        "K-000002",
        "16/16",
        "6/6",
        "ratio, images",
        "captures: 1 file names tell no capture",
        "same bytes: 1 photos repeat another of their class",
        "skipped in real: 1 no image by its name",
        "unknown in real: 1 folders are no class, first K-7",
    ):
        assert text in out


def test_strict_prints_the_table_and_writes_nothing(arguments, tmp_path, capsys):
    shutil.rmtree(tmp_path / "raw" / "studio" / "K-000003")
    assert main([*arguments, "--strict"]) == 1
    printed = capsys.readouterr()
    assert "no studio photo" in printed.out
    assert "1 of 3 classes fall short of the ratio or the minimum, first K-000003" in printed.err
    assert [path.name for path in (tmp_path / "dataset").iterdir()] == ["class_mapping.json"]
    assert main(arguments) == 0
    assert main([*arguments, "--ratio", "1:3", "--min-images", "1", "--strict"]) == 1


def test_options_reach_the_settings(arguments, capsys):
    assert (
        main([*arguments, "--ratio", "1:1", "--min-images", "4", "--seed", "3", "--shared-captures", "--strict"]) == 0
    )
    out = capsys.readouterr().out
    assert "studio: 48 photos in 8 groups" in out
    assert "real: 48 photos in " in out


@pytest.mark.parametrize(
    ("extra", "code", "sentence"),
    [
        (["--ratio", "3-7"], 2, "the ratio is '3-7'"),
        (["--min-images", "0"], 2, "min_images is 0"),
        (["--capture-pattern", "x"], 2, "must name its part"),
        (["--studio", "nowhere"], 1, "the studio root nowhere is no folder"),
    ],
)
def test_errors_are_one_sentence_with_their_exit_code(arguments, extra, code, sentence, capsys):
    assert main([*arguments, *extra]) == code
    err = capsys.readouterr().err
    assert sentence in err
    assert len(err.splitlines()) == 1
