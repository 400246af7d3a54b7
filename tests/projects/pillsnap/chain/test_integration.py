import json
import shutil

import pytest

from projects.pillsnap.chain.captures import read_captures
from projects.pillsnap.chain.class_mapping import map_classes
from projects.pillsnap.chain.integration import IntegrationSettings, Roots, integrate, plan_integration
from projects.pillsnap.chain.selection import Ratio
from shared.errors import ConfigError, DataError
from tests.fabricate.pill_tree import sittings, write_drugs, write_photos


def counted(dataset):
    """Count (class, domain) from the folders themselves."""
    found = {}
    for path in (dataset / "combined").glob("*/*"):
        key = path.parent.name, path.name.split("_")[0]
        found[key] = found.get(key, 0) + 1
    return found


def test_each_class_has_exactly_three_to_seven(mapped, roots):
    plan, outcome = integrate(mapped, roots)
    assert counted(mapped) == {
        (f"K-00000{number}", domain): count
        for number in range(1, 5)
        for domain, count in (("studio", 15), ("real", 35))
    }
    assert plan.shortfalls == []
    assert outcome.written == 4 * 50 + 4 * 6
    stats = json.loads((mapped / "integration_stats.json").read_text())
    assert stats["images"] == {"studio": 60, "real": 140, "other": 24}
    assert stats["groups"] == {"studio": 4 * 8, "real": 4 * 12, "other": 12}
    assert stats["other_classes"] == 4
    assert stats["roots"] == {"studio": "../raw/studio", "real": "../raw/real", "others": "../raw/others"}
    assert stats["classes"]["K-000001"] == {
        "available": {"studio": 16, "real": 36}, "used": {"studio": 15, "real": 35},
    }  # fmt: skip


def test_at_most_one_capture_of_a_class_and_domain_is_torn(integrated):
    captures = {}
    for row in read_captures(integrated):
        captures.setdefault(row.capture, []).append(row)
    for kcode in ("K-000001", "K-000004"):
        studio = sorted(len(rows) for name, rows in captures.items() if name.startswith(f"studio/{kcode}/"))
        real = sorted(len(rows) for name, rows in captures.items() if name.startswith(f"real/{kcode}/"))
        assert studio == [1] + [2] * 7
        assert real == [2] + [3] * 11


def test_studio_is_linked_by_relative_paths_and_the_rest_copied(integrated, raw, tmp_path):
    link = integrated / "combined" / "K-000001" / "studio_s00_00.jpg"
    assert str(link.readlink()) == "../../../raw/studio/K-000001/s00_00.jpg"
    copy = integrated / "combined" / "K-000001" / "real_r00_01.jpg"
    assert not copy.is_symlink()
    assert copy.read_bytes() == (raw / "real" / "K-000001" / "r00_01.jpg").read_bytes()
    assert not (integrated / "others" / "K-900001" / "other_r00_00.jpg").is_symlink()
    (tmp_path / "moved").mkdir()
    for name in ("raw", "dataset"):
        shutil.move(tmp_path / name, tmp_path / "moved" / name)
    moved = tmp_path / "moved" / "dataset" / "combined" / "K-000001" / "studio_s00_00.jpg"
    assert moved.read_bytes() == (tmp_path / "moved" / "raw" / "studio" / "K-000001" / "s00_00.jpg").read_bytes()


def test_links_lead_home_from_a_data_set_behind_a_link(raw, roots, tmp_path):
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "near").symlink_to(tmp_path / "far" / "away")
    dataset = tmp_path / "near" / "dataset"
    map_classes(raw / "top_100_drugs.json", dataset)
    integrate(dataset, roots)
    assert (dataset / "combined" / "K-000001" / "studio_s00_00.jpg").read_bytes()


@pytest.fixture
def short(tmp_path):
    """Classes of which only K-5 can hold ratio and minimum."""
    root = tmp_path / "short"
    write_drugs(root / "drugs.json", ["K-1", "K-2", "K-3", "K-4", "K-5"])
    for kcode, studio, real in (("K-1", 6, 100), ("K-2", 0, 70), ("K-3", 9, 0), ("K-4", 3, 7), ("K-5", 15, 35)):
        write_photos(root / "studio", kcode, sittings("s", studio, 1))
        write_photos(root / "real", kcode, sittings("r", real, 1))
    map_classes(root / "drugs.json", tmp_path / "dataset")
    return tmp_path / "dataset", Roots(root / "studio", root / "real")


def test_a_class_that_falls_short_is_kept_and_told(short):
    dataset, roots = short
    plan, _ = integrate(dataset, roots)
    assert counted(dataset) == {
        ("K-1", "studio"): 6, ("K-1", "real"): 44, ("K-2", "real"): 50, ("K-3", "studio"): 9,
        ("K-4", "studio"): 3, ("K-4", "real"): 7, ("K-5", "studio"): 15, ("K-5", "real"): 35,
    }  # fmt: skip
    stats = json.loads((dataset / "integration_stats.json").read_text())
    assert stats["shortfalls"] == plan.shortfalls
    assert {entry["kcode"]: entry["short_of"] for entry in plan.shortfalls} == {
        "K-1": ["ratio"],
        "K-2": ["no studio photo", "ratio"],
        "K-3": ["no real photo", "ratio", "images"],
        "K-4": ["images"],
    }
    assert plan.shortfalls[0]["available"] == {"studio": 6, "real": 100}
    assert plan.shortfalls[0]["used"] == {"studio": 6, "real": 44}


