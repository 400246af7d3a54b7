"""The command: a table at the end, a second call with nothing to do, one sentence and code 2 for bad input."""

import os
import signal
from pathlib import Path

import pytest

from projects.redheart.data.datamodule import StoriesDataModule
from projects.redheart.prepare_data import main, parse_encoder, parse_shares
from shared.errors import ConfigError
from tests.fabricate.stories import story_objects, write_stories


@pytest.fixture
def source(tmp_path: Path) -> Path:
    objects = story_objects(120)
    return write_stories(tmp_path / "stories.json", [*objects, objects[5] | {"id": "copy"}])


def test_it_tells_the_way_from_the_file_to_the_folds(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([str(source), str(out), "encoder=hashing", "encoder.dim=16"]) == 0
    printed = capsys.readouterr().out
    assert "121 stories read -> 120 kept -> " in printed
    assert "sadness" in printed
    assert "done now: quality, split" in printed
    assert "source: real; no record of a stand-in lies beside the file" in printed
    assert "encoder: hashing (mean of whole text" in printed
    assert printed.splitlines()[-1] == f"data: {out}"
    assert main([str(source), str(out), "encoder=hashing", "encoder.dim=16"]) == 0
    assert "done now: nothing" in capsys.readouterr().out


def test_training_finds_every_embedding_there(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([str(source), str(out), "encoder.dim=16", "--max-parts", "5"]) == 0
    rows = next(out.glob("stories.embedded.*.npy"))
    before = rows.read_bytes()
    datamodule = StoriesDataModule(
        root=str(out), standin={}, num_stories=None, leave_out_subject=None, encoder={"name": "hashing", "dim": 16},
        max_parts=5, batch_size=8, eval_batch_size=8, num_workers=0, seed=3, cache_folder=str(tmp_path / "cache"),
    )  # fmt: skip
    assert len(datamodule.index) == 120
    assert rows.read_bytes() == before
    assert len(list(out.glob("*.npy"))) == 1


def test_nothing_is_embedded_where_that_is_asked_for(source: Path, tmp_path: Path) -> None:
    assert main([str(source), str(tmp_path / "out"), "encoder=none"]) == 0
    assert not list((tmp_path / "out").glob("*.embedded.*"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--shares", "80/20"], "the shares are '80/20'; allowed are 5 percentages"),
        (["--seed", "-1"], "seed is -1; allowed is 0 or more"),
        (["encoder=bert"], "data.encoder.name is 'bert'"),
        (["encode"], "'encode' is no option; allowed are encoder=NAME"),
        (["--emotions", "a,b"], "data.emotions is ('a', 'b')"),
        (["--subjects", "nobody.csv"], "the ratings nobody.csv do not exist"),
        (["--threshold", "40"], "data.threshold is 40.0; allowed is above 50 to 100"),
        (["--threshold", "nan"], "data.threshold is nan; allowed is above 50 to 100"),
        (["--max-parts", "0", "encoder=none"], "--max-parts is 0; allowed is 3 or more"),
        (["encoder.dim=foo"], "data.encoder.dim is 'foo'; allowed is a whole number"),
        (["encoder.dim=["], "'encoder.dim=[' cannot be read; allowed is a plain value"),
    ],
)
def test_wrong_options_are_one_sentence_and_code_2(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert main([str(source), str(tmp_path / "out"), *arguments]) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert len(told.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_says_how_to_go_on(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    signum: signal.Signals, code: int,
) -> None:  # fmt: skip
    def stopped(*arguments: object) -> None:
        os.kill(os.getpid(), signum)

    with monkeypatch.context() as patch:
        patch.setattr("projects.redheart.prepare_data._embed", stopped)
        assert main([str(source), str(tmp_path / "my out"), "--seed", "3"]) == code
    told = capsys.readouterr().err.strip()
    assert told == (
        f"stopped by {signum.name}; go on with: python -m projects.redheart.prepare_data {source} "
        f"'{tmp_path / 'my out'}' --seed 3"
    )
    assert main([str(source), str(tmp_path / "my out"), "--seed", "3", "encoder=none"]) == 0
    assert "done now: nothing" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"[{", b"\xff\xfe", b"{}", b"[]", b'[{"id": "a", "text": "x", "label": 9}]'])
def test_bad_stories_are_one_sentence_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    source = tmp_path / "stories.json"
    source.write_bytes(content)
    assert main([str(source), str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert str(source) in told
    assert len(told.strip().splitlines()) == 1


def test_words_become_options() -> None:
    assert parse_encoder([]) == {"name": "hashing"}
    assert parse_encoder(["data.encoder.dim=64"]) == {"name": "hashing", "dim": 64}
    assert parse_encoder(["encoder=none"]) is None
    assert parse_shares("70/10/5/5/10")["val"] == pytest.approx(0.1)
    with pytest.raises(ConfigError, match="encoder=hashing has none: take"):
        parse_encoder(["encoder.finetune=true"])
