"""The example in the docs runs as it stands: somebody else's module, the callbacks, nothing of ours else."""

import json
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "choosing-and-calibrating.md"


@pytest.fixture
def example():
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return block


def test_the_example_of_a_plain_module_runs(example, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "example"}
    exec(compile(example, str(PAGE), "exec"), names)
    folder = tmp_path / "outputs" / "plain"
    for file in ("sweet_spots.json", "crossover.json", "crossover_final.safetensors", "calibration.json"):
        assert (folder / file).is_file(), file
    assert len(list((folder / "snapshots").glob("e*/metrics.json"))) == 8
    spots = json.loads((folder / "sweet_spots.json").read_text())
    assert spots["decision"] == "chosen"
    assert set(spots["epochs"]) == {"encoder", "head"}
    details = json.loads((folder / "crossover.json").read_text())
    assert details["form"] == "held-out accept part"  # 20 and 40 patients
    assert details["n_groups"] == 40
    calibration = json.loads((folder / "calibration.json").read_text())
    assert calibration["groups"] == 30
    printed = capsys.readouterr().out
    assert details["decision"] in printed
    assert calibration["reason"] in printed


def test_the_example_imports_nothing_of_ours_but_the_callbacks(example):
    imported = re.findall(r"^from (shared[\w.]*)", example, re.MULTILINE)
    assert sorted(imported) == [
        f"shared.callbacks.{name}" for name in ("crossover", "ema", "sweet_spot", "temperature_scaling")
    ]
    assert "projects." not in example
