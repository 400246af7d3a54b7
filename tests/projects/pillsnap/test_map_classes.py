from projects.pillsnap.map_classes import main
from tests.fabricate.pill_tree import write_drugs


def test_the_command_says_what_it_did_and_then_that_nothing_is_to_do(tmp_path, capsys):
    arguments = [str(write_drugs(tmp_path / "d.json", ["K-2", "K-1"])), "--out", str(tmp_path / "dataset")]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "class_mapping.json: 2 classes, K-1 to K-2: made" in out
    assert out.splitlines()[-1] == f"dataset: {tmp_path / 'dataset'}"
    assert main(arguments) == 0
    assert "nothing to do" in capsys.readouterr().out
    write_drugs(tmp_path / "d.json", ["K-2", "K-1", "K-3"])
    assert main(arguments) == 0
    assert "1 class(es) added, first K-3" in capsys.readouterr().out


def test_errors_are_one_sentence_with_their_exit_code(tmp_path, capsys):
    assert main([str(tmp_path / "no.json"), "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.endswith("no.json does not exist.\n")
    drugs = write_drugs(tmp_path / "d.json", ["K-2", "K-1"])
    assert main([str(drugs), "--out", str(drugs / "below")]) == 1
    assert "cannot be written" in capsys.readouterr().err
