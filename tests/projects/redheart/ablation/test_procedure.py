import json
from types import SimpleNamespace

import pytest

from projects.redheart.ablation import procedure
from projects.redheart.ablation.procedure import NOTE, ablate, kept_part
from shared.errors import DataError
from tests.projects.redheart.ablation.story_answers import story_answers


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose passes over the test fold are made up."""
    (tmp_path / "status.json").write_text("{}")
    loaded = SimpleNamespace(run=SimpleNamespace(path=tmp_path), settings=SimpleNamespace(seed=0))
    opened = SimpleNamespace(loaded=loaded, final_sha256="ab", analyzers=("dsp",), switches=("backbone", "dsp"))
    monkeypatch.setattr(procedure, "open_run", lambda path, progress: opened)
    answers = story_answers(60), {"dsp": story_answers(60, 0.3)}
    monkeypatch.setattr(procedure, "switched_off_answers", lambda opened, progress: answers)
    return tmp_path


def test_what_was_retrained_is_kept_for_the_same_network_and_not_for_another(run):
    path = run / "ablation" / "ablation.json"
    assert "retrained" not in ablate(run, draws=100, quiet=True)
    before = json.loads(path.read_text())
    part = before["switched_off"] | {"epochs": 3, "runs": {"all": "a"}}
    path.write_text(json.dumps(before | {"retrained": part}))
    assert ablate(run, draws=100, quiet=True)["retrained"] == part
    assert json.loads(path.read_text())["retrained"] == part
    assert "retrained,dsp,emotion/nll" in (run / "ablation" / "ablation.csv").read_text()
    path.write_text(json.dumps(before | {"retrained": part, "final_sha256": "other"}))
    assert "retrained" not in ablate(run, draws=100, quiet=True)


def test_retraining_that_is_stopped_leaves_what_was_there(run, monkeypatch):
    path = run / "ablation" / "ablation.json"
    ablate(run, draws=100, quiet=True)
    part = {"comparisons": 0, "rows": [], "sentences": [], "epochs": 3}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"retrained": part}))

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(procedure, "_retrained", stopped)
    with pytest.raises(KeyboardInterrupt):
        ablate(run, epochs=5, draws=100, quiet=True)
    assert json.loads(path.read_text())["retrained"] == part
    monkeypatch.setattr(procedure, "_retrained", lambda *_: part | {"epochs": 5})
    assert ablate(run, epochs=5, draws=100, quiet=True)["retrained"]["epochs"] == 5


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "ablation.json"
    assert kept_part(path, "ab") == {}
    path.write_text("{")
    with pytest.raises(DataError, match=r"ablation\.json is damaged \(JSONDecodeError.*; remove it and ablate again"):
        kept_part(path, "ab")


def test_the_note_says_what_is_retrained_and_what_the_correction_covers():
    assert "backbone and heads are only switched off" in NOTE
    assert "Holm's correction is made within each way by itself" in NOTE
