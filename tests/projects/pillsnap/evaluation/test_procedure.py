import json
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from projects.pillsnap.data.datamodule import PillDataModule
from projects.pillsnap.data.nih_datamodule import NihDataModule
from projects.pillsnap.evaluation import conditions, procedure
from projects.pillsnap.evaluation.open_set import NoneOfThese
from projects.pillsnap.evaluation.procedure import EvaluationSettings, evaluate_run
from projects.pillsnap.evaluation.run_access import HoldsOthers
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
        ("threshold", "accept", "evaluate"), ("fit", "train", "evaluate"),
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
    # Train for the floor and for what the heads are compared with.
    assert [fold for _, fold, _ in opened.ledger.asked] == ["test", "train", "train"]


def test_a_file_of_an_earlier_call_goes_when_nothing_can_be_fitted(evaluated, tmp_path: Path) -> None:
    earlier = tmp_path / "evaluation" / "none_of_these.json"
    earlier.parent.mkdir()
    earlier.write_text("{}")
    evaluated(MadeUpData(num_others=0))
    assert not earlier.exists()


def test_known_photos_are_of_the_domain_of_the_held_out_ones(evaluated) -> None:
    data = MadeUpData()
    data.others_domain = "studio"
    _, content, _, opened = evaluated(data)
    assert content["open_set"]["domain"] == "studio"
    studio = data.rows("test")[data.index.meta["domain"][data.rows("test")] == 1]
    assert content["open_set"]["n_known"] == len(studio) == 48
    kept = list((opened.folder / "logits").glob("calibrate-*.npz"))
    calibrate = data.rows("calibrate")
    of_studio = [data.index.ids[row] for row in calibrate[data.index.meta["domain"][calibrate] == 1]]
    store = procedure.KeptPasses(opened.folder / "logits", "ab" * 32, data.preprocess, lambda *step: None)
    assert kept == [store.path("calibrate-clean", of_studio)]


def test_photos_of_another_domain_do_not_stand_in(evaluated) -> None:
    data = MadeUpData()
    data.others_domain = "kitchen"
    folder, content, _, _ = evaluated(data)
    assert "there are 0 photos of the classes in calibrate, 0 in accept and 21 of" in content["open_set_missing"]
    data = MadeUpData()
    domain = data.index.meta["domain"]
    domain[data.rows("test")] = 1  # the others stay real, as what is tuned on
    _, content, _, _ = evaluated(data)
    assert content["open_set_missing"] == (
        "no test photo of the classes is of the domain real, as those of the held-out classes are"
    )
    assert not (folder / "none_of_these.json").exists()


def test_a_held_out_photo_with_other_bytes_is_passed_again(evaluated) -> None:
    evaluated()
    data = MadeUpData()
    evaluated(data)
    assert data.read_others == []
    data = MadeUpData()
    data.changed_others = {"test/2/1"}
    evaluated(data)
    assert sorted(data.read_others) == sorted(path for path, _ in data.others("test"))


def test_backgrounds_and_sides_that_are_missing_are_said(evaluated) -> None:
    folder, content, _, _ = evaluated()
    assert any(
        "a rendered photo again in its own scene with nothing but the surface swapped" in s for s in content["notes"]
    )
    data = MadeUpData()
    data.index.meta["surface"][:] = 1
    folder, content, _, _ = evaluated(data)
    assert "retrieval" not in content
    page = (folder / "evaluation.md").read_text()
    assert "Front to back: not measured, no pill of the test fold was photographed from both sides." in page


def test_targets_are_for_drugs_and_not_for_any_data_with_held_out_classes(
    evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procedure, "TARGET_CLASSES", 6)
    assert not evaluated()[1]["has_targets"]
    data = MadeUpData()
    names = tuple(data.index.classes)
    data.dataset = SimpleNamespace(names=names, metadata={name: {"shape": "round"} for name in names})
    assert evaluated(data)[1]["has_targets"]


@pytest.mark.parametrize("kind", [PillDataModule, NihDataModule])
def test_the_data_of_the_project_hold_others(kind: type) -> None:
    assert isinstance(object.__new__(kind), HoldsOthers)
    assert kind.others_domain in ("real", "studio")


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