def test_strict_writes_nothing(short):
    dataset, roots = short
    with pytest.raises(
        DataError, match=r"4 of 5 classes fall short .* first K-1 \(short of: ratio\); nothing was written"
    ):
        integrate(dataset, roots, strict=True)
    assert [path.name for path in dataset.iterdir()] == ["class_mapping.json"]


def test_other_settings_are_obeyed(short):
    dataset, roots = short
    plan = plan_integration(dataset, roots, IntegrationSettings(ratio=Ratio(1, 1), min_images=6))
    assert plan.stats["classes"]["K-4"]["used"] == {"studio": 3, "real": 3}
    assert plan.stats["settings"]["ratio"] == "1:1"
    assert [entry["kcode"] for entry in plan.shortfalls] == ["K-2", "K-3"]
    for settings, sentence in (({"min_images": 0}, "min_images is 0"), ({"seed": -1}, "seed is -1")):
        with pytest.raises(ConfigError, match=sentence):
            IntegrationSettings(**settings)


def test_a_class_without_any_photo_is_an_error(short):
    dataset, roots = short
    shutil.rmtree(roots.studio / "K-4")
    shutil.rmtree(roots.real / "K-4")
    with pytest.raises(
        DataError, match=r"1 of 5 classes of class_mapping\.json have no photo .* first K-4; add photos"
    ):
        integrate(dataset, roots)


def test_the_same_bytes_under_two_classes_are_refused_with_both_files(short):
    dataset, roots = short
    shutil.copy(roots.real / "K-1" / "r05_00.jpg", roots.studio / "K-3" / "x_1.jpg")
    with pytest.raises(DataError, match=r"K-3/x_1\.jpg and .*K-1/r05_00\.jpg hold the same bytes under two drugs"):
        integrate(dataset, roots)


def test_the_same_bytes_in_one_class_join_its_captures(mapped, roots):
    shutil.copy(roots.real / "K-000001" / "r05_00.jpg", roots.real / "K-000001" / "r06_99.jpg")
    plan = plan_integration(mapped, roots, IntegrationSettings(min_images=1))
    groups = {row.capture: row.group for row in plan.rows}
    assert groups["real/K-000001/r06"] == groups["real/K-000001/r05"] == "real/K-000001/r05"
    assert plan.stats["byte_identical"] == {"photos": 1, "captures_joined": 1}


def test_seeds_choose_differently_and_runs_equally(mapped, roots):
    def chosen(seed):
        return [row.path for row in plan_integration(mapped, roots, IntegrationSettings(seed=seed)).rows]

    assert chosen(0) == chosen(0)
    assert chosen(0) != chosen(1)


def test_shared_captures_make_one_group_of_a_sitting_over_classes(mapped, roots):
    plan = plan_integration(mapped, roots, IntegrationSettings(shared_captures=True))
    known = [row for row in plan.rows if row.domain == "real"]
    assert len({row.group for row in known}) == 12
    assert {row.kcode for row in known if row.group == "real/r03"} == {f"K-00000{number}" for number in range(1, 5)}


def test_names_without_a_capture_and_skipped_files_are_counted(mapped, roots):
    (roots.real / "K-000001" / "r00_00.jpg").rename(roots.real / "K-000001" / "lonely.jpg")
    (roots.real / "K-7").mkdir()
    (roots.real / "K-000001" / "a.txt").touch()
    stats = plan_integration(mapped, roots).stats
    assert stats["photos_without_capture"] == 1
    assert stats["skipped"]["real"]["unknown_folders"] == ["K-7"]
    assert stats["skipped"]["real"]["counts"] == {"no image by its name": 1}


def test_roots_that_would_be_written_into_or_stand_twice_are_refused(integrated, roots):
    with pytest.raises(DataError, match=r"the others root .*dataset/others lies in .*others, which is written"):
        integrate(integrated, Roots(roots.studio, roots.real, integrated / "others"))
    with pytest.raises(DataError, match=r"the real root and the studio root are the same folder, .*studio"):
        integrate(integrated, Roots(roots.studio, roots.real / ".." / "studio"))


def test_without_a_mapping_the_command_to_run_is_named(tmp_path, roots):
    with pytest.raises(
        DataError, match=r"class_mapping\.json does not exist; run `python -m projects\.pillsnap\.map_clas"
    ):
        integrate(tmp_path / "empty", roots)


def test_rendered_photos_are_told_from_taken_ones(mapped, roots):
    assert plan_integration(mapped, roots).stats["source"] == "real"
    (roots.real.parent / "standin.json").write_text("{}")
    assert plan_integration(mapped, roots).stats["source"] == "stand-in"
