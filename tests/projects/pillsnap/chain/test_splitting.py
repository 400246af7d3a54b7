import json
from collections import defaultdict

import pytest

from projects.pillsnap.chain import splitting
from projects.pillsnap.chain.captures import read_captures
from projects.pillsnap.chain.class_mapping import map_classes
from projects.pillsnap.chain.integration import IntegrationSettings, Roots, integrate
from projects.pillsnap.chain.splitting import split
from shared.errors import ConfigError, DataError
from shared.folds import FOLDS
from tests.fabricate.pill_tree import sittings, write_drugs, write_photos


def content(dataset):
    return json.loads((dataset / "splits.json").read_text())


def test_no_group_is_in_two_folds_and_every_photo_is_in_one(integrated):
    split(integrated)
    found = content(integrated)
    folds = defaultdict(set)
    paths = []
    for name in FOLDS:
        for row in found["folds"][name]:
            folds[row["group"]].add(name)
            paths.append(row["path"])
            assert row["kcode"] == row["path"].split("/")[1]
            assert row["label"] == int(row["kcode"][-1]) - 1
            assert row["domain"] == row["path"].split("/")[2].split("_")[0]
    assert all(len(names) == 1 for names in folds.values())
    assert {group: next(iter(names)) for group, names in folds.items()} == found["groups"]
    known = [row.path for row in read_captures(integrated) if row.domain != "other"]
    assert sorted(paths) == known
    on_disk = {str(path.relative_to(integrated)) for path in (integrated / "combined").glob("*/*")}
    assert set(paths) == on_disk


def test_shares_are_shares_of_groups_and_test_holds_both_domains_of_each_class(integrated):
    summary = split(integrated)
    assert {name: summary.counts[name]["groups"] for name in FOLDS} == {
        "train": 64, "val": 4, "accept": 2, "calibrate": 2, "test": 8,
    }  # fmt: skip
    assert summary.splits.stratified_by == "class and domain"
    rows = content(integrated)["folds"]["test"]
    assert {(row["kcode"], row["domain"]) for row in rows} == {
        (f"K-00000{number}", domain) for number in range(1, 5) for domain in ("studio", "real")
    }
    assert summary.absent["train"] == summary.absent["val"] == summary.absent["test"] == []
    assert len(summary.absent["accept"]) == 2
    present = {row["kcode"] for row in content(integrated)["folds"]["accept"]}
    assert present.isdisjoint(summary.absent["accept"])


def test_other_drugs_go_whole_to_one_part(integrated):
    summary = split(integrated)
    found = content(integrated)["others"]
    tune, test = ({row["kcode"] for row in found[part]} for part in ("tune", "test"))
    assert len(tune) == len(test) == 2
    assert tune.isdisjoint(test)
    assert summary.others == {"tune": {"classes": 2, "images": 12}, "test": {"classes": 2, "images": 12}}


def test_equal_runs_give_equal_bytes_and_other_seeds_another_split(integrated):
    assert split(integrated).changed
    before = (integrated / "splits.json").read_bytes()
    stamp = (integrated / "splits.json").stat().st_mtime_ns
    assert not split(integrated).changed
    assert (integrated / "splits.json").stat().st_mtime_ns == stamp
    split(integrated, seed=1)
    assert content(integrated)["groups"] != json.loads(before)["groups"]
    split(integrated, seed=0)
    assert (integrated / "splits.json").read_bytes() == before


def test_other_shares_are_obeyed(integrated):
    summary = split(integrated, shares={"train": 0.5, "val": 0.25, "test": 0.25})
    assert [summary.counts[name]["groups"] for name in FOLDS] == [40, 20, 0, 0, 20]
    with pytest.raises(ConfigError, match=r"the shares of the folds sum to 0\.9"):
        split(integrated, shares={"train": 0.9})


def test_shared_sittings_stay_together_over_classes(mapped, roots):
    integrate(mapped, roots, IntegrationSettings(shared_captures=True))
    split(mapped)
    folds = defaultdict(set)
    for name, rows in content(mapped)["folds"].items():
        for row in rows:
            domain, file = row["path"].split("/")[2].split("_", 1)
            folds[domain, file.split("_")[0]].add(name)
    assert len(folds) == 20
    assert all(len(names) == 1 for names in folds.values())


def test_with_few_groups_it_is_stratified_by_class_alone(tmp_path):
    write_drugs(tmp_path / "drugs.json", ["K-1", "K-2"])
    for kcode in ("K-1", "K-2"):
        write_photos(tmp_path / "studio", kcode, sittings("s", 1, 2))
        write_photos(tmp_path / "real", kcode, sittings("r", 2, 2))
    map_classes(tmp_path / "drugs.json", tmp_path / "d")
    integrate(tmp_path / "d", Roots(tmp_path / "studio", tmp_path / "real"))
    summary = split(tmp_path / "d")
    assert summary.splits.stratified_by == "class"
    assert sum(count["groups"] for count in summary.counts.values()) == 6
    assert summary.absent["train"] == []
    assert summary.others == {"tune": {"classes": 0, "images": 0}, "test": {"classes": 0, "images": 0}}


def test_with_many_classes_it_is_stratified_by_class_alone(integrated, monkeypatch):
    monkeypatch.setattr(splitting, "MAX_SETS", 7)  # four classes of two domains are eight sets
    assert split(integrated).splits.stratified_by == "class"
    monkeypatch.setattr(splitting, "MAX_SETS", 8)
    assert split(integrated).splits.stratified_by == "class and domain"


def test_too_few_groups_are_one_sentence(tmp_path):
    write_drugs(tmp_path / "drugs.json", ["K-1", "K-2"])
    for kcode in ("K-1", "K-2"):
        write_photos(tmp_path / "studio", kcode, {"s0": 3})
        write_photos(tmp_path / "real", kcode, {"r0": 7})
    map_classes(tmp_path / "drugs.json", tmp_path / "d")
    integrate(tmp_path / "d", Roots(tmp_path / "studio", tmp_path / "real"))
    with pytest.raises(DataError, match=r"5 groups are needed, .* found 4"):
        split(tmp_path / "d")


def test_an_integration_that_does_not_fit_its_mapping_or_table_is_refused(integrated, raw):
    captures = integrated / "captures.csv"
    text = captures.read_text()
    captures.write_text(text.replace("real/K-000001/r00,", "real/K-000001/r01,"))
    with pytest.raises(DataError, match=r"captures\.csv is not the file that integration_stats\.json belongs to"):
        split(integrated)
    captures.write_text(text)
    write_drugs(raw / "top_100_drugs.json", [f"K-00000{number}" for number in range(1, 6)])
    map_classes(raw / "top_100_drugs.json", integrated)
    with pytest.raises(
        DataError,
        match=r"class_mapping\.json has sha256 \w{12}, but integration_stats\.json was made from \w{12}: it changed "
        r"since; run `python -m projects\.pillsnap\.integrate`, `split`, `manifest` again",
    ):
        split(integrated)
    (integrated / "integration_stats.json").write_text("[]")
    with pytest.raises(
        DataError, match=r"integration_stats\.json is damaged; run `python -m projects\.pillsnap\.integr"
    ):
        split(integrated)
