import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from projects.pillsnap.evaluation import conditions, procedure
from projects.pillsnap.evaluation.open_set import NoneOfThese
from projects.pillsnap.evaluation.procedure import EvaluationSettings, evaluate_run
from shared.errors import ConfigError
from tests.fabricate.pill_opened_run import MadeUpData, made_up_network, made_up_run

QUICK = EvaluationSettings(base_rate=0.2, batch_size=37, draws=100, device="cpu")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return made_up_network()


@pytest.fixture
def few_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave four rows in the stress table."""
    chosen = ("clean", "exposure_minus2", "noise_30", "JPEG_85", "background_wood")

    def few(backgrounds: tuple[str, ...]) -> list[conditions.Condition]:
        return [row for row in conditions.standard_conditions(backgrounds) if row.name in chosen]

    monkeypatch.setattr(procedure, "standard_conditions", few)


@pytest.fixture
def evaluated(few_conditions: None, network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that evaluates a made-up run: (folder, content, data, opened run)."""

    def run(data: MadeUpData | None = None, settings: EvaluationSettings = QUICK, final: str = "ab" * 32):
        data = data or MadeUpData()
        opened = made_up_run(tmp_path, data, network, final)
        monkeypatch.setattr(procedure, "open_run", lambda path, progress: opened)
        folder, content = evaluate_run(tmp_path, settings, Console(file=StringIO(), width=100))
        return folder, content, data, opened

    return run


def test_all_parts_are_written_and_the_ledger_is_asked_first(evaluated) -> None:
    folder, content, data, opened = evaluated()
    assert opened.ledger.asked == [
        ("test", "test", "evaluate"), ("fit", "train", "evaluate"), ("calibrate", "calibrate", "evaluate"),
        ("threshold", "accept", "evaluate"),
    ]  # fmt: skip
    written = json.loads((folder / "evaluation.json").read_text())
    assert written["final_sha256"] == "ab" * 32
    assert written["clean"]["scores"]["all"]["n"] == len(data.rows("test")) == 96
    assert written["clean"]["scores"]["all"]["groups"] == 24
    assert [row["name"] for row in written["stress"]] == ["exposure_minus2", "noise_30", "JPEG_85", "background_wood"]
    assert set(written["attributes"]) == {"shape"}
    assert set(written["retrieval"]) == {"real", "studio"}
    assert written["retrieval"]["studio"]["gallery"] == 24
    for name in written["figures"].values():
        with Image.open(folder / name) as figure:
            assert figure.width > 300
    assert set(written["figures"]) == {
        "Top-1 and top-5", "Confusion matrix", "Stress", "None of these", "Front to back"
    }  # fmt: skip
    page = (folder / "evaluation.md").read_text()
    for heading in (
        "## Stress",
        "## Weak classes",
        "## None of these",
        "## Shape and colour heads",
        "## Front to back",
    ):
        assert heading in page
    assert "two photos are odd" in page
    assert content["notes"] == written["notes"]


def test_the_numbers_are_those_of_the_network_on_preprocessed_photos(evaluated, network) -> None:
    _, content, data, _ = evaluated()
    rows = data.rows("test")
    with torch.no_grad():
        logits = network.network(torch.from_numpy(np.stack([data.preprocess(data.photo(row)) for row in rows])))
        dark = [conditions.exposure(data.photo(row), stops=-2) for row in rows]
        logits_dark = network.network(torch.from_numpy(np.stack([data.preprocess(image) for image in dark])))
    target = data.index.label[rows]
    right = (logits.argmax(dim=1).numpy() == target).mean()
    right_dark = (logits_dark.argmax(dim=1).numpy() == target).mean()
    assert content["clean"]["scores"]["all"]["top1"]["value"] == pytest.approx(right)
    change = content["stress"][0]["parts"]["all"]["top1_change"]["value"]
    assert change == pytest.approx(right_dark - right)
    agree = (logits.argmax(dim=1).numpy() == 0).mean()
    assert content["agreement"] == {"n": 96, "missing": 0, "share": pytest.approx(agree)}


def test_none_of_these_is_tuned_apart_from_what_it_is_measured_on(evaluated, network) -> None:
    folder, content, data, _ = evaluated()
    stored = json.loads((folder / "none_of_these.json").read_text())
    fitted = NoneOfThese.from_dict(stored)
    assert stored["tuning"]["photos"] == {"calibrate": 24, "accept": 24, "others": 21}
    assert (stored["tuning"]["base_rate"], stored["final_sha256"]) == (0.2, "ab" * 32)
    accept = data.rows("accept")
    real = accept[data.index.meta["domain"][accept] == 0]
    with torch.no_grad():
        logits = network.network(torch.from_numpy(np.stack([data.preprocess(data.photo(row)) for row in real])))
    # 0.95 of 24 photos is 22.8, so 23 are answered; equal pixels give equal probabilities, so it may be more.
    assert (~fitted.decide(logits.double().numpy())).sum() >= 23
    part = content["open_set"]
    assert (part["n_known"], part["n_unknown"], part["unknown_classes"], part["domain"]) == (48, 21, 7, "real")


def test_without_held_out_classes_the_page_says_so_and_no_file_is_written(evaluated) -> None:
    folder, content, _, opened = evaluated(MadeUpData(num_others=0))
    assert content["open_set_missing"] == "these data hold no photos of other classes to tune on"
    assert not (folder / "none_of_these.json").exists()
    assert (
        "None of these: not measured, these data hold no photos of other classes"
        in (folder / "evaluation.md").read_text()
    )
    assert [fold for _, fold, _ in opened.ledger.asked] == ["test", "train"]  # train for the floor


def test_a_second_call_reads_what_is_kept_and_says_the_same(evaluated) -> None:
    folder, first, _, _ = evaluated()
    page = (folder / "evaluation.json").read_bytes()
    data = MadeUpData()
    _, second, _, _ = evaluated(data)
    assert len(data.read_rows) == 96 + 144  # pixels that retrieval is compared with, and the floor's; nothing else
    assert second["clean"] == first["clean"]
    assert (folder / "evaluation.json").read_bytes() == page


def test_a_killed_call_goes_on_with_the_condition_it_was_at(evaluated, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*arguments, **options):
        raise KeyboardInterrupt

    rows = [row for row in conditions.standard_conditions(["wood"]) if row.name in ("clean", "noise_30", "JPEG_85")]
    broken = [row if row.name != "JPEG_85" else conditions.Condition(*_fields(row), killed) for row in rows]
    monkeypatch.setattr(procedure, "standard_conditions", lambda backgrounds: broken)
    with pytest.raises(KeyboardInterrupt):
        evaluated()
    monkeypatch.setattr(procedure, "standard_conditions", lambda backgrounds: rows)
    data = MadeUpData(num_others=0)
    folder, content, _, _ = evaluated(data)
    assert len(data.read_rows) == 96 + 96 + 144  # the last condition, the pixels of retrieval and the floor's
    assert content["stress"][-1]["name"] == "JPEG_85"
    assert len(list((folder / "logits").glob("test-*.npz"))) == 3


def _fields(row: conditions.Condition) -> tuple[str, str, str, str]:
    return row.name, row.kind, row.level, row.unit


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_rate": 1.0}, r"--base-rate is 1.0, allowed: a share between 0 and 1"),
        ({"accept_known": 0.0}, r"--accept-known is 0.0, allowed: a share above 0, at most 1"),
        ({"batch_size": 0}, r"--batch-size is 0, allowed: 1 or more"),
        ({"draws": 99}, r"--draws is 99, allowed: 100 or more"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EvaluationSettings(**options)
